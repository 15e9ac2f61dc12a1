"""`memscale cancel SWEEP [RUN]`: ask a sweep, or one run, to stop at the next step with a checkpoint."""

from __future__ import annotations

import argparse

from memscale.cli import arguments
from memscale.records.atomic import write_bytes
from memscale.records.lease import is_held


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's name; without it, the whole sweep")


def run(given: argparse.Namespace) -> int:
    paths, _ = arguments.launched(given.sweep)
    if given.run is None:
        if not is_held(paths.lock):
            print(f"no launcher of {given.sweep} is at work; nothing to cancel")
            return 0
        write_bytes(paths.cancel, b"")
        print(
            f"{given.sweep} is asked to stop; its runs keep their checkpoints. "
            f"Go on with: make sweep SWEEP={given.sweep}"
        )
        return 0
    for row, folder in arguments.chosen_runs(given.sweep, given.run):
        write_bytes(folder.stop, b"")
        print(f"{row.name} is asked to stop, and stays so until the next: make sweep SWEEP={given.sweep}")
    return 0
