"""What a fit minimises: a sum over the points, on the loss or on its logarithm.

Decides that every objective is a sum, never a mean: a mean divides the gradient by the number of points, and a solver
with a tolerance in absolute terms then stops far from the optimum (with Huber's delta of 1e-3 at essentially the
starting point). `log_asymmetric` and `asymmetric` weigh a prediction above the data ten times; they are not symmetric
estimates of anything, and the fit warns of it.

rho, psi = rho' and psi' of a residual r = prediction - data:
- least squares: r^2;
- Huber: r^2/2 up to delta, delta (|r| - delta/2) beyond (Huber 1964);
- least absolute: |r|;
- Huber with free scale s: ln s + Huber(r/s) + ln of the density's normaliser, minimised over s too (the negative
  log-likelihood of Huber's density).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from analysis.errors import FitError

FloatArray = npt.NDArray[np.float64]
Kind = Literal["squares", "huber", "absolute", "free_huber", "asymmetric"]

DEFAULT_DELTA = 1e-3
"""Hoffmann et al. 2022, approach 3."""
OVERPREDICTED = 10.0
"""How much heavier an asymmetric objective weighs a prediction above the data."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One of `OBJECTIVES`, with its delta where it has one."""

    name: str
    kind: Kind
    log: bool
    """Residuals of ln of the loss, else of the loss."""
    delta: float | None = None

    @property
    def free_scale(self) -> bool:
        """Whether the scale of the residuals is fitted too."""
        return self.kind == "free_huber"

    @property
    def over(self) -> float:
        """Weight of a prediction above the data against one below it."""
        return OVERPREDICTED if self.kind == "asymmetric" else 1.0

    @property
    def smooth_enough(self) -> float:
        """Delta as the solver uses it; 0 for the absolute value itself."""
        return 0.0 if self.delta is None else self.delta

    def total(self, residual_BN: FloatArray, weights_BN: FloatArray, log_scale_B: FloatArray | None) -> FloatArray:
        """The objective of each replicate, as [B]."""
        if self.free_scale:
            assert log_scale_B is not None
            assert self.delta is not None
            scaled = huber(residual_BN * np.exp(-log_scale_B)[:, None], self.delta)
            count_B = np.broadcast_to(weights_BN, residual_BN.shape).sum(axis=1)
            total_B: FloatArray = _dot(weights_BN, scaled) + count_B * (log_scale_B + log_normaliser(self.delta))
            return total_B
        return _dot(weights_BN, self.each(residual_BN))

    def each(self, residual: FloatArray) -> FloatArray:
        """Rho of each residual (the scale taken as 1)."""
        if self.kind == "squares":
            return residual * residual
        if self.kind in ("absolute", "asymmetric"):
            return np.abs(residual) * np.where(residual > 0, self.over, 1.0)
        return huber(residual, self.smooth_enough)


def huber(residual: FloatArray, delta: float) -> FloatArray:
    """Huber's function: r^2 / 2 up to delta, delta (|r| - delta / 2) beyond (Huber 1964, equation 2.2)."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    value: FloatArray = inside * (size - 0.5 * inside)
    return value


def log_normaliser(delta: float) -> float:
    """Ln of the integral of exp(-Huber(z)): the normal's middle and two exponential tails."""
    middle = math.sqrt(2.0 * math.pi) * (2.0 * float(ndtr(delta)) - 1.0)
    return math.log(middle + 2.0 / delta * math.exp(-0.5 * delta * delta))


OBJECTIVES: dict[str, tuple[Kind, bool]] = {
    "log_huber": ("huber", True),
    "huber": ("huber", False),
    "log_lsq": ("squares", True),
    "lsq": ("squares", False),
    "log_lad": ("absolute", True),
    "lad": ("absolute", False),
    "free_huber": ("free_huber", True),
    "log_asymmetric": ("asymmetric", True),
    "asymmetric": ("asymmetric", False),
}


def objective_named(name: str, delta: float | None = None) -> Objective:
    """The objective of that name. Raises FitError for one that is not known, or a delta it cannot use."""
    if name not in OBJECTIVES:
        raise FitError(f"there is no objective {name!r}. Known: {', '.join(OBJECTIVES)}")
    kind, log = OBJECTIVES[name]
    if kind not in ("huber", "free_huber"):
        if delta is not None:
            raise FitError(f"objective {name} has no delta; given {delta:g}. Leave --delta out, or take log_huber")
        return Objective(name=name, kind=kind, log=log)
    delta = DEFAULT_DELTA if delta is None else delta
    if not (math.isfinite(delta) and delta > 0):
        raise FitError(f"delta of objective {name} must be finite and above 0; given {delta:g}")
    return Objective(name=name, kind=kind, log=log, delta=delta)


def _dot(left_BN: FloatArray, right_BN: FloatArray) -> FloatArray:
    left_BN = np.broadcast_to(left_BN, right_BN.shape)
    value: FloatArray = np.einsum("bn,bn->b", left_BN, right_BN)
    return value
