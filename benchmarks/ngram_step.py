"""A training step of a model with n-gram memory against the rows of its tables: addresses and reads cost the same.

`python -m benchmarks.ngram_step [--json FILE]`. One model for each size, taking turns in one process, with uniformly
random tokens, the worst case for the caches. What a step moves of its table does not depend on the rows either: at most
`table_bytes_per_step`, eight passes (docs/memory-layers.md) over the rows that its tokens read.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import machine
from memscale.config.architecture import Architecture
from memscale.config.optimizer import Optimizer
from memscale.config.token_layers import NGram
from memscale.models.transformer import build
from memscale.records.atomic import write_json
from memscale.training.optimizers import build_optimizer

LOG_ROWS = (14, 16, 18, 20, 22, 24)
"""Binary logarithms of the rows of a layer's table."""
_ROUNDS, _WARM_UP = 15, 3
_BATCH, _SEQUENCE = 8, 128
_READS = 8


class Step:
    """One model with its optimizer."""

    def __init__(self, log_rows: int) -> None:
        ngram = NGram(layers=(1,), num_heads=_READS // 2, rows_per_head=2**log_rows // _READS, row_width=32)
        architecture = Architecture(
            family="ngram", d_model=128, num_layers=4, num_heads=4, num_kv_heads=4, head_width=32, ffn_hidden=352,
            vocab_size=8192, ngram=ngram,
        )  # fmt: skip
        self.model = build(architecture, seed=0)
        config = Optimizer(learning_rate=1e-3, table_learning_rate=1e-3)
        self.optimizer = build_optimizer(self.model, config)
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self) -> None:
        """Take one training step on tokens never seen before."""
        tokens = torch.randint(8192, (_BATCH, _SEQUENCE + 1), generator=self._generator)
        output = self.model(tokens[:, :-1])
        F.cross_entropy(output.logits_BSV.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        self.optimizer.clip(1.0)
        self.optimizer.step(1.0)
        self.optimizer.clear_gradients()


def measure() -> dict[str, Any]:
    """Measure a step at every size, and return the JSON content."""
    steps = {log_rows: Step(log_rows) for log_rows in LOG_ROWS}
    taken: dict[int, list[float]] = {log_rows: [] for log_rows in LOG_ROWS}
    for turn in range(_ROUNDS + _WARM_UP):
        for log_rows, step in steps.items():
            begun = time.perf_counter()
            step()
            if turn >= _WARM_UP:
                taken[log_rows].append(time.perf_counter() - begun)
    rows = [
        {"log_rows": log_rows, "step_s": median(times), "spread": [min(times), max(times)]}
        for log_rows, times in taken.items()
    ]
    touched = 8 * 32 * 4 * _BATCH * _SEQUENCE * _READS
    return {"machine": machine.describe(), "table_bytes_per_step": touched, "rows": rows}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ngram_step", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = measure()
    least = done["rows"][0]["step_s"]
    for row in done["rows"]:
        low, high = row["spread"]
        print(
            f"2^{row['log_rows']} rows {1e3 * row['step_s']:6.1f} ms [{1e3 * low:.1f}, {1e3 * high:.1f}]  "
            f"{row['step_s'] / least:.2f} x that of 2^{LOG_ROWS[0]}"
        )
    if given.json is not None:
        write_json(given.json, json.loads(json.dumps(done)), format=1)


if __name__ == "__main__":
    main()
