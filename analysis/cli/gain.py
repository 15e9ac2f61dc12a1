"""`python -m analysis gain`: what one family gains over another, from a sweep's results or from any table."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from analysis.cli import table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.errors import FitError, TableError
from analysis.gains import AXES, gains_of
from analysis.gains.card import gains_card
from analysis.report import study_json
from analysis.report.headline import of_families
from analysis.sweep.study import study
from analysis.tables.results import read_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    parser.add_argument("--of", metavar="NAME", help="a family or series (of a sweep: the memory family by default)")
    parser.add_argument("--over", metavar="NAME", help="what it is compared with (of a sweep: moe and dense)")
    parser.add_argument("--family", metavar="COL", help="of any table: the column that names the family")
    parser.add_argument("--at", metavar="X,...", help="FLOPs (or parameters) at which multipliers are read")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="of any table: draw the gains into this folder")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    """Print or write the gain."""
    if chosen.family is None:
        return _of_a_sweep(chosen)
    if chosen.of is None or chosen.over is None:
        raise FitError("say which families: --of NAME --over NAME")
    frame, observed = table_options.frame_and_observations(chosen, family=chosen.family)
    axes = [axis for axis in AXES if axis in observed.columns]
    if not axes:
        raise TableError("a gain is along compute or parameters: give --flops COL, --params COL, or both")
    places = _places(chosen.at)
    found = [
        gains_of(
            observed,
            frame,
            of=chosen.of,
            over=chosen.over,
            family=chosen.family,
            axis=axis,
            at=places if axis == axes[0] else (),
            seed_column=None if chosen.seed_column == table_options.NONE else chosen.seed_column,
        )
        for axis in axes
    ]
    content = gains_card(found)
    made: list[Path] = []
    if chosen.figures is not None:
        from analysis.figures import gains as gains_figures  # matplotlib takes most of the start

        made += gains_figures.write(found, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        made.append(write_json(Path(chosen.json), content))
    for one in found:
        print(one.summary())
    print("".join(f"{path}\n" for path in made), end="")
    return 0


def _places(given: str | None) -> list[float]:
    if given is None:
        return []
    try:
        found = [float(text) for text in given.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(x) and x > 0 for x in found):
        raise FitError(f"--at {given}: give numbers above 0, such as 1e21,1e22")
    return found


def _of_a_sweep(chosen: argparse.Namespace) -> int:
    if chosen.loss is not None:
        raise FitError("columns are mapped but no family: give --family COL, the column that names the family")
    if chosen.table is None:
        raise TableError("no TABLE is given; give the results table of a sweep, or any table with --family COL")
    if chosen.at is not None:
        raise FitError("--at reads a multiplier of any table: give --family COL with it")
    if chosen.figures is not None:
        print("--figures draws the gains of any table (--family COL); a sweep's are those of `report`", file=sys.stderr)
    try:
        results = read_results(Path(chosen.table))
    except TableError as error:
        raise TableError(
            f"{error} (Without --family COL the table is read as the results of a sweep; of any other table say"
            " --family COL --of NAME --over NAME --flops COL)"
        ) from error
    done = study(results, subject=chosen.of, baseline=chosen.over)
    if not done.pairs:
        raise FitError(f"nothing to compare: done runs of {', '.join(done.results.compare.labels)} only")
    content: dict[str, Any] = study_json.gains_of_study(done)
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        write_json(Path(chosen.json), content)
    answer = of_families(done)
    print("\n".join([answer.sentence, *answer.resolution, *answer.details]))
    print_warnings(done.warnings)
    return 0
