"""`memscale sweep`: plan, prepare the data, train what is missing, mirror it into MLflow, and write the report."""

from __future__ import annotations

import argparse
import sys

from memscale import api
from memscale.cli import arguments
from memscale.cli.console import StandardOutput
from memscale.cli.plan_page import print_plan
from memscale.cli.status import EXIT_STATUS
from memscale.launch.estimates import refuse_above_limits
from memscale.launch.formatting import duration
from memscale.launch.start import nothing_to_train
from memscale.launch.states import RUNNING

_ASK_SECONDS = 1800.0
_EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask before a long sweep")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    planned = api.plan(given.sweep, given.overrides)
    print_plan(planned)
    if nothing_to_train(planned.planned, planned.estimate.forecast.runs_left):
        print(f"nothing to train; the report is {planned.planned.paths.report}")
        return 0
    refuse_above_limits(planned.plan, planned.estimate)
    if not given.yes and not _agreed(planned.estimate.forecast.seconds):
        print("nothing was started")
        return 1
    outcome = api.run(planned, output=StandardOutput())
    if outcome.stopped == "Ctrl-C":
        return _EXIT_INTERRUPTED
    return 0 if outcome.state == RUNNING else EXIT_STATUS[outcome.state]


def _agreed(seconds: float) -> bool:
    """Ask before a long sweep, where somebody sits at the terminal."""
    if seconds < _ASK_SECONDS or not sys.stdin.isatty():
        return True
    return input(f"Start {duration(seconds)} of training? [y/N] ").strip().lower() in ("y", "yes")
