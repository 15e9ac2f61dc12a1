"""The law of one series along one axis: the engine's fit of a power law, with what gains read off it.

Decides which law a table can carry: with fewer than `MIN_LEVELS_FOR_OFFSET` budgets (or other levels) a straight line
in logarithms, because three points cannot tell an irreducible loss from a slope. Least squares on the log of the loss.

Shapes: B replicates, N runs, P parameters, X points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.inference.bootstrap import refit as refit_counts
from analysis.inference.result import Fit
from analysis.laws.dense import POWER, POWER_WITH_OFFSET
from analysis.laws.law import Law

FloatArray = npt.NDArray[np.float64]

MIN_LEVELS_FOR_OFFSET = 5
"""Three parameters need at least two levels more than a line does before the offset is more than a guess."""


@dataclass(frozen=True, kw_only=True)
class SeriesFit:
    """`POWER` or `POWER_WITH_OFFSET` at its best parameters for one series."""

    fit: Fit

    @property
    def law(self) -> Law:
        return self.fit.law

    @property
    def num_runs(self) -> int:
        return self.fit.num_points

    @property
    def best(self) -> FloatArray:
        """The parameters in the solver's form, as the one replicate [1, P]."""
        return self.fit.theta[None, :]

    def log_loss(self, theta_BP: FloatArray, x_X: FloatArray) -> FloatArray:
        """ln of the loss under each parameter set, [B, X]."""
        return np.log(self.fit.predict_all(theta_BP, {"x": x_X}))

    def slope(self, theta_BP: FloatArray) -> FloatArray:
        """alpha as [B]: how fast the loss above the offset falls; above zero where more compute helps."""
        return self.law.values(theta_BP)["alpha"]

    def reach(self, theta_BP: FloatArray, log_loss_B: FloatArray) -> FloatArray:
        """ln x at which each replicate reaches a loss, as [B]; infinite where it never gets there."""
        values = self.law.values(theta_BP)
        above_B = np.exp(log_loss_B) - values.get("E", np.zeros(len(theta_BP)))
        falls_B = (values["alpha"] > 0) & (above_B > 0)
        slope_B = np.where(falls_B, values["alpha"], 1.0)
        log_above_B = np.log(np.where(falls_B, above_B, 1.0))
        return np.where(falls_B, (np.log(values["A"]) - log_above_B) / slope_B, np.inf)


def choose(num_levels: int, level: str = "budget") -> tuple[Law, str]:
    """The law that so many budgets (or other levels) can carry, and the reason in words."""
    if num_levels >= MIN_LEVELS_FOR_OFFSET:
        return POWER_WITH_OFFSET, f"{num_levels} {level}s can carry an irreducible loss beside the slope"
    return POWER, (
        f"{num_levels} {level}s cannot tell an irreducible loss from a slope (that takes {MIN_LEVELS_FOR_OFFSET}),"
        " so the law is a straight line in logarithms, to be read inside the measured range only"
    )


def fit_series(law: Law, x_N: FloatArray, loss_N: FloatArray) -> SeriesFit:
    """Fit `law` to losses (nats) at x (FLOPs, seconds or slots). Raises FitError where all x are equal."""
    if len(np.unique(x_N)) < 2:
        raise FitError(f"a law needs at least two different values of compute; all {len(x_N)} runs have {x_N[0]:.3g}")
    return SeriesFit(fit=fit_law(law, {"x": x_N}, loss_N, objective="log_lsq"))


def refit(
    found: SeriesFit, *, log_loss_BN: FloatArray | None = None, weights_BN: FloatArray | None = None
) -> FloatArray:
    """Refit B replicates from the optimum: other targets, or other weights. Returns their parameters [B, P]."""
    if weights_BN is None:
        weights_BN = np.ones((1, found.num_runs))
    return refit_counts(found.fit, weights_BN, log_loss_BN)[0]
