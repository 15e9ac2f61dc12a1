"""`python -m analysis fit TABLE` without a law: each series of a sweep's results, loss against compute or seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis import formatting
from analysis.cli.output import print_warnings
from analysis.errors import FitError
from analysis.gains.scaling_curves import FLOPS, SECONDS, Curves, fit_curves
from analysis.report import study_json
from analysis.tables.results import Results, read_results


def fit_series(table: Path, against: str) -> tuple[Results, Curves]:
    """The laws of every series. Raises TableError and FitError."""
    results = read_results(table)
    axis = FLOPS if against == "flops" else SECONDS
    if not results.compare.has(axis.column):
        raise FitError(f"{results.path} has no value of '{axis.column}' for every run that is done")
    return results, fit_curves(results.compare, axis)


def as_card(results: Results, curves: Curves) -> dict[str, Any]:
    """The laws as a card."""
    return study_json.laws_of_results(results, curves)


def show(curves: Curves) -> None:
    """Print each series' exponent with its interval."""
    print(f"{curves.law.formula}, x = {curves.axis.words}: {curves.why}")
    for name, curve in curves.series.items():
        slope = float(curve.fit.slope(curve.fit.best)[0])
        print(
            f"{formatting.series(name):<10} alpha {formatting.with_interval(slope, curve.slope_interval())}"
            f"   {formatting.counted(curve.num_budgets, 'budget')}, {formatting.counted(curve.fit.num_runs, 'run')}"
        )
    print_warnings(curves.warnings)
