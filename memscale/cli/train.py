"""`memscale train RUN_DIRECTORY`: train one planned run here, in the foreground, as a worker would."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from memscale.launch.planned import planned_run
from memscale.records.layout import SweepPaths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("directory", metavar="RUN_DIRECTORY", type=Path, help="runs/<sweep>/<run>-<run_id>")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="auto")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    from memscale.launch.worker import main

    paths, plan = planned_run(given.directory)
    data = SweepPaths(paths.root.parent).data(plan.data_folder)
    command = [str(paths.root), "--data", str(data), "--threads", str(given.threads), "--device", given.device]
    return main(command)
