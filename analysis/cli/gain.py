"""`python -m analysis gain`: what one family gains over another, from a sweep's results or from any table."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from analysis import formatting
from analysis.cli import table_options
from analysis.cli.output import TERMINAL, print_json, print_warnings, write_json
from analysis.errors import FitError, TableError
from analysis.fitting import OBJECTIVES
from analysis.gains.multipliers import Family, Gain, Gains, gains
from analysis.report import study_json
from analysis.report.headline import of_families
from analysis.sweep.study import study
from analysis.tables import Observations
from analysis.tables.results import read_results

AXES = {"C": "FLOPs", "N": "parameters"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table_options.add_table(parser)
    parser.add_argument("--of", metavar="NAME", help="a family or series (of a sweep: the memory family by default)")
    parser.add_argument("--over", metavar="NAME", help="what it is compared with (of a sweep: moe and dense)")
    parser.add_argument("--family", metavar="COL", help="of any table: the column that names the family")
    parser.add_argument("--at", metavar="X,...", help="FLOPs (or parameters) at which gains are read off")
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), default="log_lsq", help="default log_lsq")
    parser.add_argument("--bootstrap", type=int, metavar="B", default=2000, help="refits (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="of any table: draw the gains into this folder")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")


def run(chosen: argparse.Namespace) -> int:
    if chosen.family is None:
        return _of_a_sweep(chosen)
    if chosen.of is None or chosen.over is None:
        raise FitError("say which families: --of NAME --over NAME")
    ours, theirs = (_points_of(chosen, name) for name in (chosen.of, chosen.over))
    axes = [axis for axis in AXES if axis in ours.columns]
    if not axes:
        raise TableError("a gain is along compute or parameters: give --flops COL, --params COL, or both")
    found = [
        gains(
            _family(ours, chosen.of, axis),
            _family(theirs, chosen.over, axis),
            axis,
            at=_at(chosen.at) if axis == axes[0] else (),
            objective=chosen.objective,
            num_replicates=chosen.bootstrap,
            seed=chosen.seed,
        )
        for axis in axes
    ]
    warnings = [f"{name}: {text}" for name, one in ((chosen.of, ours), (chosen.over, theirs)) for text in one.warnings]
    content = {
        "table": ours.source,
        "n": {chosen.of: len(ours), chosen.over: len(theirs)},
        "exclusions": {chosen.of: _exclusions(ours), chosen.over: _exclusions(theirs)},
        "gains": [_as_json(one) for one in found],
        "warnings": warnings,
    }
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
        _show(one)
    print_warnings(warnings)
    print("".join(f"{path}\n" for path in made), end="")
    return 0


def _points_of(chosen: argparse.Namespace, name: str) -> Observations:
    """The rows of one family, which stand among the rows left out of the other's points."""
    quote = '"' if "'" in name else "'"
    condition = f"`{chosen.family}` == {quote}{name}{quote}"
    where = condition if chosen.where is None else f"({chosen.where}) and {condition}"
    return table_options.observations(argparse.Namespace(**{**vars(chosen), "where": where}))


def _family(points: Observations, name: str, axis: str) -> Family:
    return Family(name=name, x=points.columns[axis], loss=points.loss, clusters=points.cluster)


def _exclusions(points: Observations) -> list[dict[str, Any]]:
    return [{"row": one.row, "rule": one.rule, "reason": one.reason} for one in points.exclusions]


def _at(asked: str | None) -> list[float]:
    if asked is None:
        return []
    try:
        found = [float(one) for one in asked.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(one) and one > 0 for one in found):
        raise FitError(f"--at {asked}: give numbers above 0, such as 1e21,1e22")
    return found


def _as_json(found: Gains) -> dict[str, Any]:
    return {
        "axis": found.axis,
        "of": found.subject,
        "over": found.baseline,
        "law": found.law,
        "why": found.why,
        "at": [
            {
                "x": one.x,
                "difference": one.difference,
                "difference_ci95": list(one.difference_ci95),
                "multiplier": one.multiplier,
                "multiplier_ci95": None
                if one.multiplier_ci95 is None
                else [end if math.isfinite(end) else None for end in one.multiplier_ci95],
                "reason": one.reason or None,
                "extrapolated": one.extrapolated,
                "statement": found.statement(one, AXES[found.axis]),
            }
            for one in found.at
        ],
        "warnings": list(found.warnings),
    }


def _show(found: Gains) -> None:
    print(f"along {AXES[found.axis]} ({found.law}, x = {found.axis}: {found.why})")
    for one in found.at:
        print(f"  {found.statement(one, AXES[found.axis])}; {_difference(one)}")
    print_warnings(found.warnings)


def _difference(one: Gain) -> str:
    lower, upper = one.difference_ci95
    decimals = max(0, 2 - math.floor(math.log10(max(upper - lower, 1e-12))))
    shown = [formatting.fixed(value, decimals, sign=True) for value in (one.difference, lower, upper)]
    return f"loss {shown[0]} [{shown[1]}, {shown[2]}]"


def _of_a_sweep(chosen: argparse.Namespace) -> int:
    if chosen.loss is not None:
        raise FitError("columns are mapped but no family: give --family COL, the column that names the family")
    if chosen.table is None:
        raise TableError("no TABLE is given; give the results table of a sweep, or any table with --family COL")
    if chosen.figures is not None:
        print("--figures draws the gains of any table (--family COL); a sweep's are those of `report`", file=sys.stderr)
    done = study(read_results(Path(chosen.table)), subject=chosen.of, baseline=chosen.over)
    if not done.pairs:
        raise FitError(f"nothing to compare: done runs of {', '.join(done.results.compare.labels)} only")
    content = {
        "table": str(done.results.path),
        "comparisons": [study_json.comparison_card(one) for one in done.comparisons],
        "multipliers": [study_json.multiplier_card(one) for one in done.multipliers],
        "warnings": list(done.warnings),
    }
    if chosen.json == TERMINAL:
        print_json(content)
        return 0
    if chosen.json is not None:
        write_json(Path(chosen.json), content)
    answer = of_families(done)
    print("\n".join([answer.sentence, *answer.details]))
    print_warnings(done.warnings)
    return 0
