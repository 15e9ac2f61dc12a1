"""`python -m analysis fit`: a law on any table of runs, or without a law each series of a sweep's results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from analysis.allocation import parametric
from analysis.cli import series_laws, table_options
from analysis.cli.output import TERMINAL, print_json, write_json
from analysis.errors import FitError, TableError
from analysis.fitting import OBJECTIVES, Fit, fit_law
from analysis.laws.law import Law
from analysis.laws.registry import law_named
from analysis.report import fit_json
from analysis.solver.objective import DEFAULT_DELTA
from analysis.tables import Observations
from analysis.tables.observations import FloatArray

_AHEAD = 10.0
"""The last split shown is of so many times the greatest FLOPs at hand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table_options.add_table(parser)
    add_law(parser)
    parser.add_argument(
        "--law",
        metavar="LAW",
        help="such as chinchilla (any other word lists them all). Without it: a sweep's series, each loss against"
        " compute",
    )
    parser.add_argument("--flops-at", metavar="C,...", help="FLOPs whose best split is given (default: by the table)")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write the fit card (without FILE:"
                        " print it instead of words)")  # fmt: skip
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw the fit into this folder")
    parser.add_argument("--against", choices=("flops", "seconds"), default="flops", help="without a law: what is spent")


def add_law(parser: argparse.ArgumentParser) -> None:
    """How a law is fitted; read by `fitted`."""
    law = parser.add_argument_group("the fit")
    law.add_argument("--objective", choices=tuple(OBJECTIVES), default="log_huber", help="default log_huber")
    law.add_argument("--delta", type=float, metavar="D", help=f"of a Huber objective (default {DEFAULT_DELTA:g})")
    law.add_argument("--fix", metavar="NAME=VALUE", action="append", default=[], help="hold a parameter at a value")
    law.add_argument("--bootstrap", type=int, metavar="B", default=0, help="refits for the intervals, such as 4000")
    law.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")


def run(chosen: argparse.Namespace) -> int:
    if chosen.law is None:
        return _run_series(chosen)
    law = law_named(chosen.law)
    points = table_options.observations(chosen, reads={column.name for column in law.columns})
    found = fitted(law, points, chosen)
    splits = _splits(found, points, chosen.flops_at)
    made: list[Path] = []
    if chosen.json not in (None, TERMINAL):
        made.append(write_json(Path(chosen.json), fit_json.as_json(found, points, splits)))
    if chosen.figures is not None:
        from analysis.figures import fit  # matplotlib takes most of the start

        made += fit.write(found, chosen.figures)
    if chosen.json == TERMINAL:
        print_json(fit_json.as_json(found, points, splits))
    else:
        print(fit_json.as_text(found, points, splits))
        print("".join(f"{path}\n" for path in made), end="")
    return 0


def fitted(law: Law, points: Observations, chosen: argparse.Namespace) -> Fit:
    """The law on the points, as `add_law` was answered. Raises FitError."""
    return fit_law(
        law,
        columns_for(law, points),
        points.loss,
        objective=chosen.objective,
        delta=chosen.delta,
        fixed=_fixed(chosen.fix),
        bootstrap=chosen.bootstrap,
        cluster=chosen.cluster,
        clusters=points.cluster,
        seed=chosen.seed,
    )


def columns_for(law: Law, points: Observations) -> dict[str, FloatArray]:
    """The columns that the law reads; tokens per parameter M and a lone x follow from those that are mapped."""
    columns = dict(points.columns)
    needed = {column.name for column in law.columns}
    if "M" in needed and "M" not in columns and {"N", "D"} <= set(columns):
        columns["M"] = columns["D"] / columns["N"]
    if "x" in needed and "x" not in columns and len(columns) == 1:
        columns["x"] = next(iter(columns.values()))
    missing = sorted(needed - set(columns))
    if missing:
        options = {"N": "--params COL", "D": "--tokens COL (or --flops COL --tokens-from-flops)", "C": "--flops COL"}
        how = ", ".join(options.get(name, f"--factor {name}=COL") for name in missing)
        meanings = "; ".join(f"{column.name}: {column.meaning}" for column in law.columns if column.name in missing)
        raise FitError(f"law {law.name} ({law.formula}) reads columns that are not mapped ({meanings}): give {how}")
    return {name: values for name, values in columns.items() if name in needed}


def _fixed(given: list[str]) -> dict[str, float]:
    fixed = {}
    for one in given:
        name, equals, value = one.partition("=")
        try:
            fixed[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name or not np.isfinite(fixed[name]):
            raise FitError(f"--fix {one}: write it as NAME=NUMBER, such as --fix E=1.8")
    return fixed


def _splits(found: Fit, points: Observations, asked: str | None) -> tuple[parametric.Split, ...]:
    """Of the FLOPs asked for, else of the least, the greatest, and ten times the greatest at hand."""
    if asked is None:
        if not parametric.allocates(found):
            return ()
        at_hand = points.columns.get("C", 6.0 * points.columns["N"] * points.columns["D"])
        least, most = float(at_hand.min()), float(at_hand.max())
        try:
            return parametric.splits(found, [least, most, _AHEAD * most])
        except FitError:
            return ()  # nobody asked for it, and this law has none
    try:
        flops = [float(one) for one in asked.split(",")]
    except ValueError:
        raise FitError(f"--flops-at {asked}: give numbers, such as 1e21,1e22") from None
    return parametric.splits(found, flops)


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
