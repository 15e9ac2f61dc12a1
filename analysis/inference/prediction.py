"""The noise of a run, and what it leaves of a prediction: an interval for the law, and a wider one for the next run.

The noise is that of ln of the loss. Decides that it comes from replicates where a setting has several runs (their
pooled scatter, what another seed would do), else from the residuals (which hold the law's own misfit too, so that the
interval is too wide rather than too narrow). A prediction interval adds noise as uncertain as its estimate to every
draw of the law. Refuses a fit without draws, and noise that nothing can be told of.

Shapes: B replicates, N runs, X predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.inference.result import Fit

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """Standard deviation of ln of a run's loss about what its setting gives on average."""

    std: float
    degrees: int
    source: str
    """'replicates' or 'residuals'."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Each [X]; intervals [2, X], 95 %."""

    loss: FloatArray
    of_law: FloatArray
    """Where the law lies."""
    of_run: FloatArray
    """Where the loss of one more run lies."""


def run_noise(fit: Fit, setting: npt.ArrayLike | None = None) -> RunNoise:
    """The noise of one run; `setting` gives each point's setting, equal for replicates. Raises FitError."""
    if setting is not None:
        log_loss = np.log(fit.loss)
        _, which = np.unique(np.asarray(setting), return_inverse=True)
        counts = np.bincount(which)
        means = np.bincount(which, weights=log_loss) / counts
        degrees = int((counts - 1).sum())
        if degrees > 0:
            square = float(((log_loss - means[which]) ** 2).sum())
            return RunNoise(std=float(np.sqrt(square / degrees)), degrees=degrees, source="replicates")
    degrees = fit.num_points - fit.num_free
    if degrees < 1:
        raise FitError(
            f"{fit.num_points} runs for {fit.num_free} parameters say nothing of a run's noise: add runs or seeds"
        )
    square = float((np.log(fit.predict(fit.columns) / fit.loss) ** 2).sum())
    return RunNoise(std=float(np.sqrt(square / degrees)), degrees=degrees, source="residuals")


def predict(fit: Fit, columns: Mapping[str, FloatArray], noise: RunNoise, *, seed: int = 0) -> Predicted:
    """Predict runs with these columns. Raises FitError where the fit has no bootstrap."""
    if fit.replicates is None:
        raise FitError("intervals of predictions need a bootstrap of the fit")
    random = np.random.default_rng(seed)
    loss_BX = fit.predict_all(fit.replicates.theta, columns)
    num = len(loss_BX)
    std_B1 = noise.std * np.sqrt(noise.degrees / random.chisquare(noise.degrees, size=num))[:, None]
    run_BX = loss_BX * np.exp(std_B1 * random.standard_normal(loss_BX.shape))
    return Predicted(
        loss=fit.predict(columns),
        of_law=np.quantile(loss_BX, [0.025, 0.975], axis=0),
        of_run=np.quantile(run_BX, [0.025, 0.975], axis=0),
    )
