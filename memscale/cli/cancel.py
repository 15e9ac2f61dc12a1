"""`memscale cancel SWEEP [RUN]`: ask a sweep, or one run, to stop at the next step with a checkpoint."""

from __future__ import annotations

import argparse

from memscale import api
from memscale.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's name; without it, the whole sweep")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    asked, again = api.cancel(given.sweep, given.run), f"make sweep SWEEP={given.sweep}"
    if given.run is not None:
        text = f"{given.run} is asked to stop, and stays so until the next: {again}"
        print(text if asked else f"{given.run} was never started; nothing to cancel")
    elif asked:
        print(f"{given.sweep} is asked to stop; its runs keep their checkpoints. Go on with: {again}")
    else:
        print(f"no launcher of {given.sweep} is at work; nothing to cancel")
    return 0
