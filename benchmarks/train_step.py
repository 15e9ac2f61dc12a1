"""A whole training step of every family at laptop scale, side by side, at equal FLOPs per token.

`python -m benchmarks.train_step [--json FILE]`. The floor is the model's FLOPs over the machine's rate for a large
matrix product. The families take turns in one process, so that a drift of the machine's speed hits all alike.
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
from memscale.config.optimizer import Optimizer
from memscale.launch.planned import plan_sweep
from memscale.models.transformer import build
from memscale.planning.plan import PlannedRun
from memscale.records.atomic import write_json
from memscale.training.optimizers import build_optimizer

_OTHERS = tuple(f"+family@families.{family}={family}" for family in ("pkm", "memory", "peer", "looped"))
_ROUNDS = 15
_WARM_UP = 3


class Step:
    """One model with its optimizer and a batch of the sweep's size."""

    def __init__(self, planned: PlannedRun, batch_tokens: int, sequence_length: int) -> None:
        self.model = build(planned.architecture, seed=0)
        table_rate = 1e-3 if planned.architecture.has_table else None
        self.config = Optimizer(learning_rate=1e-3, table_learning_rate=table_rate)
        self.optimizer = build_optimizer(self.model, self.config)
        shape = (batch_tokens // sequence_length, sequence_length + 1)
        self.tokens = torch.randint(
            0, planned.architecture.vocab_size, shape, generator=torch.Generator().manual_seed(0)
        )

    def __call__(self) -> None:
        """Take one training step."""
        output = self.model(self.tokens[:, :-1])
        loss = F.cross_entropy(output.logits_BSV.flatten(0, 1), self.tokens[:, 1:].flatten()) + output.auxiliary_loss
        loss.backward()
        self.optimizer.clip(self.config.clip_norm)
        self.optimizer.step(1.0)
        self.optimizer.clear_gradients()


def measure() -> dict[str, Any]:
    """Measure a step of every family, and return the JSON content."""
    plan = plan_sweep("memory_vs_moe", ["scale=laptop", "launcher=local", *_OTHERS]).plan
    scale = plan.sweep.scale
    compared = [run for run in plan.stage("compare") if run.seed == scale.seeds[0]]
    steps = {run.name: Step(run, scale.batch_tokens, scale.sequence_length) for run in compared}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(_ROUNDS + _WARM_UP):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if turn >= _WARM_UP:
                taken[name].append(time.perf_counter() - begun)
    rate = machine.matmul_flops_per_second()
    rows = []
    for run in compared:
        step_seconds = median(taken[run.name])
        flops = run.flops_train / run.tokens * scale.batch_tokens
        rows.append(
            {
                "run": run.name,
                "family": run.family,
                "budget_flops": run.budget_flops,
                "params_total": run.counts.params_total,
                "step_s": step_seconds,
                "spread": [min(taken[run.name]), max(taken[run.name])],
                "tokens_per_second": scale.batch_tokens / step_seconds,
                "flops_per_second": flops / step_seconds,
                "floor_s": flops / rate,
            }
        )
    return {"machine": machine.describe(), "matmul_flops_per_s": rate, "rows": rows}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    done = measure()
    print(f"{done['machine']['processor']}, {given.threads} thread(s), {done['matmul_flops_per_s'] / 1e9:.3g} GFLOP/s")
    for row in done["rows"]:
        low, high = row["spread"]
        print(
            f"{row['run']:28} {1e3 * row['step_s']:6.1f} ms [{1e3 * low:.1f}, {1e3 * high:.1f}]  "
            f"{row['tokens_per_second'] / 1e3:5.3g}k tok/s  {row['step_s'] / row['floor_s']:.2g} x the floor"
        )
    if given.json is not None:
        write_json(given.json, json.loads(json.dumps(done)), format=1)


if __name__ == "__main__":
    main()
