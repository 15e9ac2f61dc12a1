"""Ten thousand runs on SLURM: how long their launch and a look at them take, with stand-ins for SLURM's commands.

`python -m benchmarks.slurm_scale [--json FILE] [--seeds 3334]`. Timed are whole commands as a person types them, their
start included: `memscale sweep` (a plan of three runs a seed, a file each, arrays of 1,001), and `memscale status`
while all are queued, and once all are done: the first look, and the next. `peak_bytes` is of the command's process.
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

import pytest

from benchmarks import machine
from memscale.records.atomic import write_json
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.submissions import submissions
from tests.launch.fake_slurm import FakeSlurm
from tests.sweeps import NAME, ROOT, environment, small_sweep, write_text

_LOOKS = 5


def timed(runs: Path, *arguments: str) -> dict[str, Any]:
    """Run a verb; its seconds, memory and sizes."""
    command = [sys.executable, "-m", "memscale.cli.main", *arguments]
    begun = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(runs), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode not in (0, 3):
        raise SystemExit(f"{command} ended with {process.returncode}:\n{said.decode()[-3000:]}")
    return {"seconds": seconds, "peak_bytes": used.ru_maxrss * 1024, "said": said.decode()}


def looks(runs: Path, what: str) -> dict[str, Any]:
    """The first look, and the median of those after it."""
    first, *rest = [timed(runs, "status", NAME, "--json") for _ in range(1 + _LOOKS)]
    counts = json.loads(first["said"])["counts"]
    warm = median(look["seconds"] for look in rest)
    print(f"status, all {what}: {first['seconds']:.3g} s, then {warm:.3g} s, {first['peak_bytes'] / 2**20:.0f} MiB")
    return {"counts": counts, "cold_s": first["seconds"], "warm_s": warm, "peak_bytes": first["peak_bytes"]}


def finish(paths: SweepPaths) -> None:
    """Give every run the files of one that is done."""
    for submission in submissions(paths):
        for i, name in enumerate(submission.runs):
            run = RunPaths(paths.root / name)
            attempt = run.attempt(1)
            attempt.mkdir(parents=True)
            told = {"format": 1, "started": 1.0, "host": "n1", "pid": 1, "job_id": submission.job_id(i)}
            (attempt / "submission.json").write_text(json.dumps(told), encoding="utf-8")
            run.result.write_text(
                json.dumps({"format": 1, "status": "done", "losses": {}, "padding": "x" * 3000}), encoding="utf-8"
            )


def measure(seeds: int) -> dict[str, Any]:
    """Measure, and return the JSON content."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as given, pytest.MonkeyPatch.context() as patch:
        folder = Path(given)
        paths = SweepPaths(folder / "runs" / NAME)
        usual = os.environ["PATH"]
        slurm = FakeSlurm(folder / "bin", patch)
        patch.setenv("PATH", f"{slurm.folder}{os.pathsep}{usual}")
        numbers = ",".join(str(2000 + i) for i in range(seeds))
        more = ("launcher=slurm", "scale=laptop", "recipe=berges2024", "--yes")
        text = write_text(folder)
        launch = timed(
            paths.root.parent, "sweep", NAME, *small_sweep(text, flops="[2e9]", seeds=f"[{numbers}]", more=more)
        )
        sent = list(submissions(paths))
        num_runs, num_calls = sum(len(one.runs) for one in sent), len(slurm.calls("sbatch"))
        print(f"launch of {num_runs:,} runs: {launch['seconds']:.3g} s, {num_calls} calls of sbatch")
        queue = [f"{one.array}|{i}|PENDING||{one.name}|Priority" for one in sent for i in range(len(one.runs))]
        slurm.say({"squeue": "\n".join(queue)})
        queued = looks(paths.root.parent, "queued")
        finish(paths)
        slurm.say({"squeue": ""})
        done = looks(paths.root.parent, "done")
    kept = {"runs": num_runs, "launch_s": launch["seconds"], "sbatch_calls": num_calls}
    return {
        "machine": machine.describe(),
        **kept,
        "launch_peak_bytes": launch["peak_bytes"],
        "queued": queued,
        "done": done,
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm_scale", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--seeds", type=int, default=3334)
    given = parser.parse_args()
    done = measure(given.seeds)
    if given.json is not None:
        write_json(given.json, done, format=1)


if __name__ == "__main__":
    main()
