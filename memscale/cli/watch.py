"""`memscale watch`: the status, renewed every two seconds until nothing runs any more."""

from __future__ import annotations

import argparse
import sys
import time

from memscale import api
from memscale.cli import arguments
from memscale.cli.status import EXIT_STATUS, print_status
from memscale.launch.states import RUNNING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    parser.add_argument("--seconds", type=float, default=2.0, help="between two looks")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    while True:
        seen = api.status(given.sweep)
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print_status(seen)
        if seen.state != RUNNING:
            return EXIT_STATUS[seen.state]
        time.sleep(given.seconds)
