"""`memscale watch`: the status, renewed every two seconds until nothing runs any more."""

from __future__ import annotations

import argparse
import sys
import time

from memscale.cli import arguments
from memscale.cli.status import EXIT_RUNNING, exit_status, print_status
from memscale.launch.overview import overview


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    parser.add_argument("--seconds", type=float, default=2.0, help="between two looks")


def run(given: argparse.Namespace) -> int:
    while True:
        paths, plan = arguments.launched(given.sweep)
        seen = overview(paths, plan)
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print_status(plan, seen)
        status = exit_status(seen)
        if status != EXIT_RUNNING:
            return status
        time.sleep(given.seconds)
