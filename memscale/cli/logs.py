"""`memscale logs SWEEP RUN`: what the run's last attempt wrote, or all that failed.

On SLURM also the output of its last job: the start of the job, before the attempt had a log, and SLURM's messages.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from memscale.cli import arguments
from memscale.launch.planned import chosen_runs, sweep_paths
from memscale.launch.slurm.arrays import job_outputs
from memscale.launch.states import read_state
from memscale.records.attempts import attempt_numbers, log_path
from memscale.records.layout import RunPaths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="a run's name; without it, every failed, lost or running run"
    )
    parser.add_argument("--lines", type=int, default=40, help="how many of the last lines")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    shown = 0
    outputs = job_outputs(sweep_paths(given.sweep))
    for row, folder in chosen_runs(given.sweep, given.run):
        if given.run is None and read_state(folder).state not in ("damaged", "failed", "lost", "running"):
            continue
        for log in _logs(folder, outputs):
            print(f"== {row.name}: {log}")
            print(_end(log, given.lines))
            shown += 1
    if not shown:
        print("no log to show" if given.run else "no run failed, was lost or is running; name one to see its log")
    return 0


def _logs(folder: RunPaths, outputs: Mapping[str, Path]) -> list[Path]:
    numbers = list(attempt_numbers(folder))
    files = [outputs.get(folder.root.name), log_path(folder, numbers[-1]) if numbers else None]
    return [file for file in files if file is not None and file.exists()]


def _end(log: Path, num_lines: int) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
