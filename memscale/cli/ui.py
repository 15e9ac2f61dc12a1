"""`memscale ui SWEEP`: bring MLflow up to date and open its page."""

from __future__ import annotations

import argparse

from memscale.cli import arguments
from memscale.launch.planned import launched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    parser.add_argument("--port", type=int, default=5000)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    from memscale.tracking.ui import open_ui

    paths, _ = launched(given.sweep)
    return open_ui(paths.root, port=given.port)
