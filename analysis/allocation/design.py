"""The next runs that would narrow an interval most for given FLOPs, by the fit at hand.

The interval is that of ln N* at a target number of FLOPs. With J the derivatives of ln L at the runs, s^2 the variance
of a residual and V = s^2 (J'J)^-1, a run with derivatives j takes (g'Vj)^2 / (s^2 + j'Vj) off the variance g'Vg of a
quantity with derivatives g (the rank-one update of V). Runs are taken greedily from a grid of FLOPs and tokens per
parameter: those that gain most per FLOP, or those that gain most for an equal share of the budget, whichever leaves the
narrower interval in the end. Decides nothing about whether the law holds outside its data: a design is only as good as
its law, and its widths are those of that law with the scatter of most of its runs.
Refuses a law that is no law of N and D, and a fit whose parameters the data do not determine.

Shapes: N runs, P parameters, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.allocation.parametric import FLOPS_PER_PARAM_TOKEN, allocates, best_params
from analysis.errors import FitError
from analysis.inference.result import Fit
from analysis.solver.model import Model

FloatArray = npt.NDArray[np.float64]

RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Tokens per parameter of the candidates."""
NUM_BUDGETS = 13
_STEP = 1e-5


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """One run to train."""

    flops: float
    params: float
    tokens: float
    half_width: float
    """Of the 95 % interval of ln N* at the target once this run and those before it are there."""

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params


@dataclass(frozen=True, kw_only=True)
class Design:
    """Runs in the order in which they pay."""

    target_flops: float
    half_width_now: float
    runs: tuple[NextRun, ...]

    @property
    def flops(self) -> float:
        return sum(one.flops for one in self.runs)


def design(fit: Fit, *, target_flops: float, budget_flops: float, most_runs: int = 12) -> Design:
    """Spend at most `budget_flops` on up to `most_runs` runs. Raises FitError."""
    if not allocates(fit):
        read = ", ".join(column.name for column in fit.law.columns)
        raise FitError(f"law {fit.law.name} reads {read}: a design needs a law of N and D alone")
    for name, value in (("target", target_flops), ("budget", budget_flops)):
        if not (math.isfinite(value) and value > 0):
            raise FitError(f"the {name} must be a number of FLOPs above 0; given {value:g}")
    weak = [name for name in fit.law.names if name in fit.at_bound]
    if weak:
        raise FitError(f"the data do not determine {', '.join(weak)}: fix it, or take a law without it")
    jacobian_NP = _slopes(fit, fit.columns)
    residual_N = np.log(fit.predict(fit.columns) / fit.loss)
    # The median absolute residual, as the spread of a normal one: outliers do not make the noise of the next run.
    spread = float(np.median(np.abs(residual_N))) / 0.6745
    noise = max(spread, 1e-6) ** 2
    free = [name not in fit.fixed for name in fit.law.names]
    information = jacobian_NP[:, free].T @ jacobian_NP[:, free]
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    covariance = noise * np.linalg.pinv(information / scale[:, None] / scale, rcond=1e-13, hermitian=True)
    covariance = covariance / scale[:, None] / scale
    goal = _goal(fit, target_flops)[free]
    flops_K, params_K = _candidates(fit, budget_flops)
    tokens_K = flops_K / FLOPS_PER_PARAM_TOKEN / params_K
    slopes_KP = _slopes(fit, {"N": params_K, "D": tokens_K})[:, free]
    now = _half_width(goal, covariance)
    ways = [
        _greedy(flops_K, slopes_KP, goal, covariance, noise, budget_flops, most_runs, shared)
        for shared in (False, True)
    ]
    # Gained per FLOP the cheapest runs come first, and `most_runs` of them may leave most of the budget unspent.
    picked = min(ways, key=lambda way: way[-1][1] if way else math.inf)
    if not picked:
        raise FitError(f"{budget_flops:.3g} FLOPs are less than the cheapest candidate ({flops_K.min():.3g})")
    runs = tuple(
        NextRun(flops=float(flops_K[k]), params=float(params_K[k]), tokens=float(tokens_K[k]), half_width=width)
        for k, width in picked
    )
    return Design(target_flops=target_flops, half_width_now=now, runs=runs)


def _greedy(
    flops_K: FloatArray,
    slopes_KP: FloatArray,
    goal: FloatArray,
    covariance: FloatArray,
    noise: float,
    budget: float,
    most_runs: int,
    shared: bool,
) -> list[tuple[int, float]]:
    """Candidates in the order they are taken, each with the half width it leaves: the one that gains most per FLOP, or
    (`shared`) the one that gains most of those that cost no more than an equal share of what is left."""
    left, picked = budget, list[tuple[int, float]]()
    while len(picked) < most_runs:
        lever_KP = slopes_KP @ covariance
        gained_K = (lever_KP @ goal) ** 2 / (noise + np.einsum("kp,kp->k", lever_KP, slopes_KP))
        most = left / (most_runs - len(picked)) if shared else left
        worth_K = np.where(flops_K <= most * (1 + 1e-9), gained_K if shared else gained_K / flops_K, -np.inf)
        best = int(np.argmax(worth_K))
        if not worth_K[best] > 0:
            break
        lever = lever_KP[best]
        covariance = covariance - np.outer(lever, lever) / (noise + float(lever @ slopes_KP[best]))
        left -= float(flops_K[best])
        picked.append((best, _half_width(goal, covariance)))
    return picked


def _candidates(fit: Fit, budget: float) -> tuple[FloatArray, FloatArray]:
    """FLOPs and parameters of every pair on the grid, from the runs' least FLOPs to the budget."""
    least = FLOPS_PER_PARAM_TOKEN * float((fit.columns["N"] * fit.columns["D"]).min())
    flops = np.geomspace(min(least, budget), budget, NUM_BUDGETS)
    flops_K, ratio_K = (grid.ravel() for grid in np.meshgrid(flops, RATIOS, indexing="ij"))
    return flops_K, np.sqrt(flops_K / (FLOPS_PER_PARAM_TOKEN * ratio_K))


def _slopes(fit: Fit, columns: Mapping[str, FloatArray]) -> FloatArray:
    """d ln L / d theta at runs with these columns, [N, P]."""
    model = Model(fit.law, columns, log=True)
    slopes: FloatArray = model.at(fit.theta[None, :]).gradients()[0]
    return slopes


def _goal(fit: Fit, flops: float) -> FloatArray:
    """d ln N* / d theta at the target, by central differences, [P]."""
    steps = np.diag(_STEP * np.maximum(1.0, np.abs(fit.theta)))
    around = np.concatenate([fit.theta + steps, fit.theta - steps])
    best = np.log(best_params(fit, around, np.array([flops]))[:, 0])
    num = len(fit.theta)
    slopes: FloatArray = (best[:num] - best[num:]) / (2.0 * np.diag(steps))
    return slopes


def _half_width(goal: FloatArray, covariance: FloatArray) -> float:
    return 1.96 * math.sqrt(max(float(goal @ covariance @ goal), 0.0))
