"""The noise of a run in a measure, from runs that are replicates or share a seed.

Runs of the same series and budget are replicates. Runs of a series that have the same seed at several budgets (or are
checkpoints of the same run) share data order and initialisation, and are not treated as independent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.gains.measures import Measure
from analysis.inference.replicate_noise import uneven
from analysis.inference.variance_components import NoiseModel, estimate
from analysis.tables.runs import FloatArray, Runs

IntArray = npt.NDArray[np.int64]

MIN_DEGREES = 2
"""Residual degrees of freedom of the laws below which their residuals give no estimate of the noise."""


def codes(*columns: npt.NDArray[np.generic]) -> IntArray:
    """A number from 0 for each different combination of values, in sorted order."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for values in columns:
        number = np.unique(values, return_inverse=True)[1].reshape(-1)
        found = np.unique(found * (number.max(initial=0) + 1) + number, return_inverse=True)[1].reshape(-1)
    return found.astype(np.int64)


def noise_of_runs(runs: Runs, value_N: FloatArray) -> NoiseModel | None:
    """The noise of `value_N` about the means of series and budget; None where there are no replicates."""
    series_N = codes(np.array(runs.series))
    return estimate(
        value_N,
        cell_N=codes(series_N, np.array(runs.budget)),
        level_N=codes(runs.budget_flops),
        unit_N=codes(series_N, runs.seed),
        series_N=series_N,
    )


def noise_of(runs: Runs, measure: Measure) -> tuple[NoiseModel | None, tuple[str, ...]]:
    """The noise of a run in the measure's unit, at least its evaluation error, and warnings about it."""
    value_N, cells = runs.number(measure.column) * measure.factor, runs.cells()
    model = noise_of_runs(runs, value_N)
    if model is None:
        return None, ()
    warnings = []
    worst = uneven([value_N[runs.of(*cell)] for cell in cells])
    if model.level_std is not None:
        warnings.append(
            f"{measure.words}: the noise differs between budgets (Bartlett's test at 5 %; standard deviations"
            f" {', '.join(formatting.significant(std) for std in model.level_std)} by increasing budget), so it is"
            " not pooled: each budget has its own"
        )
    elif worst is not None:
        series, budget = cells[worst]
        warnings.append(
            f"{measure.words}: the seeds of {formatting.series(series)} at {formatting.power(budget.flops)} FLOPs"
            " differ by more than the pooled noise explains; intervals are too narrow there and too wide elsewhere"
        )
    return model.at_least(_evaluation_error(runs, measure)), tuple(warnings)


def _evaluation_error(runs: Runs, measure: Measure) -> float:
    """Root mean square of the runs' standard errors of evaluation; zero where the table has none."""
    if measure.stderr_column is None:
        return 0.0
    return float(np.sqrt(np.mean((runs.number(measure.stderr_column) * measure.factor) ** 2)))
