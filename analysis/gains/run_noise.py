"""The noise of the runs of a table in one measure: which runs are replicates, and which share a seed or a run.

Runs of one series and one budget are replicates. Where a seed (or a run with checkpoints) stands at several budgets of
a series, its runs share data order and initialisation, and are not taken as independent.
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
"""Degrees of freedom that a scatter about laws needs to be a noise."""


def codes(*columns: npt.NDArray[np.generic]) -> IntArray:
    """One number from 0 for each different combination of values, in their order."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for values in columns:
        number = np.unique(values, return_inverse=True)[1].reshape(-1)
        found = np.unique(found * (number.max(initial=0) + 1) + number, return_inverse=True)[1].reshape(-1)
    return found.astype(np.int64)


def noise_of_runs(runs: Runs, value_N: FloatArray) -> NoiseModel | None:
    """The noise of `value_N` about the means of series x budget; None where no cell has two runs."""
    series_N = codes(np.array(runs.series))
    return estimate(
        value_N,
        cell_N=codes(series_N, np.array(runs.budget)),
        level_N=codes(runs.budget_flops),
        unit_N=codes(series_N, runs.seed),
        series_N=series_N,
    )


def noise_of(runs: Runs, measure: Measure) -> tuple[NoiseModel | None, tuple[str, ...]]:
    """The noise of one run in the measure's unit, never below the error of measuring it; and what to warn of."""
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
    """Root mean square of the standard errors of measuring one run; zero where the table has none."""
    if measure.stderr_column is None:
        return 0.0
    return float(np.sqrt(np.mean((runs.number(measure.stderr_column) * measure.factor) ** 2)))
