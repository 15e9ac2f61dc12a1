"""From the optimal model size of a budget to its optimal tokens.

The methods `parabola` and `akima` fit a second curve, of loss against log10 D (Hoffmann et al. 2022). `window` reads
log10 D off at N*, by the straight line of log10 D against log10 N of the budget's runs, which is exact where C is
6 N D and close to it under any other count of FLOPs: both optima then belong to one curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.allocation.curve import Curve, tokens_curve

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TokenAxis:
    """How a budget's tokens follow from its model size."""

    slope: float
    intercept: float
    curve: Curve | None
    """Loss against log10 D, where the method fits one."""

    @property
    def reason(self) -> str:
        """Why the minimum in tokens does not count; '' where it does."""
        return "" if self.curve is None else self.curve.reason

    def minimum(self, size_curve: Curve) -> float:
        """log10 D*."""
        return self.slope * size_curve.minimum + self.intercept if self.curve is None else self.curve.minimum

    def minima_of(self, log_N_B: FloatArray, losses_BN: FloatArray) -> FloatArray:
        """log10 D* [B] under draws of the losses, whose log10 N* is given."""
        return self.slope * log_N_B + self.intercept if self.curve is None else self.curve.minima_of(losses_BN)


def token_axis(
    curve: Curve, used_log_D: FloatArray, log_D: FloatArray, loss: FloatArray, weight: FloatArray
) -> TokenAxis:
    """The axis of one budget: log10 D of the runs of its curve, then log10 D, loss and weight of all its runs."""
    slope, intercept = (float(value) for value in np.polyfit(curve.x, used_log_D, 1))
    own = None if curve.method == "window" else tokens_curve(curve, log_D, loss, weight)
    return TokenAxis(slope=slope, intercept=intercept, curve=own)
