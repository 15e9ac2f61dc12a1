"""The laws, each one a declaration: its formula, its parameters with bounds, its prediction and its derivatives.

Decides which law a table can carry: with fewer than `MIN_BUDGETS_FOR_OFFSET` budgets a straight line in logarithms,
because three points cannot tell an irreducible loss from a slope. A law predicts the log of the loss from
u = ln(x / x0), where x is compute (or seconds) and x0 the geometric mean of the data: centred, so that its parameters
hardly depend on each other.

Shapes: B replicates, N runs, P parameters, S starts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MIN_BUDGETS_FOR_OFFSET = 5
"""Three parameters need at least two budgets more than a line does before the offset is more than a guess."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a law, in the form the solver moves it."""

    name: str
    meaning: str
    lower: float
    upper: float


class Law(ABC):
    """A form of ln L(u), solved for its parameters theta."""

    name: ClassVar[str]
    formula: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]

    @property
    def lower(self) -> FloatArray:
        return np.array([parameter.lower for parameter in self.parameters])

    @property
    def upper(self) -> FloatArray:
        return np.array([parameter.upper for parameter in self.parameters])

    @abstractmethod
    def predict(self, theta_BP: FloatArray, u_BN: FloatArray) -> FloatArray:
        """ln L as [B, N]."""

    @abstractmethod
    def jacobian(self, theta_BP: FloatArray, u_BN: FloatArray) -> FloatArray:
        """d ln L / d theta as [B, N, P]."""

    @abstractmethod
    def starts(self, u_N: FloatArray, log_loss_N: FloatArray) -> FloatArray:
        """Points to start the solver from, as [S, P]."""

    @abstractmethod
    def invert(self, theta_BP: FloatArray, log_loss_B: FloatArray) -> FloatArray:
        """u at which each replicate reaches a loss, as [B]; infinite where it never gets there."""

    @abstractmethod
    def coefficients(self, theta_BP: FloatArray, x0: float) -> dict[str, FloatArray]:
        """The parameters people write (A, alpha, E with x in its own unit), each as [B]."""

    def slope(self, theta_BP: FloatArray) -> FloatArray:
        """alpha as [B]: how fast the loss above the offset falls; above zero where more compute helps."""
        return theta_BP[:, -1]


class PowerLaw(Law):
    """L = A x^-alpha: a line in logarithms (Hestness et al. 2017, without the irreducible term)."""

    name = "power"
    formula = "L = A x^-alpha"
    parameters = (
        Parameter(name="log_A0", meaning="ln of the loss at x0", lower=-30.0, upper=30.0),
        Parameter(name="alpha", meaning="exponent; below zero the loss grows with compute", lower=-5.0, upper=5.0),
    )

    def predict(self, theta_BP: FloatArray, u_BN: FloatArray) -> FloatArray:
        return theta_BP[:, :1] - theta_BP[:, 1:2] * u_BN

    def jacobian(self, theta_BP: FloatArray, u_BN: FloatArray) -> FloatArray:
        shape = np.broadcast_shapes((len(theta_BP), 1), u_BN.shape)
        return np.stack([np.ones(shape), np.broadcast_to(-u_BN, shape)], axis=-1)

    def starts(self, u_N: FloatArray, log_loss_N: FloatArray) -> FloatArray:
        return _line(u_N, log_loss_N)[None, :]

    def invert(self, theta_BP: FloatArray, log_loss_B: FloatArray) -> FloatArray:
        falls = theta_BP[:, 1] > 0
        slope = np.where(falls, theta_BP[:, 1], 1.0)
        return np.where(falls, (theta_BP[:, 0] - log_loss_B) / slope, np.inf)

    def coefficients(self, theta_BP: FloatArray, x0: float) -> dict[str, FloatArray]:
        return {"A": np.exp(theta_BP[:, 0] + theta_BP[:, 1] * np.log(x0)), "alpha": theta_BP[:, 1]}


class OffsetPowerLaw(Law):
    """L = E + A x^-alpha, E the loss that no compute removes (Henighan et al. 2020)."""

    name = "power_with_offset"
    formula = "L = E + A x^-alpha"
    parameters = (
        Parameter(
            name="log_E", meaning="ln of the irreducible loss; its lower bound stands for none", lower=-12.0, upper=12.0
        ),
        Parameter(name="log_A0", meaning="ln of the loss above E at x0", lower=-30.0, upper=30.0),
        Parameter(name="alpha", meaning="exponent of the loss above E", lower=0.0, upper=5.0),
    )

    def predict(self, theta_BP: FloatArray, u_BN: FloatArray) -> FloatArray:
        return np.logaddexp(theta_BP[:, :1], theta_BP[:, 1:2] - theta_BP[:, 2:3] * u_BN)

    def jacobian(self, theta_BP: FloatArray, u_BN: FloatArray) -> FloatArray:
        above_BN = np.exp(theta_BP[:, 1:2] - theta_BP[:, 2:3] * u_BN - self.predict(theta_BP, u_BN))
        return np.stack([1.0 - above_BN, above_BN, -u_BN * above_BN], axis=-1)

    def starts(self, u_N: FloatArray, log_loss_N: FloatArray) -> FloatArray:
        least = float(np.exp(log_loss_N.min()))
        starts = []
        for share in (0.01, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
            line = _line(u_N, np.log(np.exp(log_loss_N) - share * least))
            starts.append([np.log(share * least), line[0], line[1]])
        return np.clip(np.array(starts), self.lower, self.upper)

    def invert(self, theta_BP: FloatArray, log_loss_B: FloatArray) -> FloatArray:
        above = np.exp(log_loss_B) - np.exp(theta_BP[:, 0])
        falls = (theta_BP[:, 2] > 0) & (above > 0)
        slope = np.where(falls, theta_BP[:, 2], 1.0)
        return np.where(falls, (theta_BP[:, 1] - np.log(np.where(falls, above, 1.0))) / slope, np.inf)

    def coefficients(self, theta_BP: FloatArray, x0: float) -> dict[str, FloatArray]:
        return {
            "E": np.exp(theta_BP[:, 0]),
            "A": np.exp(theta_BP[:, 1] + theta_BP[:, 2] * np.log(x0)),
            "alpha": theta_BP[:, 2],
        }


LAWS: dict[str, Law] = {law.name: law for law in (PowerLaw(), OffsetPowerLaw())}


def choose(num_levels: int, level: str = "budget") -> tuple[Law, str]:
    """The law that so many budgets (or other levels) can carry, and the reason in words."""
    if num_levels >= MIN_BUDGETS_FOR_OFFSET:
        return LAWS["power_with_offset"], f"{num_levels} {level}s can carry an irreducible loss beside the slope"
    return LAWS["power"], (
        f"{num_levels} {level}s cannot tell an irreducible loss from a slope (that takes {MIN_BUDGETS_FOR_OFFSET}),"
        " so the law is a straight line in logarithms, to be read inside the measured range only"
    )


def _line(u_N: FloatArray, y_N: FloatArray) -> FloatArray:
    """Intercept and minus the slope of the least-squares line."""
    slope = float(((u_N - u_N.mean()) * y_N).sum() / ((u_N - u_N.mean()) ** 2).sum())
    return np.array([y_N.mean() - slope * u_N.mean(), -slope])
