"""`python -m analysis findings`: the page of findings from its tables, or whether the page is what its tables give."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.findings import build
from analysis.findings.gather import gather
from analysis.findings.registry import FINDINGS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument(
        "--docs", metavar="DIR", type=Path, default=Path("docs"), help="folder of the page (default: docs)"
    )
    parser.add_argument(
        "--gather", metavar="RUNS", type=Path, action="append", default=[],
        help="first bring the results of finished sweeps from this runs folder; repeatable: repeats, in this order",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 2 where the page is another")


def run(chosen: argparse.Namespace) -> int:
    """Gather, make, write or check, and say which findings have no table."""
    folder = chosen.docs / build.TABLES
    gathered = gather(chosen.gather, [finding.sweep for finding in FINDINGS], folder) if chosen.gather else []
    found = build.findings(chosen.docs)
    if chosen.check:
        build.check(found, chosen.docs)
        print(f"{chosen.docs / build.PAGE} is what its tables give")
    else:
        print("".join(f"{path}\n" for path in [*gathered, *build.write(found, chosen.docs)]), end="")
    if found.absent:
        print(f"without an answer: {', '.join(found.absent)}")
    return 0
