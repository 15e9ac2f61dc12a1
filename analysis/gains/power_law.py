"""The law of one series along one axis, and the least-squares fits of the laws of several series together.

Two forms, both fitted to the logarithms of the mean losses of cells (series x level), weighted by their runs:

- a straight line in logarithms, ln L = ln A - alpha ln x, for which least squares is closed;
- with an irreducible loss E, which all series of a group share (`gains.common_offset`).

Shapes: B replicates, F series, N cells, P parameters, X values of x.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.gains.common_offset import columns_of, common_offset_law, of_series, starts
from analysis.laws.dense import POWER, POWER_WITH_OFFSET
from analysis.laws.law import Law
from analysis.solver.model import Model
from analysis.solver.newton import Problem, minimise
from analysis.solver.objective import objective_named

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SeriesFit:
    """`POWER` or `POWER_WITH_OFFSET` at its best parameters for one series."""

    law: Law
    theta: FloatArray
    """[P] in the solver's form: logarithms of E and A, then alpha."""
    num_runs: int

    @property
    def best(self) -> FloatArray:
        """The parameters as the one replicate, [1, P]."""
        return self.theta[None, :]

    def log_loss(self, theta_BP: FloatArray, x_X: FloatArray) -> FloatArray:
        """Natural logarithm of the loss under each parameter set, as [B, X]."""
        values = self.law.values(theta_BP)
        log_above_BX = np.log(values["A"])[:, None] - values["alpha"][:, None] * np.log(x_X)[None, :]
        if "E" not in values:
            return np.asarray(log_above_BX)
        return np.logaddexp(np.log(values["E"])[:, None], log_above_BX)

    def slope(self, theta_BP: FloatArray) -> FloatArray:
        """The exponent alpha as [B]: above zero where the loss falls with x."""
        return self.law.values(theta_BP)["alpha"]

    def log_reach(self, theta_BP: FloatArray, log_loss_B: FloatArray) -> FloatArray:
        """Logarithm of the x at which each parameter set reaches a loss, as [B]; infinite where it never does."""
        values = self.law.values(theta_BP)
        above_B = np.exp(log_loss_B) - values.get("E", np.zeros(len(theta_BP)))
        falls_B = (values["alpha"] > 0) & (above_B > 0)
        slope_B = np.where(falls_B, values["alpha"], 1.0)
        log_above_B = np.log(np.where(falls_B, above_B, 1.0))
        return np.where(falls_B, (np.log(values["A"]) - log_above_B) / slope_B, np.inf)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Mean log losses of the cells of some series."""

    series: IntArray
    """Numbered from 0."""
    log_x: FloatArray
    log_loss: FloatArray
    weight: FloatArray
    """Number of runs."""

    @property
    def num_series(self) -> int:
        """Number of different series."""
        return int(self.series.max()) + 1

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A straight line in logarithms for each series."""

    cells: Cells
    theta: FloatArray
    """[F, P], each in the solver's form of `law`."""
    law: Law = POWER

    @property
    def num_parameters(self) -> int:
        """Free parameters of all series together."""
        return self.theta.size

    def refit(self, log_loss_BN: FloatArray) -> FloatArray:
        """Parameters of every series for other losses, as [B, F, P]."""
        return _lines(self.cells, log_loss_BN)


@dataclass(frozen=True, kw_only=True)
class Offsets:
    """A power law with an irreducible loss for each series, which the series of a group share."""

    cells: Cells
    theta: FloatArray
    """[F, P], each in the solver's form of `law`."""
    problems: tuple[Problem, ...] = field(repr=False)
    """The joint least-squares problem of each group."""
    joint: tuple[FloatArray, ...] = field(repr=False)
    """Its solution, [P] each."""
    groups: tuple[tuple[int, ...], ...]
    """The series of each group, by number."""
    law: Law = POWER_WITH_OFFSET

    @property
    def num_parameters(self) -> int:
        """Free parameters of all series together."""
        return 2 * self.cells.num_series + len(self.groups)

    def refit(self, log_loss_BN: FloatArray) -> FloatArray:
        """Parameters of every series for other losses, as [B, F, P]; where the best E is below zero it is none."""
        found_BFP = np.empty((len(log_loss_BN), self.cells.num_series, 3))
        lines_BFP = _lines(self.cells, log_loss_BN)
        for problem, theta_P, group in zip(self.problems, self.joint, self.groups, strict=True):
            target_BN = log_loss_BN[:, np.isin(self.cells.series, group)]
            begin_BP = np.tile(theta_P, (len(target_BN), 1))
            theta_BP = minimise(replace(problem, target=target_BN), begin_BP).theta
            none_B = theta_BP[:, 0] <= 0
            for at, series in enumerate(group):
                found_BFP[:, series] = of_series(theta_BP, at)
                found_BFP[none_B, series, 1:] = lines_BFP[none_B, series]
        return found_BFP


