"""Everything that is said about one results table, computed once: the report, the figures and the card show it.

`study` is a pure function of the table: seeds of the draws are fixed, so the same table gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.curves import FLOPS, SECONDS, Axis, Curves, fit_curves
from analysis.errors import FitError
from analysis.fairness import Gap, gaps
from analysis.gain import (
    Comparison,
    LawDifference,
    Measure,
    Multiplier,
    compare,
    law_difference,
    measures,
    multiplier,
    pairs,
)
from analysis.table import Results
from analysis.tuning import Tuned, tuned


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table's numbers."""

    results: Results
    measures: tuple[Measure, ...]
    pairs: tuple[tuple[str, str], ...]
    """(subject, baseline); the first decides the headline."""
    comparisons: tuple[Comparison, ...]
    """Every pair in every measure."""
    curves: dict[str, Curves]
    """By the key of the axis; an axis without two budgets is absent."""
    no_curves: dict[str, str]
    """Why an axis is absent."""
    multipliers: tuple[Multiplier, ...]
    law_differences: tuple[LawDifference, ...]
    gaps: tuple[Gap, ...]
    tuned: tuple[Tuned, ...]
    warnings: tuple[str, ...]

    def comparison(self, subject: str, baseline: str, column: str) -> Comparison | None:
        for one in self.comparisons:
            if (one.subject, one.baseline, one.measure.column) == (subject, baseline, column):
                return one
        return None

    def multiplier(self, subject: str, baseline: str, axis: Axis) -> Multiplier | None:
        for one in self.multipliers:
            if (one.subject, one.baseline, one.axis) == (subject, baseline, axis.key):
                return one
        return None

    def law_difference(self, subject: str, baseline: str, axis: Axis) -> LawDifference | None:
        for one in self.law_differences:
            if (one.subject, one.baseline, one.axis) == (subject, baseline, axis.key):
                return one
        return None

    @property
    def recall(self) -> Measure | None:
        return next((measure for measure in self.measures if measure.words == "recall"), None)


def study(results: Results, *, subject: str | None = None, baseline: str | None = None) -> Study:
    """Compute everything. Raises FitError where a pair was asked for and cannot be compared."""
    runs = results.compare
    chosen = _pairs(results, subject, baseline)
    found = measures(runs)
    curves, absent = _curves(results)
    comparisons, warnings = [], []
    for ours, theirs in chosen:
        try:
            comparisons += [compare(runs, ours, theirs, measure) for measure in found]
        except FitError as error:
            if subject is not None:
                raise
            warnings.append(str(error))
    compared = [pair for pair in chosen if any((one.subject, one.baseline) == pair for one in comparisons)]
    multipliers, differences = [], []
    for one in curves.values():
        for ours, theirs in compared:
            try:
                multipliers.append(multiplier(one, ours, theirs))
                differences.append(law_difference(one, ours, theirs))
            except FitError as error:
                warnings.append(str(error))
    for one_comparison in comparisons:
        warnings += one_comparison.warnings
    for one in curves.values():
        warnings += one.warnings
    return Study(
        results=results,
        measures=found,
        pairs=tuple(compared),
        comparisons=tuple(comparisons),
        curves=curves,
        no_curves=absent,
        multipliers=tuple(multipliers),
        law_differences=tuple(differences),
        gaps=gaps(runs),
        tuned=tuned(results),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _pairs(results: Results, subject: str | None, baseline: str | None) -> tuple[tuple[str, str], ...]:
    families = results.compare.families
    for name in (subject, baseline):
        if name is not None and name not in families:
            raise FitError(f"no done run of the family '{name}'; the table has {', '.join(families)}")
    if subject is not None:
        others = [baseline] if baseline is not None else [family for family in families if family != subject]
        return tuple((subject, other) for other in others if other is not None)
    every = pairs(families)
    return every if baseline is None else tuple(pair for pair in every if pair[1] == baseline)


def _curves(results: Results) -> tuple[dict[str, Curves], dict[str, str]]:
    curves, absent = {}, {}
    for axis in (FLOPS, SECONDS):
        if not results.compare.has(axis.column):
            absent[axis.key] = f"the table has no {axis.column} for every run"
            continue
        try:
            curves[axis.key] = fit_curves(results.compare, axis)
        except FitError as error:
            absent[axis.key] = str(error)
    return curves, absent
