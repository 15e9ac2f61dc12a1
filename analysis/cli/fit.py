"""`python -m analysis fit`: a law on any table of runs, or without a law each series of a sweep's results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.allocation import parametric
from analysis.cli import fit_options, series_laws, table_options
from analysis.cli.output import TERMINAL, print_json, write_json
from analysis.errors import FitError, TableError
from analysis.fitting import Fit, fit
from analysis.laws.registry import law_named
from analysis.report import fit_json
from analysis.tables import Observations

_AHEAD = 10.0
"""The last split shown is of so many times the greatest FLOPs at hand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    table_options.add_table(parser)
    fit_options.add_fit(parser)
    parser.add_argument(
        "--law",
        metavar="LAW",
        help="such as chinchilla (any other word lists them all). Without it: a sweep's series, each loss against"
        " compute",
    )
    parser.add_argument("--flops-at", metavar="C,...", help="FLOPs whose optimum is given (default: by the table)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write the fit card (without FILE:"
                        " print it instead of words)")  # fmt: skip
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw the fit into this folder")
    parser.add_argument("--against", choices=("flops", "seconds"), default="flops", help="without a law: what is spent")


def run(chosen: argparse.Namespace) -> int:
    """Fit, write, print."""
    if chosen.law is None:
        return _run_series(chosen)
    law = law_named(chosen.law)
    points = table_options.observations(chosen, reads={column.name for column in law.columns})
    found = fit(points, law, **fit_options.choices(chosen))
    allocations, none_because = _allocations(found, points, chosen.flops_at)
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), fit_json.as_json(found, points, allocations)))
    if chosen.figures is not None:
        from analysis.figures import fit as fit_figures  # matplotlib takes most of the start

        made += fit_figures.write(found, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(fit_json.as_json(found, points, allocations))
    else:
        print(fit_json.as_text(found, allocations, none_because))
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def _allocations(found: Fit, points: Observations, asked: str | None) -> tuple[tuple[parametric.Allocation, ...], str]:
    """Allocations at the requested FLOPs, else at the smallest, the largest, and ten times the largest of the table.

    With the reason where a law of N and D has none. Raises FitError where they were requested.
    """
    if asked is None:
        if not parametric.allocates(found):
            return (), ""
        at_hand = points.columns.get("C", 6.0 * points.columns["N"] * points.columns["D"])
        least, most = float(at_hand.min()), float(at_hand.max())
        try:
            return parametric.compute_optimal_allocation(found, [least, most, _AHEAD * most]), ""
        except FitError as error:
            return (), str(error)  # the fit is still an answer
    try:
        flops = [float(one) for one in asked.split(",")]
    except ValueError:
        raise FitError(f"--flops-at {asked}: give numbers, such as 1e21,1e22") from None
    return parametric.compute_optimal_allocation(found, flops), ""


def _run_series(chosen: argparse.Namespace) -> int:
    if chosen.loss is not None or chosen.params is not None:
        raise FitError("columns are mapped but no law is named: give --law LAW, such as --law chinchilla")
    if chosen.table is None:
        raise TableError("no TABLE is given; give the results table of a sweep, or any table with --law LAW")
    results, curves = series_laws.fit_series(Path(chosen.table), chosen.against)
    content = series_laws.as_card(results, curves)
    if chosen.figures is not None:
        print("--figures draws a fit with --law; a sweep's figures are those of `report`", file=sys.stderr)
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        write_json(Path(chosen.json), content)
    series_laws.show(curves)
    return 0
