"""How long a large plan takes, through the whole command, and how much memory.

`python -m benchmarks.plan [--json FILE]`. Two kinds: few shapes with many seeds, and many dense shapes, each of which
is matched anew. The rates follow a rule, so that every run has its identity at once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from memscale.records.atomic import write_json

_RULE = ("recipe.learning_rate={rule: steplaw}", "recipe.learning_rate.allow_outside=true")
_CHILD = (
    "import sys\nfrom memscale.cli.main import main\nstatus = main(sys.argv[1:])\n"
    "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print('torch' in sys.modules, peak, file=sys.stderr)\nsys.exit(status)"
)


def many_seeds(runs: int) -> list[str]:
    """Three families, three budgets."""
    return [f"scale.seeds=[{','.join(str(2000 + seed) for seed in range(runs // 9))}]", "scale=laptop"]


def many_shapes(runs: int) -> list[str]:
    """A ladder of dense shapes, each matched anew; three families and thirty seeds."""
    widths = ",".join(str(256 + 8 * number) for number in range(runs // 90))
    shapes = "shapes: {head_width: 8, width_per_layer: 64}"
    ladder = f"{{d_models: [{widths}], tokens_per_parameter: 20, {shapes}}}"
    return ["scale=node", "scale.budgets=[]", f"scale.ladders=[{ladder}]", f"scale.seeds={list(range(30))}"]


def measure(repeats: int) -> dict[str, Any]:
    """Measure the plans, and return the JSON content."""
    rows = []
    for kind in (many_seeds, many_shapes):
        for runs in (10_000, 100_000):
            rows.append(_row(kind.__name__, runs, kind(runs), repeats))
            print(_line(rows[-1]), flush=True)
    return {"machine": machine.describe(), "rows": rows}


def _row(kind: str, runs: int, overrides: list[str], repeats: int) -> dict[str, Any]:
    seconds, processor, peaks = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _CHILD, "plan", "memory_vs_moe", "launcher=local", *overrides, *_RULE]
        for _ in range(repeats):
            begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", check=True, env={**os.environ, "MEMSCALE_RUNS": folder}
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(time.perf_counter() - begun)
            processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            has_torch, peak = done.stderr.split()[-2:]
            assert has_torch == "False", "planning imported torch"
            peaks.append(int(peak) * 1024)
    return {
        "kind": kind,
        "runs": runs,
        "seconds": median(seconds),
        "spread": [min(seconds), max(seconds)],
        "processor_seconds": median(processor),
        "peak_bytes": max(peaks),
    }


def _line(row: dict[str, Any]) -> str:
    low, high = row["spread"]
    return (
        f"{row['runs']:7,} runs, {row['kind']:11}  {row['seconds']:6.2f} s [{low:.2f}, {high:.2f}]  "
        f"{row['peak_bytes'] / 1e6:5.0f} MB"
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    done = measure(given.repeats)
    if given.json is not None:
        write_json(given.json, json.loads(json.dumps(done)), format=1)


if __name__ == "__main__":
    main()
