"""The noise of a run in a measure, from runs that are replicates or share a seed.

Runs of the same series and budget are replicates. Runs of a series that have the same seed at several budgets (or are
checkpoints of the same run) share data order and initialisation, and are not treated as independent. What runs of one
seed and budget share in all series cancels in their differences, and is taken out of the noise of a comparison where
the table shows it (`inference.seed_effect`). Laws of single series keep it.

The noise is that of all series of the table, unless it differs between them (Bartlett's test at 1 %): then a comparison
rests on its own two series.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.gains.measures import Measure
from analysis.inference.replicate_noise import uneven
from analysis.inference.seed_effect import bartlett
from analysis.inference.variance_components import NoiseModel, estimate
from analysis.interval import LEVEL
from analysis.tables.runs import FloatArray, Runs

IntArray = npt.NDArray[np.int64]

SERIES_DIFFER = 0.01
"""Level of the test whether series differ in noise; lower than usual, for two series have few degrees of freedom."""

MIN_DEGREES = 2
"""Residual degrees of freedom of the laws below which their residuals give no estimate of the noise."""


def codes(*columns: npt.NDArray[np.generic]) -> IntArray:
    """A number from 0 for each different combination of values, in sorted order."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for values in columns:
        number = np.unique(values, return_inverse=True)[1].reshape(-1)
        found = np.unique(found * (number.max(initial=0) + 1) + number, return_inverse=True)[1].reshape(-1)
    return found.astype(np.int64)


def noise_of_runs(runs: Runs, value_N: FloatArray, *, paired: bool = False) -> NoiseModel | None:
    """The noise of `value_N` about the means of series and budget; None where there are no replicates.

    `paired`: without what all series of a seed and budget share, where the table shows that they share something.
    """
    series_N, budget_N = codes(np.array(runs.series)), codes(np.array(runs.budget))
    return estimate(
        value_N,
        cell_N=codes(series_N, budget_N),
        level_N=codes(runs.budget_flops),
        unit_N=codes(series_N, runs.seed),
        series_N=series_N,
        block_N=codes(budget_N, runs.seed) if paired else None,
    )


def differs_between_series(runs: Runs, value_N: FloatArray) -> bool:
    """Whether the replicates of the series stray by different amounts (Bartlett's test at 1 %)."""
    series_N = codes(np.array(runs.series))
    cell_N = codes(series_N, np.array(runs.budget))
    count_C = np.bincount(cell_N)
    square_N = (value_N - (np.bincount(cell_N, value_N) / count_C)[cell_N]) ** 2
    cells_F = np.bincount(series_N[np.unique(cell_N, return_index=True)[1]])
    square_F = np.bincount(series_N, square_N).astype(np.float64)
    degrees_F = np.bincount(series_N) - cells_F
    known_F = degrees_F > 0
    return bartlett(square_F[known_F], degrees_F[known_F]) < SERIES_DIFFER


def noise_of(runs: Runs, measure: Measure, *, level: float = LEVEL) -> tuple[NoiseModel | None, tuple[str, ...]]:
    """The noise of a run in the measure's unit, at least its evaluation error, and warnings about it.

    `level` is that of the intervals which follow from it.
    """
    value_N, cells = runs.number(measure.column) * measure.factor, runs.cells()
    model = noise_of_runs(runs, value_N, paired=True)
    if model is None:
        return None, ()
    warnings = []
    worst = uneven([value_N[runs.of(*cell)] for cell in cells])
    if model.uneven_std is not None:
        warnings.append(
            f"{measure.words}: the noise differs between budgets (Bartlett's test at 5 %; standard deviations"
            f" {', '.join(formatting.significant(std) for std in model.uneven_std)} by increasing budget); a mean"
            " over budgets takes each with its own"
        )
    elif worst is not None:
        series, budget = cells[worst]
        warnings.append(
            f"{measure.words}: the seeds of {formatting.series(series)} at {formatting.power(budget.flops)} FLOPs"
            " differ by more than the pooled noise explains; intervals are too narrow there and too wide elsewhere"
        )
    model = replace(model.at_least(_evaluation_error(runs, measure)), interval_level=level)
    return model, tuple(warnings)


def _evaluation_error(runs: Runs, measure: Measure) -> float:
    """Root mean square of the runs' standard errors of evaluation; zero where the table has none."""
    if measure.stderr_column is None or not runs.has(measure.stderr_column):
        return 0.0
    return float(np.sqrt(np.mean((runs.number(measure.stderr_column) * measure.factor) ** 2)))
