"""`python -m analysis gain`: what a family or series of a sweep gains over the others at equal compute."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis import card
from analysis.answer import of_families
from analysis.cli.output import add_json, print_json, print_warnings
from analysis.errors import FitError
from analysis.study import study
from analysis.table import read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE", help="results table of a sweep, .parquet or .csv")
    parser.add_argument("--of", metavar="SERIES", help="a family or a series (default: the memory family)")
    parser.add_argument("--over", metavar="SERIES", help="the one it is compared with (default: moe and dense)")
    add_json(parser)


def run(chosen: argparse.Namespace) -> int:
    done = study(read(chosen.table), subject=chosen.of, baseline=chosen.over)
    if not done.pairs:
        raise FitError(f"nothing to compare: done runs of {', '.join(done.results.compare.labels)} only")
    if chosen.json:
        print_json(
            {
                "table": str(done.results.path),
                "comparisons": [card.comparison_card(one) for one in done.comparisons],
                "multipliers": [card.multiplier_card(one) for one in done.multipliers],
                "warnings": list(done.warnings),
            }
        )
        return 0
    answer = of_families(done)
    print("\n".join([answer.sentence, *answer.details]))
    print_warnings(done.warnings)
    return 0
