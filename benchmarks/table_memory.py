"""Training steps on a table larger than the memory that a process may take: where it lies on the device, and in a file.

`python -m benchmarks.table_memory [--json FILE] [--slots N] [--limit-gb G]`. Each placement has a process of its own,
whose private memory the system limits (RLIMIT_DATA: what is allocated, not files that are mapped). 2,048 tokens read
4 x 32 slots of width 256 each, uniformly, and every row read has a first and a second moment. What does not fit says
so; then the same without a limit, on the device, is what the file is compared with.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import machine
from memscale.kernels.embedding_bag import embedding_bag
from memscale.kernels.memory_table import allocate_table
from memscale.kernels.row_adamw import RowAdamW
from memscale.kernels.table_placement import TablePlacement
from memscale.records.atomic import write_json

_TOKENS, _READS, _WIDTH = 2048, 128, 256
_WARM_UP, _ROUNDS = 8, 9


def steps(slots: int, placement: str, folder: Path) -> dict[str, float]:
    """Median seconds of a step, its parts, and the process's private memory at its peak, in bytes."""
    table = allocate_table(TablePlacement(kind=placement, folder=folder), (slots, _WIDTH), torch.float32, "cpu")
    optimizer = RowAdamW({"table": table}, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    taken = []
    for _ in range(_WARM_UP + _ROUNDS):
        slots_TK = torch.randint(slots, (_TOKENS, _READS), generator=generator)
        weights_TK = (torch.rand(_TOKENS, _READS, generator=generator) / _READS).requires_grad_()
        gradient_TV = torch.randn(_TOKENS, _WIDTH, generator=generator)
        begun = time.perf_counter()
        out_TV = embedding_bag(table, slots_TK, weights_TK)
        forward = time.perf_counter()
        torch.autograd.backward([out_TV], [gradient_TV])
        backward = time.perf_counter()
        optimizer.step(1e-3)
        taken.append((forward - begun, backward - forward, time.perf_counter() - backward))
    timed = taken[_WARM_UP:]
    forward_s, backward_s, optimizer_s = (median(part) for part in zip(*timed, strict=True))
    return {
        "forward_s": forward_s,
        "backward_s": backward_s,
        "optimizer_s": optimizer_s,
        "step_s": median(sum(one) for one in timed),
        "private_bytes": _private_bytes(),
    }


def _private_bytes() -> float:
    """What RLIMIT_DATA counts: writable private memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))


def _in_a_process(slots: int, placement: str, limit_bytes: float | None, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.table_memory", "--child", placement, "--slots", str(slots)]

    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit_bytes), int(limit_bytes)))

    done = subprocess.run(
        [*command, "--folder", str(folder)], capture_output=True, encoding="utf-8", preexec_fn=limited, check=False
    )
    row: dict[str, Any] = {"slots": slots, "width": _WIDTH, "placement": placement, "limit_bytes": limit_bytes}
    if done.returncode != 0:
        return {**row, "failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    return {**row, **json.loads(done.stdout)}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table_memory", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--slots", type=int, default=1 << 21)
    parser.add_argument("--limit-gb", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the file lies")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(steps(given.slots, given.child, given.folder)))
        return
    state_gb = given.slots * (3 * _WIDTH * 4 + 8) / 1e9
    print(f"table and moments {state_gb:.3g} GB, private memory limited to {given.limit_gb:.3g} GB")
    rows = []
    for placement, limit in (("device", given.limit_gb), ("file", given.limit_gb), ("device", None)):
        row = _in_a_process(given.slots, placement, None if limit is None else limit * 1e9, given.folder)
        rows.append(row)
        told = row.get("failed") or f"{1e3 * row['step_s']:.0f} ms a step, {row['private_bytes'] / 1e9:.2g} GB private"
        print(f"{placement:7} {'limited' if limit is not None else 'free':8} {told}", flush=True)
    if given.json is not None:
        write_json(given.json, json.loads(json.dumps({"machine": machine.describe(), "rows": rows})), format=1)


if __name__ == "__main__":
    main()
