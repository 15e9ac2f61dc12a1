"""Predictions of a fit for new runs: the interval of the law, and the interval of a new run's loss.

The law's interval is read off the refits of the fit, evaluated at the new runs. The next run's adds the noise of one
run (`run_noise`) to every refit, as uncertain as its estimate (Davison and Hinkley 1997, section 6.3.3). Where the
fitted runs give no information, such as at other ratios of two columns that always moved together, intervals are
infinite.

Shapes: B replicates, N runs, X predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.inference.identification import collinear_columns
from analysis.inference.result import Fit, Replicates
from analysis.inference.run_noise import RunNoise, compute_scale

FloatArray = npt.NDArray[np.float64]

_RUNS_A_REFIT = 4
"""Runs simulated from each refit: the quantiles of noise need more of them than those of the law."""


@dataclass(frozen=True, kw_only=True)
class PredictedLoss:
    """Each [X]; intervals [2, X], 95 %."""

    loss: FloatArray
    of_law: FloatArray
    """Where the law lies."""
    of_run: FloatArray
    """Where the loss of one more run lies."""
    unknown: npt.NDArray[np.bool_]
    """Of which the fitted runs give no information."""


def predicted_loss(
    fit: Fit, columns: Mapping[str, FloatArray], noise: RunNoise | None, *, seed: int = 0
) -> PredictedLoss:
    """Predict runs with these columns, by the law's names of them; without noise no run has a finite interval."""
    loss_X = fit.predict(columns)
    replicates = fit.interval_replicates
    unknown_X = _unknown(fit, columns, len(loss_X), replicates)
    everything = np.stack([np.full(len(loss_X), -np.inf), np.full(len(loss_X), np.inf)])
    if replicates is None:
        return PredictedLoss(loss=loss_X, of_law=everything, of_run=everything, unknown=unknown_X)
    loss_BX = fit.predict_all(replicates.theta, columns)
    of_law = np.where(unknown_X, everything, np.quantile(loss_BX, [0.025, 0.975], axis=0))
    if noise is None:
        return PredictedLoss(loss=loss_X, of_law=of_law, of_run=everything, unknown=unknown_X)
    random = np.random.default_rng(seed)
    loss_BX = np.repeat(loss_BX, _RUNS_A_REFIT, axis=0)
    std_BX = noise.std_replicates(len(loss_BX), np.log(compute_scale(columns)), random)
    error_BX = std_BX * random.standard_normal(loss_BX.shape)
    run_BX = loss_BX * np.exp(error_BX) if noise.is_log else loss_BX + error_BX
    of_run = np.where(unknown_X, everything, np.quantile(run_BX, [0.025, 0.975], axis=0))
    return PredictedLoss(loss=loss_X, of_law=of_law, of_run=of_run, unknown=unknown_X)


def _unknown(
    fit: Fit, columns: Mapping[str, FloatArray], num: int, replicates: Replicates | None
) -> npt.NDArray[np.bool_]:
    """Runs off the line on which two columns of the fitted runs lie, where the law needs both."""
    unknown_X = np.full(num, replicates is None)
    used_N = fit.problem.weights[0] > 0
    for left, right, _ in collinear_columns(fit.columns, used_N):
        ratio_N = np.log(fit.columns[left]), np.log(fit.columns[right])
        slope, level = np.polyfit(ratio_N[0], ratio_N[1], 1)
        widest = float(np.abs(ratio_N[1] - level - slope * ratio_N[0]).max())
        off_X = np.abs(np.log(columns[right]) - level - slope * np.log(columns[left]))
        unknown_X |= off_X > max(3.0 * widest, 0.05)
    return unknown_X
