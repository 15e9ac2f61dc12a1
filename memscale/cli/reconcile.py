"""`memscale reconcile SWEEP`: take the next step of a sweep on SLURM by hand, as its controller jobs do.

Observes every run, records how attempts ended, submits what has to be trained, opens the next stage, and when all have
ended mirrors the runs into MLflow and builds the report. Safe at any time, from anywhere, any number of times.
Exit status: 0 all done, 3 running, 4 a person is needed.
"""

from __future__ import annotations

import argparse

from memscale import api
from memscale.cli import arguments
from memscale.cli.console import StandardOutput
from memscale.cli.status import EXIT_STATUS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = __doc__
    arguments.add_sweep(parser)
    parser.add_argument("--follow", action="store_true", help="go on until every run has ended")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    outcome = api.reconcile(given.sweep, to_the_end=given.follow, output=StandardOutput())
    return EXIT_STATUS[outcome.state]
