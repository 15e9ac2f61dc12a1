"""The noise of one run: how far its loss lies from what the law, or its setting, gives on average.

1. Replicates (runs of one setting) measure it without the law: s_g^2 within each setting g of d_g degrees of freedom.
   Without them the residuals do, which hold the law's own misfit too.
2. Where the setting means miss the law by more than replicates explain (F test of lack of fit at 1 %), the residuals
   are taken all the same: a prediction for one more run meets the misfit as well.
3. Noise that changes with compute is not pooled. ln sigma^2 = a + b ln C is fitted by the gamma likelihood of the
   s_g^2 (McCullagh and Nelder 1989, section 10.3), and kept where its likelihood ratio against b = 0, over the
   dispersion that is left, passes 5 %.
4. Without a trend, scales that differ all the same (Bartlett 1937, at 1 %) are not pooled either: each prediction then
   meets the scale of one of the settings, any of them.
5. Otherwise there is one standard deviation with the pooled degrees of freedom.

The noise is that of ln of the loss, or of the value where the law gives no loss. Refuses a fit whose noise nothing
tells. Shapes: B replicates, N runs, G settings, X predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, fdtrc

from analysis import formatting
from analysis.errors import FitError
from analysis.inference.result import Fit

FloatArray = npt.NDArray[np.float64]

_TREND, _MISFIT, _UNEQUAL = 0.05, 0.01, 0.01
"""Levels of the three tests."""
_MIN_LEVELS = 3
"""Settings of different compute from which a trend is looked for."""


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """Standard deviation of one run about the law, with how well it is known."""

    std: float
    """Pooled; where there is a trend, at the middle of the fitted runs."""
    degrees: int
    source: str
    """'replicates' or 'residuals'."""
    kind: str = "constant"
    """'constant', 'trend' (it changes with compute) or 'levels' (it differs between settings)."""
    is_log: bool = True
    """Of ln of the loss; else of the value itself."""
    slope: float = 0.0
    """b of ln sigma^2 = a + b (ln C - centre)."""
    centre: float = 0.0
    trend_covariance: FloatArray = field(default_factory=lambda: np.zeros((2, 2)), repr=False)
    """Of a and b."""
    levels: tuple[tuple[float, int], ...] = ()
    """Standard deviation and degrees of freedom of each setting, where they differ without a trend."""

    def std_replicates(self, num: int, log_scale_X: FloatArray, random: np.random.Generator) -> FloatArray:
        """The noise at ln C [X] as uncertain as its estimate, [B, X]."""
        if self.kind == "trend":
            draws_B2 = random.multivariate_normal(np.zeros(2), self.trend_covariance, size=num)
            at_X = log_scale_X - self.centre
            log_variance_BX = 2.0 * np.log(self.std) + draws_B2[:, :1] + (self.slope + draws_B2[:, 1:]) * at_X
            spread: FloatArray = np.exp(0.5 * np.clip(log_variance_BX, -80.0, 40.0))
            return spread
        std_B, degrees_B = np.full(num, self.std), np.full(num, float(self.degrees))
        if self.kind == "levels":
            chosen_B = random.integers(len(self.levels), size=num)
            std_B, degrees_B = np.array(self.levels)[chosen_B].T
        found: FloatArray = (std_B * np.sqrt(degrees_B / random.chisquare(degrees_B)))[:, None]
        return np.broadcast_to(found, (num, len(log_scale_X)))

    @property
    def words(self) -> str:
        """For a summary."""
        unit = "%" if self.is_log else ""
        size = f"{(100 if self.is_log else 1) * self.std:.3g} {unit}".strip()
        how = {
            "constant": f"from {self.source}, {formatting.counted(self.degrees, 'degree of freedom')}",
            "trend": f"in the middle, from {self.source}, {'growing' if self.slope > 0 else 'falling'} with compute"
            f" (variance as C^{self.slope:.2f})",
            "levels": f"from {self.source}, different in different settings and not pooled",
        }[self.kind]
        return f"{size} ({how})"


def run_noise(fit: Fit, setting: npt.ArrayLike | None = None) -> RunNoise:
    """The noise of one run.

    Args:
        fit: The law, which gives the residuals.
        setting: Each run's setting [N], equal for replicates.

    Returns:
        The noise as steps 1 to 5 of the module find it.

    Raises:
        FitError: There are neither replicates nor more runs than parameters.
    """
    is_log = bool((fit.loss > 0).all()) and fit.law.gives == "log"
    measured_N = np.log(fit.loss) if is_log else fit.loss
    predicted_N = fit.predict(fit.columns)
    residual_N = measured_N - (np.log(predicted_N) if is_log else predicted_N)
    log_scale_N = np.log(compute_scale(fit.columns))
    if setting is not None:
        which_N = np.unique(np.asarray(setting), return_inverse=True)[1].reshape(-1)
        counts_G = np.bincount(which_N)
        mean_G = np.bincount(which_N, weights=residual_N) / counts_G
        square_G = np.bincount(which_N, weights=(residual_N - mean_G[which_N]) ** 2).astype(np.float64)
        several = counts_G > 1
        degrees = int((counts_G - 1).sum())
        if degrees > 0 and not _misses(mean_G, counts_G, float(square_G.sum()) / degrees, degrees, fit.num_free):
            scale_G = np.bincount(which_N, weights=log_scale_N) / counts_G
            degrees_G = (counts_G[several] - 1).astype(np.float64)
            return _noise(square_G[several], degrees_G, scale_G[several], degrees, "replicates", is_log)
    if fit.degrees < 1:
        raise FitError(
            f"{formatting.counted(fit.num_points, 'run')} for"
            f" {formatting.counted(fit.num_free, 'parameter')} do not determine the noise of a run: add runs or seeds"
        )
    share = (fit.num_points - fit.num_free) / fit.num_points
    degrees_N = np.full(fit.num_points, share)
    return _noise(residual_N**2, degrees_N, log_scale_N, fit.degrees, "residuals", is_log, fit.clusters is None)


def compute_scale(columns: Mapping[str, FloatArray]) -> FloatArray:
    """What grows: FLOPs C, else 6 N D, else x, else the first column that is above 0; [N]."""
    if "C" in columns:
        return columns["C"]
    if "N" in columns and "D" in columns:
        return 6.0 * columns["N"] * columns["D"]
    for values in (columns[name] for name in sorted(columns, key=lambda name: (name != "x", name != "N"))):
        if (values > 0).all():
            return values
    return np.ones(len(next(iter(columns.values()))))


def _misses(mean_G: FloatArray, counts_G: npt.NDArray[np.intp], variance: float, degrees: int, num_free: int) -> bool:
    """Whether the setting means lie farther from the law than replicates explain (F test of lack of fit)."""
    left = len(mean_G) - num_free
    if left < 1 or variance == 0:
        return variance == 0 and left >= 1
    ratio = float((counts_G * mean_G**2).sum()) / left / variance
    return bool(fdtrc(left, degrees, ratio) < _MISFIT)


def _noise(square_G: FloatArray, degrees_G: FloatArray, scale_G: FloatArray,
           degrees: int, source: str, is_log: bool, tested: bool = True) -> RunNoise:  # fmt: skip
    """Steps 3 to 5 for sums of squares within settings."""
    total = float(degrees_G.sum())
    std = float(np.sqrt(square_G.sum() / total))
    pooled = RunNoise(std=std, degrees=degrees, source=source, is_log=is_log)
    if not tested or len(square_G) < _MIN_LEVELS or std == 0:
        return pooled
    if len(np.unique(np.round(scale_G, 6))) >= _MIN_LEVELS:
        trend = _trend(square_G, degrees_G, scale_G, pooled)
        if trend is not None:
            return trend
    if source == "replicates" and _bartlett(square_G, degrees_G) < _UNEQUAL:
        levels = tuple((float(np.sqrt(s / d)), int(d)) for s, d in zip(square_G, degrees_G, strict=True) if s > 0)
        return RunNoise(std=std, degrees=degrees, source=source, is_log=is_log, kind="levels", levels=levels)
    return pooled


def _trend(square_G: FloatArray, degrees_G: FloatArray, scale_G: FloatArray, pooled: RunNoise) -> RunNoise | None:
    """The line ln sigma^2 = a + b (x - centre) by Newton's method on the gamma likelihood; None where b = 0 will do."""
    centre = float(np.average(scale_G, weights=degrees_G))
    design_G2 = np.stack([np.ones_like(scale_G), scale_G - centre], axis=1)
    found_2 = np.array([2.0 * np.log(pooled.std), 0.0])

    def deviance(line_2: FloatArray) -> float:
        log_variance_G = design_G2 @ line_2
        return float((degrees_G * log_variance_G + square_G * np.exp(-log_variance_G)).sum())

    start = deviance(found_2)
    for _ in range(50):
        share_G = square_G * np.exp(-design_G2 @ found_2)
        step_2 = np.linalg.solve((design_G2.T * share_G) @ design_G2, design_G2.T @ (share_G - degrees_G))
        step_2 = step_2 / max(1.0, float(np.abs(design_G2 @ step_2).max()))
        found_2 = found_2 + step_2
        if float(np.abs(step_2).max()) < 1e-10:
            break
    if len(square_G) <= 2:
        return None
    ratio_G = square_G * np.exp(-design_G2 @ found_2) / degrees_G
    dispersion = max(1.0, float((0.5 * degrees_G * (ratio_G - 1.0) ** 2).sum()) / (len(square_G) - 2))
    if chdtrc(1, max(start - deviance(found_2), 0.0) / dispersion) > _TREND:
        return None
    covariance_22 = dispersion * np.asarray(np.linalg.inv((design_G2.T * (0.5 * degrees_G)) @ design_G2))
    return RunNoise(
        std=float(np.exp(0.5 * found_2[0])), degrees=pooled.degrees, source=pooled.source, is_log=pooled.is_log,
        kind="trend", slope=float(found_2[1]), centre=centre, trend_covariance=covariance_22,
    )  # fmt: skip


def _bartlett(square_G: FloatArray, degrees_G: FloatArray) -> float:
    """Probability of scales that differ so much, were they equal."""
    total, count = float(degrees_G.sum()), len(square_G)
    variance_G = np.maximum(square_G / degrees_G, 1e-300)
    spread = total * np.log(square_G.sum() / total) - float((degrees_G * np.log(variance_G)).sum())
    correction = 1.0 + (float((1.0 / degrees_G).sum()) - 1.0 / total) / (3.0 * (count - 1))
    return float(chdtrc(count - 1, max(spread / correction, 0.0)))
