"""What a fit hands back: coefficients with intervals, how it was reached, and what to be careful about.

Decides that intervals come from refits to resampled data, always: those of a requested bootstrap (`replicates`), else
those of `residual_bootstrap.default_replicates`, made when an interval is first read (`interval_replicates`); that what
the table does not determine has infinite intervals, whatever the solver found; and that warnings are data.

Shapes: B replicates, N runs, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.inference.coefficients import Coefficient, from_replicates, lines
from analysis.laws.law import Law
from analysis.result import Result
from analysis.solver.model import Model
from analysis.solver.newton import Problem
from analysis.solver.objective import Objective

FloatArray = npt.NDArray[np.float64]
CodeArray = npt.NDArray[np.intp]


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
    """How many starting points were polished, and which share of them reached the best optimum."""

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
    method: str
    """What was resampled: 'residuals', 'runs' or 'clusters'."""


@dataclass(frozen=True, kw_only=True)
class HeldOutError:
    """How well the fit predicts rows that it was not given."""

    num_points: int
    rms: float
    """Root mean square of ln(predicted / measured)."""
    in_run_interval: float
    """Share of the rows that lie in the 95 % interval of the next run; not a number where there is none."""


@dataclass(frozen=True, kw_only=True)
class TableNotes:
    """What a fit keeps of the table that it was made from."""

    source: str
    lines: tuple[str, ...]
    """For `summary`: columns, rows left out, replicates."""
    setting: CodeArray
    """Rows with one number are replicates of one another [N]."""
    held_out: HeldOutError | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Fit(Result):
    """A law at its best parameters for a table, with their uncertainty, diagnostics and warnings."""

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
    """Parameters that the data do not separate from their lower, or upper, bound."""
    undetermined: frozenset[str]
    """Parameters that the table does not determine; their intervals are infinite."""
    warnings: tuple[FitWarning, ...]
    clusters: CodeArray | None = None
    """The group of each run [N], from 0: runs of one group are not independent."""
    cluster_name: str | None = None
    replicates: Replicates | None = None
    """The refits of a requested bootstrap."""
    resample: Callable[[Fit], Replicates | None] | None = None
    """Makes the refits of the default intervals."""
    table: TableNotes | None = None
    seconds: float

    @property
    def num_points(self) -> int:
        """Number of runs that were fitted, N."""
        return len(self.loss)

    @property
    def num_free(self) -> int:
        """Number of parameters that were fitted."""
        return len(self.law.parameters) - len(self.fixed)

    @property
    def degrees(self) -> int:
        """Independent runs, or groups of runs, less free parameters: what the noise is measured from."""
        used_N = self.problem.weights[0] > 0
        if self.clusters is not None:
            return len(np.unique(self.clusters[used_N])) - self.num_free
        return int(used_N.sum()) - self.num_free

    @property
    def values(self) -> dict[str, float]:
        """Parameters and derived quantities as people write them."""
        return {name: float(value[0]) for name, value in self.law.values(self.theta[None, :]).items()}

    @property
    def residuals(self) -> FloatArray:
        """Prediction minus data [N], on the objective's scale (log or not)."""
        residuals: FloatArray = self.problem.residuals(self.theta[None, :])[0]
        return residuals

    @cached_property
    def interval_replicates(self) -> Replicates | None:
        """The refits that intervals are read from; None where the table cannot give an interval."""
        if self.replicates is not None or self.resample is None:
            return self.replicates
        return self.resample(self)

    def predict(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """The loss at the optimum, [X], at columns by the law's names of them."""
        loss_X: FloatArray = self.predict_all(self.theta[None, :], columns)[0]
        return loss_X

    def predict_all(self, theta_BP: FloatArray, columns: Mapping[str, FloatArray]) -> FloatArray:
        """The loss under each of B parameter sets, [B, X]; takes `interval_replicates.theta`."""
        return Model(self.law, columns, log=False).predict(theta_BP)

    def with_replicates(self, replicates: Replicates) -> Fit:
        """The same fit with its intervals from these refits."""
        return replace(self, replicates=replicates)

    def coefficient(self, name: str) -> Coefficient:
        """One parameter or derived quantity. Raises KeyError for a name that the law does not have."""
        found = {one.name: one for one in self.coefficients}
        return found[name]

    @cached_property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """Every parameter, then every derived quantity, with 80 and 95 % intervals."""
        replicates = self.interval_replicates
        return from_replicates(
            self.law,
            self.theta,
            None if replicates is None else replicates.theta,
            fixed=self.fixed,
            at_bound=self.at_bound,
            unidentified_sides=self.unidentified_sides,
            undetermined=self.undetermined,
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a coefficient: name, value, se, ends of the intervals, whether it is identified."""
        rows = [
            {
                "coefficient": one.name,
                "value": one.value,
                "se": one.se,
                "ci95_lower": one.ci95.lower,
                "ci95_upper": one.ci95.upper,
                "ci80_lower": one.ci80.lower,
                "ci80_upper": one.ci80.upper,
                "identified": one.identified,
            }
            for one in self.coefficients
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """Coefficients with 95 % intervals, how the optimum was reached, the table, the held-out error, warnings."""
        objective = self.objective.name + ("" if self.objective.delta is None else f", delta {self.objective.delta:g}")
        reached = round(self.starts.share_at_best * self.starts.num)
        told = [f"{self.law.name}: {self.law.formula}", f"({self.law.source})", ""]
        told += lines(self.law, self.coefficients, self.fixed)
        told += [
            "",
            f"objective  {self.value:.10g} ({objective}, summed over {formatting.counted(self.num_points, 'point')})",
            f"starts     {reached} of {self.starts.num} {formatting.verb(reached, 'ends', 'end')} at this optimum",
            f"intervals  {self.interval_source}",
        ]
        if self.table is not None:
            told += self.table.lines
            if self.table.held_out is not None:
                told.append(_held_out_line(self.table.held_out))
        told += ["", *(f"warning: {one.text}" for one in self.warnings)] if self.warnings else []
        return "\n".join(told)

    @property
    def interval_source(self) -> str:
        """Where the intervals come from, in words."""
        replicates = self.interval_replicates
        if replicates is None:
            return "none: the table cannot give them"
        of = {
            "residuals": "the law plus resampled residuals",
            "runs": "resampled runs",
            "clusters": f"resampled groups of runs{f' ({replicates.cluster})' if replicates.cluster else ''}",
        }[replicates.method]
        return f"95 %, from {len(replicates.theta):,} refits to {of}"

    def __repr__(self) -> str:
        """The law, the number of points and the coefficients."""
        values = ", ".join(f"{name}={value:.4g}" for name, value in self.values.items())
        return f"Fit({self.law.name}, {formatting.counted(self.num_points, 'point')}: {values})"


def _held_out_line(held_out: HeldOutError) -> str:
    inside = "" if np.isnan(held_out.in_run_interval) else (
        f"; {100 * held_out.in_run_interval:.3g} % of them in the next run's 95 % interval"
    )  # fmt: skip
    return (
        f"held out   {formatting.counted(held_out.num_points, 'row')}, error"
        f" {formatting.significant(100 * held_out.rms)} % root mean square"
        f"{inside}"
    )