def fitted(laws: Lines | Offsets) -> FloatArray:
    """Log loss of every cell under the laws, as [N]."""
    cells = laws.cells
    log_loss_N = np.empty(len(cells))
    for series, theta_P in enumerate(laws.theta):
        own_N = cells.series == series
        law = SeriesFit(law=laws.law, theta=theta_P, num_runs=0)
        log_loss_N[own_N] = law.log_loss(law.best, np.exp(cells.log_x[own_N]))[0]
    return log_loss_N


def misfit(laws: Lines | Offsets) -> float:
    """Weighted sum of squares of the cells about the laws, in log loss."""
    return float(laws.cells.weight @ (laws.cells.log_loss - fitted(laws)) ** 2)


def bend(lines: Lines, groups: tuple[tuple[int, ...], ...]) -> float:
    """By how much the misfit falls where each group may have an offset, to first order in it; 0 where one is negative.

    Rao's score test of E = 0: d ln(E + L) / dE = 1 / L at E = 0, so 1 / L joins the regression of ln L on ln x.
    """
    cells, root = lines.cells, np.sqrt(lines.cells.weight)
    columns = [np.exp(-fitted(lines)) * np.isin(cells.series, group) for group in groups]
    own = [cells.series == series for series in range(cells.num_series)]
    line_NP = np.stack([*own, *(one * cells.log_x for one in own)], axis=1) * root[:, None]
    bend_NG = np.stack(columns, axis=1) * root[:, None]
    # Frisch and Waugh 1933: what the lines explain is taken out of both sides.
    base_NP, _ = np.linalg.qr(line_NP)
    free_NG = bend_NG - base_NP @ (base_NP.T @ bend_NG)
    target_N = root * (cells.log_loss - fitted(lines))
    offset_G = np.linalg.lstsq(free_NG, target_N, rcond=None)[0]
    if (offset_G <= 0).any():
        return 0.0
    return float(((free_NG @ offset_G) ** 2).sum())


def fit_lines(cells: Cells) -> Lines:
    """A line a series. Raises FitError where all x of a series are equal."""
    for series in range(cells.num_series):
        x = np.unique(cells.log_x[cells.series == series])
        if len(x) < 2:
            raise FitError(f"a law needs at least two different values of x; all runs have {np.exp(x[0]):.3g}")
    return Lines(cells=cells, theta=_lines(cells, cells.log_loss[None, :])[0])


def fit_offsets(cells: Cells, groups: tuple[tuple[int, ...], ...]) -> Offsets | None:
    """A law with an irreducible loss a series; None where some group's losses bend the wrong way for one."""
    problems, joint, theta_FP = [], [], np.empty((cells.num_series, 3))
    for group in groups:
        own_N = np.isin(cells.series, group)
        number_N = np.searchsorted(np.array(group), cells.series[own_N]).astype(np.int64)
        columns = columns_of(number_N, np.exp(cells.log_x[own_N]), len(group))
        lowest = -float(np.exp(cells.log_loss.min()))
        problem = Problem(
            model=Model(common_offset_law(len(group), lowest), columns, log=True),
            objective=objective_named("log_lsq"),
            target=cells.log_loss[own_N][None, :],
            weights=cells.weight[own_N][None, :],
        )
        found = minimise(problem, starts(len(group), columns, np.exp(cells.log_loss[own_N])))
        theta_P = found.theta[int(np.argmin(found.value))]
        if theta_P[0] <= 0:
            return None
        problems.append(problem)
        joint.append(theta_P)
        for at, series in enumerate(group):
            theta_FP[series] = of_series(theta_P[None, :], at)[0]
    return Offsets(cells=cells, theta=theta_FP, problems=tuple(problems), joint=tuple(joint), groups=groups)


def _lines(cells: Cells, log_loss_BN: FloatArray) -> FloatArray:
    """The parameters ln A and alpha of every series by weighted least squares, as [B, F, 2]."""
    found_BFP = np.empty((len(log_loss_BN), cells.num_series, 2))
    for series in range(cells.num_series):
        own_N = cells.series == series
        weight_N, log_x_N = cells.weight[own_N], cells.log_x[own_N]
        centre = float(np.average(log_x_N, weights=weight_N))
        away_N = weight_N * (log_x_N - centre)
        alpha_B = -(log_loss_BN[:, own_N] @ away_N) / float(away_N @ (log_x_N - centre))
        mean_B = log_loss_BN[:, own_N] @ weight_N / weight_N.sum()
        found_BFP[:, series] = np.stack([mean_B + alpha_B * centre, alpha_B], axis=1)
    return found_BFP
