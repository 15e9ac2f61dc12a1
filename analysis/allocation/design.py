"""The next runs that would narrow an interval most for given FLOPs, by the fit at hand: a sequential c-optimal design.

The interval is that of ln N* at a target number of FLOPs; g are the derivatives of ln N* by the law's coefficients.

1. With J the derivatives of ln L at the runs and s^2 the variance of a residual, V = s^2 (J'J)^-1 is the covariance of
   the coefficients; of runs in clusters (checkpoints of one run) it is the sandwich covariance of the fit.
2. A run with derivatives j and residual variance v takes (g'Vj)^2 / (v + j'Vj) off the variance g'Vg (the rank-one
   update of V; Atkinson, Donev and Tobias 2007, section 11.5). Each run added changes V, and with it what the next
   one is worth.
3. Runs are taken greedily from a grid of FLOPs and tokens per parameter, each of them once: half of the residual
   variance is counted as misfit of the law at a setting, which more seeds do not average out and another setting does,
   so v = s^2 (1/2 + 1/(2 m)) with m seeds each. Two orders are tried, most gained per FLOP and most gained for an equal
   share of the budget; the narrower interval in the end wins.

A design is only as good as its law, and nothing here says that the law holds outside its data. Refuses a law that is
no law of N and D, and a fit whose coefficients the data do not determine.

Shapes: N runs, P free coefficients, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.allocation.parametric import FLOPS_PER_PARAM_TOKEN, allocates, best_params
from analysis.errors import FitError
from analysis.inference.result import Fit
from analysis.result import Result
from analysis.solver.model import Model

FloatArray = npt.NDArray[np.float64]

RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Tokens per parameter of the candidates: sizes at one number of FLOPs differ by at least a factor of 1.4."""
NUM_BUDGETS = 13
MISFIT_SHARE = 0.5
"""Of the residual variance, which belongs to the setting and not to the seed."""
_STEP = 1e-5
_ROUNDING = 0.005
"""Relative: a budget that was rounded to three digits is enough."""


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """One setting to train, once for each seed."""

    flops: float
    """Of one seed."""
    params: float
    tokens: float
    seeds: tuple[int, ...]
    half_width: float
    """Of the 95 % interval of ln N* at the target once these runs and those before them are there."""

    @property
    def tokens_per_param(self) -> float:
        """D / N."""
        return self.tokens / self.params


@dataclass(frozen=True, kw_only=True, repr=False)
class Design(Result):
    """Different settings, in the order in which they narrow the interval most."""

    target_flops: float
    half_width_now: float
    runs: tuple[NextRun, ...]

    @property
    def flops(self) -> float:
        """Of all runs and seeds."""
        return sum(one.flops * len(one.seeds) for one in self.runs)

    def to_frame(self) -> pd.DataFrame:
        """One row a run: FLOPs, parameters, tokens, seed, and the half width of ln N* once its setting is trained."""
        rows = [
            (one.flops, one.params, one.tokens, one.tokens_per_param, seed, one.half_width)
            for one in self.runs
            for seed in one.seeds
        ]
        return pd.DataFrame(rows, columns=["flops", "params", "tokens", "tokens_per_param", "seed", "half_width"])

    def summary(self) -> str:
        """How well the optimum is known now, and after each setting."""
        now = math.exp(self.half_width_now)
        lines = [
            f"the optimal N at {formatting.power(self.target_flops)} FLOPs is known to a factor of {now:.3g} (95 %)"
        ]
        lines += [
            f"  {formatting.power(one.flops)} FLOPs: N {formatting.count(one.params)}, D {formatting.count(one.tokens)}"
            f" ({formatting.significant(one.tokens_per_param)} tokens per parameter), seeds"
            f" {', '.join(str(seed) for seed in one.seeds)}: then to a factor of {math.exp(one.half_width):.3g}"
            for one in self.runs
        ]
        return "\n".join([*lines, f"in all {formatting.power(self.flops)} FLOPs"])


def next_runs(fit: Fit, *, target_flops: float, budget_flops: float, most_runs: int = 12, num_seeds: int = 1) -> Design:
    """Spend at most `budget_flops` on up to `most_runs` settings.

    Args:
        fit: the law of N and D at hand.
        target_flops: FLOPs whose optimal N the interval is of.
        budget_flops: FLOPs to spend in all.
        most_runs: at most so many settings.
        num_seeds: runs of each setting, with the seeds 0, 1, ...

    Raises:
        FitError: a law of other columns, coefficients that the data do not determine, or a budget below the FLOPs of
            the table's cheapest run, for each seed.
    """
    _check(fit, target_flops, budget_flops, most_runs, num_seeds)
    free = np.array([name not in fit.fixed for name in fit.law.names])
    residual_N = np.log(fit.predict(fit.columns) / fit.loss)
    # The median absolute residual, as the spread of a normal one: outliers do not make the noise of the next run.
    variance = max(float(np.median(np.abs(residual_N))) / 0.6745, 1e-6) ** 2
    covariance = _covariance(fit, free, variance)
    goal = _goal(fit, target_flops)[free]
    flops_K, params_K = _candidates(_least_flops(fit), budget_flops / num_seeds)
    tokens_K = flops_K / FLOPS_PER_PARAM_TOKEN / params_K
    slopes_KP = _slopes(fit, {"N": params_K, "D": tokens_K})[:, free]
    noise = variance * (MISFIT_SHARE + (1.0 - MISFIT_SHARE) / num_seeds)
    ways = [
        _greedy(flops_K * num_seeds, slopes_KP, goal, covariance, noise, budget_flops, most_runs, shared)
        for shared in (False, True)
    ]
    # Gained per FLOP the cheapest runs come first, and `most_runs` of them may leave most of the budget unspent.
    picked = min(ways, key=lambda way: way[-1][1] if way else math.inf)
    if not picked:
        raise FitError("no further run of N and D narrows the interval: the law's coefficients are known exactly")
    runs = tuple(
        NextRun(flops=float(flops_K[k]), params=float(params_K[k]), tokens=float(tokens_K[k]),
                seeds=tuple(range(num_seeds)), half_width=width)
        for k, width in picked
    )  # fmt: skip
    return Design(target_flops=target_flops, half_width_now=_half_width(goal, covariance), runs=runs)


