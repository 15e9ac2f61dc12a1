"""`memscale logs SWEEP RUN`: the log of the run's last attempt, or of all runs that failed."""

from __future__ import annotations

import argparse

from memscale.cli import arguments
from memscale.launch.states import read_state
from memscale.records.attempts import attempt_numbers, log_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="a run's name; without it, every failed, lost or running run"
    )
    parser.add_argument("--lines", type=int, default=40, help="how many of the last lines")


def run(given: argparse.Namespace) -> int:
    shown = 0
    for row, folder in arguments.chosen_runs(given.sweep, given.run):
        if given.run is None and read_state(folder).state not in ("failed", "lost", "running"):
            continue
        numbers = list(attempt_numbers(folder))
        log = log_path(folder, numbers[-1]) if numbers else None
        if log is not None and log.exists():
            print(f"== {row.name}: {log}")
            print("\n".join(log.read_text(errors="replace").splitlines()[-given.lines :]))
            shown += 1
    if not shown:
        print("no log to show" if given.run else "no run failed, was lost or is running; name one to see its log")
    return 0
