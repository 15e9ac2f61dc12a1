"""Loss, recall and knowledge against slots at a fixed base: means with intervals, and the law of the loss.

A curve holds the series that differ only in `num_slots`, at one budget. A law is fitted to curves with at least
`MIN_SIZES` sizes, with the same solver and noise as the laws against compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.measures import Measure
from analysis.gains.run_noise import noise_of
from analysis.gains.scaling_curves import SLOTS, Curves, SeriesCurve, fit_curves
from analysis.inference.variance_components import NoiseModel
from analysis.interval import LEVEL, ConfidenceInterval
from analysis.result import Result
from analysis.sweep.dense_levels import DenseLevel, dense_levels
from analysis.tables.runs import Budget, FloatArray, Runs, without

if TYPE_CHECKING:
    import pandas as pd

MIN_SIZES = 4
"""Sizes needed to fit a law: two for its two parameters, and two residual degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class TableSizeMean:
    """The mean of a measure over the seeds of a table size."""

    value: float
    interval: ConfidenceInterval | None
    """95 % interval of the mean; None where the noise of a run is unknown."""


@dataclass(frozen=True, kw_only=True)
class TableSizePoint:
    """The runs of a table size."""

    series: str
    num_slots: float
    num_seeds: int
    means: dict[str, TableSizeMean]
    """By the measure's column."""


@dataclass(frozen=True, kw_only=True)
class TableSizeCurve:
    """The table sizes of a series at one budget, everything but the number of slots being equal."""

    key: str
    """Its label in the laws."""
    stem: str
    """The series without its number of slots."""
    family: str
    budget: Budget
    points: tuple[TableSizePoint, ...]
    """By increasing number of slots."""
    change: dict[str, TableSizeMean]
    """Largest table minus smallest, by the measure's column."""
    levels: tuple[DenseLevel, ...]
    """Dense models of the curve's compute and of multiples of it, by rising compute; where the curve reaches each."""


@dataclass(frozen=True, kw_only=True)
class TableSizes(Result):
    """Loss and recall of every table size, and the law of the loss against the number of slots."""

    measures: tuple[Measure, ...]
    curves: tuple[TableSizeCurve, ...]
    laws: Curves | None
    no_law: str
    """Why there is no law; '' if there is."""

    def law(self, curve: TableSizeCurve) -> SeriesCurve | None:
        """The law of a curve; None where it has too few sizes."""
        return None if self.laws is None else self.laws.series.get(curve.key)

    def to_frame(self) -> pd.DataFrame:
        """A row for each table size and measure: series, budget, num_slots, num_seeds, measure, value, lower, upper."""
        import pandas as pd

        rows = []
        for curve in self.curves:
            for point in curve.points:
                head = (point.series, curve.budget.name, point.num_slots, point.num_seeds)
                for column, mean in point.means.items():
                    rows.append((*head, column, mean.value, *(mean.interval or (math.nan, math.nan))))
        columns = ["series", "budget", "num_slots", "num_seeds", "measure", "value", "lower", "upper"]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> str:
        """The change over each curve, where the curve reaches dense models, and the law or why there is none."""
        lines = []
        for curve in self.curves:
            ends = " to ".join(formatting.slots(curve.points[at].num_slots) for at in (0, -1))
            lines.append(f"{curve.stem} at {curve.budget.name}, {ends} slots:")
            for measure in self.measures:
                change = curve.change[measure.column]
                value = formatting.with_interval(change.value, change.interval, sign=True, most=measure.decimals + 1)
                lines.append(f"  {measure.words} changes by {value} {measure.unit}")
                lines += [f"    {level.words}: {level.crossings[measure.column].words}" for level in curve.levels]
        law = self.no_law if self.laws is None else f"{self.laws.law.formula}, x = slots: {self.laws.why}"
        return "\n".join([*lines, f"law: {law}"])


