"""`memscale retry SWEEP [RUN]`: let runs that failed be trained again.

A run that diverged keeps its result until then; its folder is moved aside, not removed.
"""

from __future__ import annotations

import argparse

from memscale.cli import arguments
from memscale.launch.states import read_state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's name; without it, every failed or lost run")


def run(given: argparse.Namespace) -> int:
    freed = 0
    for row, folder in arguments.chosen_runs(given.sweep, given.run):
        if read_state(folder).state not in ("failed", "lost"):
            continue
        if folder.result.exists():
            root = folder.root
            number = next(i for i in range(1, 10_000) if not root.with_name(f"{root.name}.{i}").exists())
            root.rename(root.with_name(f"{root.name}.{number}"))
        folder.stop.unlink(missing_ok=True)
        print(f"{row.name} may be trained again")
        freed += 1
    print(f"start them with: make sweep SWEEP={given.sweep}" if freed else "no failed or lost run to try again")
    return 0
