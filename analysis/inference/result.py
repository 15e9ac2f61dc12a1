"""What a fit hands back: coefficients with intervals, how it was reached, and what to be careful about.

Decides that an interval comes from the bootstrap where there is one, else from sandwich errors with Student's t on the
solver's scale (so that an amplitude's interval is not symmetric and never below zero); that a coefficient the data do
not tell from its bound is marked unidentified, whatever its standard error; and that warnings are data, not printed.

Shapes: B replicates, N runs, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from analysis.interval import ConfidenceInterval
from analysis.laws.law import Law
from analysis.solver.model import Model
from analysis.solver.newton import Problem
from analysis.solver.objective import Objective

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """One parameter, or a quantity derived from parameters, as people write it."""

    name: str
    value: float
    se: float
    ci80: ConfidenceInterval
    ci95: ConfidenceInterval
    at_bound: bool
    identified: bool


@dataclass(frozen=True, kw_only=True)
class FitWarning:
    """Something a reader of the fit has to know, under a code that programs can look for."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class LocalOptimum:
    """An optimum that some starts end in, and that is not the best."""

    values: dict[str, float]
    objective: float
    share: float
    theta: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Starts:
    num: int
    share_at_best: float


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Refits to resampled data: parameters in the solver's form [B, P], and the objective of each [B]."""

    theta: FloatArray
    objective: FloatArray
    share_converged: float
    cluster: str | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law at its best parameters for one table, with all that is said of it."""

    law: Law
    objective: Objective
    value: float
    """The objective at the optimum: a sum over the points."""
    theta: FloatArray
    """[P], as the solver moves them (logarithms of `log` parameters)."""
    log_scale: float | None
    """ln of the residuals' scale, where the objective fits it."""
    problem: Problem
    columns: Mapping[str, FloatArray]
    loss: FloatArray
    fixed: tuple[str, ...]
    starts: Starts
    local_optima: tuple[LocalOptimum, ...]
    covariance: FloatArray
    """Sandwich covariance [P, P] of `theta`; zero for what is fixed or lies at a bound."""
    at_bound: frozenset[str]
    unidentified_sides: Mapping[str, tuple[bool, bool]]
    """Parameters that the data do not tell from their lower, or upper, bound."""
    warnings: tuple[FitWarning, ...]
    replicates: Replicates | None = None
    seconds: float

    @property
    def num_points(self) -> int:
        return len(self.loss)

    @property
    def num_free(self) -> int:
        return len(self.law.parameters) - len(self.fixed)

    @property
    def values(self) -> dict[str, float]:
        """Parameters and derived quantities as people write them."""
        return {name: float(value[0]) for name, value in self.law.values(self.theta[None, :]).items()}

    @property
    def residuals(self) -> FloatArray:
        """Prediction minus data [N], on the objective's scale (log or not)."""
        residuals: FloatArray = self.problem.residuals(self.theta[None, :])[0]
        return residuals

    def predict(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """The loss at the optimum, [X]."""
        loss_X: FloatArray = self.predict_all(self.theta[None, :], columns)[0]
        return loss_X

    def predict_all(self, theta_BP: FloatArray, columns: Mapping[str, FloatArray]) -> FloatArray:
        """The loss under each of B parameter sets, [B, X]; takes `draws.theta`."""
        return Model(self.law, columns, log=False).predict(theta_BP)

    def with_replicates(self, replicates: Replicates) -> Fit:
        return replace(self, replicates=replicates)

    def coefficient(self, name: str) -> Coefficient:
        return next(coefficient for coefficient in self.coefficients if coefficient.name == name)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """Every parameter, then every derived quantity."""
        values = self.values
        se = self._standard_errors()
        drawn = None if self.replicates is None else self.law.values(self.replicates.theta)
        weak = {name for name in self.law.names if name in self.at_bound or any(self.unidentified_sides.get(name, ()))}
        found = []
        for name, value in values.items():
            needs = self._needs(name)
            if drawn is None:
                intervals = [self._wald(name, value, se[name], level) for level in (0.8, 0.95)]
                error = se[name]
            else:
                intervals = [_percentiles(drawn[name], level) for level in (0.8, 0.95)]
                error = float(drawn[name].std(ddof=1))
            found.append(
                Coefficient(
                    name=name,
                    value=value,
                    se=error,
                    ci80=intervals[0],
                    ci95=intervals[1],
                    at_bound=name in self.at_bound,
                    identified=not (needs & weak),
                )
            )
        return tuple(found)

    def _jacobian(self) -> tuple[tuple[str, ...], FloatArray]:
        """d value / d theta [V, P] of parameters and derived quantities, by central differences."""
        step_P = 1e-6 * np.maximum(1.0, np.abs(self.theta))
        around = np.concatenate([self.theta + np.diag(step_P), self.theta - np.diag(step_P)])
        values = self.law.values(around)
        num = len(self.theta)
        rows = [(value[:num] - value[num:]) / (2.0 * step_P) for value in values.values()]
        return tuple(values), np.array(rows)

    def _standard_errors(self) -> dict[str, float]:
        names, jacobian_VP = self._jacobian()
        variance_V = np.einsum("vp,pq,vq->v", jacobian_VP, self.covariance, jacobian_VP)
        return {name: math.sqrt(max(float(value), 0.0)) for name, value in zip(names, variance_V, strict=True)}

    def _needs(self, name: str) -> set[str]:
        """The parameters that a coefficient rests on: itself, or those its formula moves with."""
        if name in self.law.names:
            return {name}
        names, jacobian_VP = self._jacobian()
        moves_P = np.abs(jacobian_VP[names.index(name)]) > 0
        return {parameter for parameter, moves in zip(self.law.names, moves_P, strict=True) if moves}

    def _wald(self, name: str, value: float, se: float, level: float) -> ConfidenceInterval:
        half = float(stdtrit(max(self.num_points - self.num_free, 1), 0.5 + level / 2.0)) * se
        if name not in self.law.names:
            return ConfidenceInterval(value - half, value + half)
        parameter = self.law.parameters[self.law.index(name)]
        if parameter.log:
            factor = math.exp(min(half / max(value, 1e-300), 700.0))
            ends = [value / factor, value * factor]
        else:
            ends = [value - half, value + half]
        opened = self.unidentified_sides.get(name, (False, False))
        lower = parameter.lower if opened[0] else max(ends[0], parameter.lower)
        upper = parameter.upper if opened[1] else min(ends[1], parameter.upper)
        return ConfidenceInterval(lower, upper)


def _percentiles(drawn_B: FloatArray, level: float) -> ConfidenceInterval:
    lower, upper = np.quantile(drawn_B, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return ConfidenceInterval(float(lower), float(upper))