def table_sizes(runs: Runs, measures: Sequence[Measure], *, level: float = LEVEL) -> TableSizes | None:
    """The table sizes; None where no family has two at one budget."""
    if "num_slots" not in runs.numbers:
        return None
    noises = {measure.column: noise_of(runs, measure, level=level)[0] for measure in measures}
    curves = tuple(
        _curve(runs, stem, budget, labels, measures, noises)
        for budget in runs.budgets()
        for stem, labels in _stems(runs, budget).items()
    )
    if not curves:
        return None
    laws, why = _laws(runs, curves)
    return TableSizes(measures=tuple(measures), curves=curves, laws=laws, no_law=why)


def _stems(runs: Runs, budget: Budget) -> dict[str, list[str]]:
    """The series at a budget that differ only in their slots, by their common label."""
    found: dict[str, list[str]] = {}
    for label in runs.labels:
        mask = runs.of(label, budget)
        if mask.any() and np.isfinite(runs.number("num_slots")[mask]).all():
            found.setdefault(without(label, "num_slots"), []).append(label)
    return {stem: labels for stem, labels in found.items() if len(labels) > 1}


def _curve(
    runs: Runs,
    stem: str,
    budget: Budget,
    labels: Sequence[str],
    measures: Sequence[Measure],
    noises: dict[str, NoiseModel | None],
) -> TableSizeCurve:
    slots_of = {label: float(runs.number("num_slots")[runs.of(label, budget)].mean()) for label in labels}
    points = [_point(runs, label, budget, slots_of[label], measures, noises) for label in labels]
    points.sort(key=lambda point: point.num_slots)
    first, last = points[0], points[-1]
    return TableSizeCurve(
        key=f"{stem} at={budget.name}",
        stem=stem,
        family=runs.family_of(labels[0]),
        budget=budget,
        points=tuple(points),
        change={
            column: _mean(
                last.means[column].value - first.means[column].value,
                noises[column],
                _weights(runs, last.series, budget) - _weights(runs, first.series, budget),
            )
            for column in noises
        },
        levels=dense_levels(
            runs,
            budget,
            [point.series for point in points],
            [point.num_slots for point in points],
            measures,
            noises,
        ),
    )


def _point(
    runs: Runs,
    label: str,
    budget: Budget,
    num_slots: float,
    measures: Sequence[Measure],
    noises: dict[str, NoiseModel | None],
) -> TableSizePoint:
    mask = runs.of(label, budget)
    num_seeds = int(mask.sum())
    means = {
        measure.column: _mean(
            float(runs.number(measure.column)[mask].mean() * measure.factor),
            noises[measure.column],
            _weights(runs, label, budget),
        )
        for measure in measures
    }
    return TableSizePoint(series=label, num_slots=num_slots, num_seeds=num_seeds, means=means)


def _weights(runs: Runs, label: str, budget: Budget) -> FloatArray:
    """Weights of the runs in the mean of a series at a budget."""
    mask = runs.of(label, budget)
    return np.asarray(mask / mask.sum())


def _mean(value: float, model: NoiseModel | None, weight_N: FloatArray) -> TableSizeMean:
    return TableSizeMean(value=value, interval=None if model is None else model.contrast(weight_N).interval(value, 1.0))


def _laws(runs: Runs, curves: Sequence[TableSizeCurve]) -> tuple[Curves | None, str]:
    """The law of the loss, fitted to every curve with enough sizes; or the reason why there is none."""
    enough = [curve for curve in curves if len(curve.points) >= MIN_SIZES]
    if not enough:
        most = max(len(curve.points) for curve in curves)
        return None, f"{most} table sizes at one base are too few for a law (that takes {MIN_SIZES})"
    chosen, series, sizes = [], [], []
    for curve in enough:
        for point in curve.points:
            rows = np.flatnonzero(runs.of(point.series, curve.budget))
            chosen += rows.tolist()
            series += [curve.key] * len(rows)
            sizes += [Budget(name=formatting.slots(point.num_slots), flops=point.num_slots)] * len(rows)
    try:
        return fit_curves(runs.regrouped(np.array(chosen), series=series, budgets=sizes), SLOTS), ""
    except FitError as error:
        return None, str(error)
