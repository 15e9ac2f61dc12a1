"""`python -m memscale.tracking SWEEP_ROOT | --create`: mirror a sweep, or make the store, in a process of its own.

Exit status: 0 mirrored, 1 something is wrong (see standard error), 3 another process was syncing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from memscale.errors import MemscaleError
from memscale.records.access import modes_of
from memscale.records.layout import runs_root
from memscale.tracking.mirror import Synced, sync
from memscale.tracking.output import scrub_output
from memscale.tracking.store import AwayError, ensure_store

_BUSY = 3
_ASK_AGAIN_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Mirror a sweep, or make the store; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m memscale.tracking", description="Mirror run files into MLflow.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("sweep_root", nargs="?", type=Path, help="folder of the sweep to mirror")
    what.add_argument(
        "--create", action="store_true", help="only make the store, beside the runs or where MLflow's URI points"
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait this long for another syncer, and for a server that is away",
    )
    given = parser.parse_args(arguments)
    try:
        with modes_of(runs_root() if given.create else given.sweep_root):
            if given.create:
                ensure_store(runs_root())
                return 0
            synced = _sync(given.sweep_root, given.wait)
    except MemscaleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if synced.held_by is not None:
        sys.stderr.write(f"nothing mirrored: {synced.held_by}\n")
        return _BUSY
    sys.stdout.write(
        f"{given.sweep_root.name}: {synced.num_runs} runs, {synced.num_points} new points in {synced.uri}\n"
    )
    for problem in synced.problems:
        sys.stderr.write(f"damaged: {problem}\n")
    return 1 if synced.problems else 0


def _sync(sweep_root: Path, wait_seconds: float) -> Synced:
    """Mirror; where a server is away, or goes away meanwhile, again until the time is over. Raises MemscaleError."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return sync(sweep_root, wait_seconds=max(deadline - time.monotonic(), 0.0))
        except AwayError:
            if time.monotonic() + _ASK_AGAIN_SECONDS >= deadline:
                raise
            time.sleep(_ASK_AGAIN_SECONDS)


if __name__ == "__main__":
    scrub_output(os.environ.get("MLFLOW_TRACKING_URI", ""))
    sys.exit(main())
