"""`memscale retry SWEEP [RUN]`: let runs that failed, were lost or are damaged be trained again.

A run that diverged keeps its result until then; its folder is moved aside, not removed. Of a damaged run the damaged
files are set aside, and it goes on from its last good checkpoint.
"""

from __future__ import annotations

import argparse

from memscale import api
from memscale.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="a run's name; without it, every failed, lost or damaged run"
    )


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    freed = api.retry(given.sweep, given.run)
    for name in freed:
        print(f"{name} may be trained again")
    print(
        f"start them with: make sweep SWEEP={given.sweep}" if freed else "no failed, lost or damaged run to try again"
    )
    return 0
