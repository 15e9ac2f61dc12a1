"""`python -m analysis report`: figures, a card for machines and one page of a sweep's results table."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli.output import add_json, print_json
from analysis.cli.table_options import NONE
from analysis.errors import FitError
from analysis.inference.sequential import levels
from analysis.report import build
from analysis.sweep.study import study
from analysis.tables import looks, planned_resolution
from analysis.tables.looks import Looks, read_looks
from analysis.tables.planned_resolution import read_resolution
from analysis.tables.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("table", type=Path, metavar="TABLE", help="results table of a sweep, .parquet or .csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--question", default="", help="the question the sweep asks, shown above the answer")
    parser.add_argument("--sweep", default="", help="the sweep's name (default: the table's own)")
    parser.add_argument("--measure", metavar="COL", help="column of what the question is about (default: bits stored,"
                        " else recall, else loss)")  # fmt: skip
    parser.add_argument(
        "--looks", metavar="SEEDS", help="numbers of seeds at which the comparison was read, this reading last, as 2,4"
        " (default: looks.json beside the table, where there is one; or none: the table is read once)",
    )  # fmt: skip
    add_json(parser)


def run(chosen: argparse.Namespace) -> int:
    """Write the report and print where it is."""
    beside = chosen.table.parent
    done = study(
        read_results(chosen.table),
        measure=chosen.measure,
        looks=_looks(chosen.looks, beside / looks.NAME),
        resolution=read_resolution(beside / planned_resolution.NAME),
    )
    paths = build.write(done, chosen.out, question=chosen.question, sweep=chosen.sweep)
    if chosen.json:
        files = {"report": str(paths.report), "card": str(paths.card), "figures": [str(path) for path in paths.files]}
        print_json({**files, "answer": paths.answer})
    else:
        print(f"{paths.answer}\n{paths.report}")
    return 0


def _looks(given: str | None, path: Path) -> Looks | None:
    """The readings that --looks names, or those of the file. Raises FitError."""
    if given is None:
        return read_looks(path)
    if given == NONE:
        return None
    try:
        counts = tuple(int(text) for text in given.split(","))
    except ValueError:
        raise FitError(f"--looks {given}: give numbers of seeds, such as 2,4; or {NONE}") from None
    levels(counts)  # refuses what is no sequence of readings
    return Looks(num_seeds=counts)