def _check(fit: Fit, target: float, budget: float, most_runs: int, num_seeds: int) -> None:
    """Raises FitError."""
    if not allocates(fit):
        read = ", ".join(column.name for column in fit.law.columns)
        raise FitError(f"law {fit.law.name} reads {read}: a design needs a law of N and D alone")
    for name, value in (("target", target), ("budget", budget)):
        if not (math.isfinite(value) and value > 0):
            raise FitError(f"the {name} must be a number of FLOPs above 0; given {value:g}")
    for name, number in (("runs", most_runs), ("seeds", num_seeds)):
        if number < 1:
            raise FitError(f"a design has at least one of {name}; given {number}")
    least = _least_flops(fit) * num_seeds
    if budget < least * (1 - _ROUNDING):
        each = "" if num_seeds == 1 else f" with {num_seeds} seeds"
        raise FitError(
            f"a budget of {budget:.3g} FLOPs holds no run: the smallest candidate{each} has the"
            f" {least:.3g} FLOPs of the"
            f" table's cheapest run. Give at least {least:.3g} FLOPs"
        )
    weak = [name for name in fit.law.names if name in fit.at_bound]
    if weak:
        raise FitError(f"the data do not determine {', '.join(weak)}: fix it, or take a law without it")


def _covariance(fit: Fit, free: npt.NDArray[np.bool_], variance: float) -> FloatArray:
    """Of the free coefficients."""
    if fit.clusters is not None:
        return np.asarray(fit.covariance[np.ix_(free, free)])
    jacobian_NP = _slopes(fit, fit.columns)[:, free]
    information = jacobian_NP.T @ (jacobian_NP * fit.problem.weights[0][:, None])
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    covariance = variance * np.linalg.pinv(information / scale[:, None] / scale, rcond=1e-13, hermitian=True)
    return np.asarray(covariance / scale[:, None] / scale)


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
    """Candidates in the order they are taken, each once, with the half width that each leaves.

    Each time the candidate with the largest gain per FLOP is taken; with `shared`, the candidate with the largest gain
    of those that cost no more than an equal share of the budget that is left.
    """
    left, picked = budget, list[tuple[int, float]]()
    open_K = np.ones(len(flops_K), dtype=bool)
    while len(picked) < most_runs:
        lever_KP = slopes_KP @ covariance
        gained_K = (lever_KP @ goal) ** 2 / (noise + np.einsum("kp,kp->k", lever_KP, slopes_KP))
        most = left / (most_runs - len(picked)) if shared else left
        is_possible_K = open_K & (flops_K <= most * (1 + 1e-9))
        worth_K = np.where(is_possible_K, gained_K if shared else gained_K / flops_K, -np.inf)
        best = int(np.argmax(worth_K))
        if not worth_K[best] > 0:
            break
        lever = lever_KP[best]
        covariance = covariance - np.outer(lever, lever) / (noise + float(lever @ slopes_KP[best]))
        left -= float(flops_K[best])
        open_K[best] = False
        picked.append((best, _half_width(goal, covariance)))
    return picked


def _least_flops(fit: Fit) -> float:
    """Training FLOPs of the cheapest run, which is the cheapest candidate."""
    return FLOPS_PER_PARAM_TOKEN * float((fit.columns["N"] * fit.columns["D"]).min())


def _candidates(least: float, budget: float) -> tuple[FloatArray, FloatArray]:
    """FLOPs and parameters of every pair on the grid, from `least` FLOPs to the budget."""
    flops = np.geomspace(min(least, budget), budget, NUM_BUDGETS)
    flops_K, ratio_K = (grid.ravel() for grid in np.meshgrid(flops, RATIOS, indexing="ij"))
    return flops_K, np.sqrt(flops_K / (FLOPS_PER_PARAM_TOKEN * ratio_K))


def _slopes(fit: Fit, columns: Mapping[str, FloatArray]) -> FloatArray:
    """Slopes d ln L / d theta at runs with these columns, [N, P]."""
    model = Model(fit.law, columns, log=True)
    slopes: FloatArray = model.at(fit.theta[None, :]).gradients()[0]
    return slopes


def _goal(fit: Fit, flops: float) -> FloatArray:
    """Slopes d ln N* / d theta at the target, by central differences, [P]."""
    steps = np.diag(_STEP * np.maximum(1.0, np.abs(fit.theta)))
    around = np.concatenate([fit.theta + steps, fit.theta - steps])
    best = np.log(best_params(fit, around, np.array([flops]))[:, 0])
    num = len(fit.theta)
    slopes: FloatArray = (best[:num] - best[num:]) / (2.0 * np.diag(steps))
    return slopes


def _half_width(goal: FloatArray, covariance: FloatArray) -> float:
    return 1.96 * math.sqrt(max(float(goal @ covariance @ goal), 0.0))
