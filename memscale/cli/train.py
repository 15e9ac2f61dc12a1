"""`memscale train RUN_DIRECTORY`: train one planned run here, in the foreground, as a worker would."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from memscale.launch.planned import planned_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("directory", metavar="RUN_DIRECTORY", type=Path, help="runs/<sweep>/<run>-<run_id>")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="auto")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    from memscale.launch.worker import main

    paths, _ = planned_run(given.directory)
    command = [str(paths.root), "--threads", str(given.threads), "--device", given.device]
    return main(command)
