"""The compute-optimal frontier: N*(C) and D*(C) as power laws through the optima of several FLOPs budgets.

Both laws are straight lines in logarithms, each by ordinary least squares over the optima (Hoffmann et al. 2022,
section 3.2), so a + b is 1 only where C = 6 N D holds exactly. The 95 % interval of a line comes from draws of the
optima, which carry the noise of the runs. Where the optima scatter about the line by more than that noise explains
(F test at 5 %), or where the noise of the runs is unknown, it comes from that scatter with Student's t on K - 2
degrees of freedom.

Shapes: B draws, K budgets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri

from analysis import formatting
from analysis.interval import ConfidenceInterval

FloatArray = npt.NDArray[np.float64]

TESTED_AT = 0.05
"""Level of the F test of the scatter about the line."""


@dataclass(frozen=True, kw_only=True)
class IsoFlopMinimum:
    """The lowest loss at one FLOPs budget, and the model size and tokens that reach it."""

    flops: float
    params: float
    tokens: float
    loss: float
    num_points: int
    """Runs that the curve of this budget was fitted to."""
    reason: str
    """Why this budget is not part of the frontier; '' where it is."""
    params_ci95: ConfidenceInterval | None = None
    tokens_ci95: ConfidenceInterval | None = None


@dataclass(frozen=True, kw_only=True)
class PowerFit:
    """value = 10^intercept * C^exponent."""

    exponent: float
    exponent_ci95: ConfidenceInterval | None
    intercept: float
    interval_from: str
    """What the interval rests on, in words; why there is none where `exponent_ci95` is None."""
    draws: FloatArray | None = field(default=None, repr=False)
    """Exponents and intercepts [2, B] whose middle 95 % make the intervals."""

    def at(self, flops: float) -> float:
        """The value at `flops` training FLOPs."""
        return float(10.0 ** (self.intercept + self.exponent * np.log10(flops)))

    def interval_at(self, flops: float) -> ConfidenceInterval | None:
        """The 95 % interval of the line at `flops`, without the error of extrapolating a wrong law."""
        if self.draws is None:
            return None
        return percentiles(10.0 ** (self.draws[1] + self.draws[0] * np.log10(flops)))


@dataclass(frozen=True, kw_only=True)
class ComputeOptimalFrontier:
    """N*(C) and D*(C) by one approach."""

    approach: str
    params: PowerFit
    tokens: PowerFit
    minima: tuple[IsoFlopMinimum, ...]
    """All budgets (or the runs on the envelope), those that are not part of the frontier among them."""

    @property
    def used(self) -> tuple[IsoFlopMinimum, ...]:
        """The minima that the two power laws are fitted to."""
        return tuple(minimum for minimum in self.minima if not minimum.reason)


def percentiles(values_B: FloatArray) -> ConfidenceInterval | None:
    """The middle 95 % of the finite draws; None where fewer than two are finite."""
    finite = values_B[np.isfinite(values_B)]
    if len(finite) < 2:
        return None
    lower, upper = np.quantile(finite, [0.025, 0.975])
    return ConfidenceInterval(float(lower), float(upper))


def power_fit(
    log_C: FloatArray,
    log_value: FloatArray,
    draws_KB: FloatArray | None,
    *,
    degrees: int = 0,
    num: int = 2000,
    seed: int = 0,
) -> PowerFit:
    """A power law through the optima of K budgets, with its 95 % interval.

    Args:
        log_C: log10 of the FLOPs of each budget, [K].
        log_value: log10 of the optimal parameters or tokens, [K].
        draws_KB: the same under B draws of the runs' noise, not-a-number where a draw has no minimum; None where the
            noise is unknown.
        degrees: degrees of freedom of the noise that the draws were made with.
        num: draws of the scatter about the line, where the interval comes from that.
        seed: of those draws.

    Returns:
        The line. Its interval is None with two budgets of unknown noise, for two points determine a line exactly.
    """
    slope, intercept = (float(value) for value in np.polyfit(log_C, log_value, 1))
    scatter_degrees = len(log_C) - 2
    square = float(((log_value - slope * log_C - intercept) ** 2).sum())
    if scatter_degrees > 0 and _excess(square / scatter_degrees, scatter_degrees, draws_KB, degrees):
        lines = _scatter_draws(log_C, log_value, square / scatter_degrees, scatter_degrees, num, seed)
        words = f"the scatter of {len(log_C)} minima about the line"
    elif draws_KB is not None:
        lines = _lines(log_C, draws_KB)
        words = f"the noise of the runs ({formatting.counted(degrees, 'degree of freedom')})"
    else:
        words = (
            "two budgets determine a line exactly, and the noise of the runs is unknown: add seeds, sizes or budgets"
        )
        return PowerFit(exponent=slope, exponent_ci95=None, intercept=intercept, interval_from=words)
    return PowerFit(
        exponent=slope, exponent_ci95=percentiles(lines[0]), intercept=intercept, interval_from=words, draws=lines
    )


def _excess(mean_square: float, scatter_degrees: int, draws_KB: FloatArray | None, degrees: int) -> bool:
    """Whether the minima scatter about their line by more than the draws do about theirs."""
    if draws_KB is None:
        return True
    # Half the distance of the 16th and 84th percentiles: one standard deviation that outlying draws do not move.
    lower, upper = np.nanquantile(draws_KB, [0.16, 0.84], axis=1)
    expected = float((((upper - lower) / 2.0) ** 2).mean())
    return mean_square > expected * float(fdtri(scatter_degrees, max(degrees, 1), 1.0 - TESTED_AT))


def _lines(log_C: FloatArray, draws_KB: FloatArray) -> FloatArray:
    """Exponent and intercept of every draw [2, B]; a budget without a minimum in a draw is left out of its line."""
    weight = np.isfinite(draws_KB).astype(np.float64)
    x, y = log_C[:, None], np.where(weight > 0, draws_KB, 0.0)
    with np.errstate(all="ignore"):
        total = weight.sum(axis=0)
        mean_x, mean_y = (weight * x).sum(axis=0) / total, y.sum(axis=0) / total
        spread = (weight * (x - mean_x) ** 2).sum(axis=0)
        slope_B = (weight * (x - mean_x) * (y - mean_y)).sum(axis=0) / np.where(spread > 0, spread, np.nan)
    return np.stack([slope_B, mean_y - slope_B * mean_x])


def _scatter_draws(
    log_C: FloatArray, log_value: FloatArray, variance: float, degrees: int, num: int, seed: int
) -> FloatArray:
    """Lines [2, B] drawn from the t distribution of a least-squares line with this residual variance."""
    random = np.random.default_rng([seed, len(log_C)])
    centred = log_C - log_C.mean()
    slope = float(centred @ log_value / (centred @ centred))
    std_B = np.sqrt(variance * degrees / random.chisquare(degrees, size=num))
    slope_B = slope + std_B * random.standard_normal(num) / np.sqrt(centred @ centred)
    height_B = log_value.mean() + std_B * random.standard_normal(num) / np.sqrt(len(log_C))
    return np.stack([slope_B, height_B - slope_B * log_C.mean()])
