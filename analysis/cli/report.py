"""`python -m analysis report`: figures, a card for machines and one page of a sweep's results table."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli.output import add_json, print_json
from analysis.report import build
from analysis.sweep.study import study
from analysis.tables.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("table", type=Path, metavar="TABLE", help="results table of a sweep, .parquet or .csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--question", default="", help="the question the sweep asks, shown above the answer")
    parser.add_argument("--sweep", default="", help="the sweep's name (default: the table's own)")
    add_json(parser)


def run(chosen: argparse.Namespace) -> int:
    """Write the report and print where it is."""
    done = study(read_results(chosen.table))
    paths = build.write(done, chosen.out, question=chosen.question, sweep=chosen.sweep)
    if chosen.json:
        files = {"report": str(paths.report), "card": str(paths.card), "figures": [str(path) for path in paths.files]}
        print_json({**files, "answer": paths.answer})
    else:
        print(f"{paths.answer}\n{paths.report}")
    return 0
