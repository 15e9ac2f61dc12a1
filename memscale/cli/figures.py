"""`memscale figures`: the results table, the figures and the report, rebuilt from the files of the runs."""

from __future__ import annotations

import argparse

from memscale import api
from memscale.cli import arguments
from memscale.launch.finish import report_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_sweep(parser)
    arguments.add_out(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    print("\n".join(report_lines(api.report(given.sweep, given.out))))
    return 0
