"""Profile likelihood: the best objective with one parameter held, all others free.

Decides how far a parameter may move before the data object: to where the likelihood ratio passes the quantile of
F(1, d), d the degrees of freedom of the noise (the square of Student's t; Bates and Watts 1988, section 6.1.2). Where
runs come in groups, the ratio of each parameter is scaled by its variance as independent runs over its variance by
groups (Chandler and Bate 2007, equation 9). The ratio is n ln(S/S_min) for least squares, 2 n ln(S/S_min) for least
absolute deviations (a Laplace density of unknown scale), 2 (O - O_min) for the likelihood with free scale, and for
Huber's objective 2 (O - O_min) sum psi' / sum psi^2, which is the ratio calibrated to the residuals at hand
(Schrader and Hettmansperger 1980).

Refuses an asymmetric objective, which is no likelihood. Shapes: B replicates, P parameters, V values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, stdtrit

from analysis.errors import FitError
from analysis.inference.result import Fit
from analysis.inference.sandwich import covariance, scores
from analysis.interval import ConfidenceInterval
from analysis.solver.newton import Problem, minimise

FloatArray = npt.NDArray[np.float64]

_RUNGS = 8
"""Steps on the way to a bound, each started from the one before."""
_SIGMAS = 6.0
"""A bound farther than this many standard errors is not reached, and is not tried."""
_MAX_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A parameter's held values as people write them [V], and the likelihood ratio at each [V]."""

    name: str
    values: FloatArray
    ratio: FloatArray
    theta: FloatArray
    """All parameters at each held value, [V, P], in the solver's form."""
    ci80: ConfidenceInterval
    ci95: ConfidenceInterval


def ratio(problem: Problem, theta_P: FloatArray, log_scale: float | None, best: float, value: FloatArray) -> FloatArray:
    """The likelihood ratio statistic of objectives `value` against the least one."""
    kind = problem.objective.kind
    num = float(np.count_nonzero(problem.weights[0]))
    rise = np.maximum(value - best, 0.0)
    if kind in ("squares", "absolute", "asymmetric"):
        floor = max(best, 1e-300)
        with np.errstate(over="ignore"):  # an optimum without any noise: every rise is endlessly unlikely
            return np.asarray((1.0 if kind == "squares" else 2.0) * num * np.log1p(rise / floor))
    if kind == "free_huber":
        return np.asarray(2.0 * rise)
    psi_N, bend_N = scores(problem, problem.residuals(theta_P[None, :])[0], log_scale)
    weights_N = problem.weights[0]
    return np.asarray(2.0 * rise * float(weights_N @ bend_N) / max(float(weights_N @ (psi_N * psi_N)), 1e-300))


def profile(fit: Fit, name: str, *, num: int = 40, level: float = 0.995) -> Profile:
    """Walk from the optimum to both sides until the ratio passes `level`'s quantile or the bound is reached."""
    if fit.objective.kind == "asymmetric":
        raise FitError(
            f"objective {fit.objective.name} is no likelihood and has no profile; take its bootstrap, or a symmetric"
            " objective"
        )
    index = fit.law.index(name)
    if name in fit.fixed:
        raise FitError(f"{name} was fixed in this fit: it has no profile")
    goal = threshold(fit.degrees, level) / _group_factor(fit, index)
    width = max(math.sqrt(max(float(fit.covariance[index, index]), 0.0)), 1e-6 * max(1.0, abs(fit.theta[index])))
    sides = [_walk_out(fit, index, sign, width, goal, num // 2) for sign in (-1.0, 1.0)]
    theta_VP = np.concatenate([sides[0][0][::-1], fit.theta[None, :], sides[1][0]])
    ratio_V = np.concatenate([sides[0][1][::-1], [0.0], sides[1][1]])
    ratio_V = ratio_V * _group_factor(fit, index)
    inner_V = theta_VP[:, index]
    parameter = fit.law.parameters[index]
    ends = {part: _crossings(inner_V, ratio_V, threshold(fit.degrees, part)) for part in (0.8, 0.95)}
    outer = {
        part: (
            parameter.lower if math.isinf(lower) else float(parameter.outer(np.array(lower))),
            parameter.upper if math.isinf(upper) else float(parameter.outer(np.array(upper))),
        )
        for part, (lower, upper) in ends.items()
    }
    return Profile(
        name=name,
        values=parameter.outer(inner_V),
        ratio=ratio_V,
        theta=theta_VP,
        ci80=ConfidenceInterval(*outer[0.8]),
        ci95=ConfidenceInterval(*outer[0.95]),
    )


def threshold(degrees: int, level: float = 0.95) -> float:
    """The quantile that the ratio is held against: F(1, degrees), and chi-squared(1) without degrees of freedom."""
    return float(stdtrit(degrees, 0.5 + level / 2.0)) ** 2 if degrees >= 1 else float(chdtri(1, 1.0 - level))


def _group_factor(fit: Fit, index: int) -> float:
    """Variance of the parameter as independent runs over its variance by groups; 1 without groups."""
    grouped = float(fit.covariance[index, index])
    if fit.clusters is None or grouped <= 0:
        return 1.0
    free_P = fit.covariance.diagonal() > 0
    return float(covariance(fit.problem, fit.theta, free_P, log_scale=fit.log_scale)[index, index]) / grouped


def _walk_out(fit: Fit, index: int, sign: float, width: float, goal: float, num: int) -> tuple[FloatArray, FloatArray]:
    """One side: steps of a quarter of the standard error that grow, each started from the one before."""
    model = fit.problem.model
    bound = float((model.lower if sign < 0 else model.upper)[index])
    held_P = _held(fit)
    held_P[index] = True
    theta_P, step = fit.theta.copy(), 0.25 * width
    found, ratios = [], []
    for _ in range(num):
        theta_P[index] = max(theta_P[index] - step, bound) if sign < 0 else min(theta_P[index] + step, bound)
        solution = minimise(fit.problem, theta_P[None, :], held_P=held_P, max_steps=_MAX_STEPS)
        theta_P = solution.theta[0].copy()
        found.append(theta_P.copy())
        ratios.append(float(ratio(fit.problem, fit.theta, fit.log_scale, fit.value, solution.value)[0]))
        if ratios[-1] > goal or theta_P[index] == bound:
            break
        step *= 1.0 if ratios[-1] > 0.05 * goal * len(ratios) else 1.8
    return np.array(found).reshape(-1, len(theta_P)), np.array(ratios)


def _held(fit: Fit) -> npt.NDArray[np.bool_]:
    return np.array([name in fit.fixed for name in fit.law.names])


def _crossings(inner_V: FloatArray, ratio_V: FloatArray, goal: float) -> ConfidenceInterval:
    """Where the root of the ratio, nearly straight on each side, crosses the root of the goal."""
    best = int(np.argmin(ratio_V))
    ends = []
    for side in (slice(best, None, -1), slice(best, None)):
        at, root = inner_V[side], np.sqrt(ratio_V[side])
        above = np.flatnonzero(root > math.sqrt(goal))
        if len(above) == 0:
            ends.append(math.inf)
            continue
        j = int(above[0])
        share = (math.sqrt(goal) - root[j - 1]) / (root[j] - root[j - 1])
        ends.append(float(at[j - 1] + share * (at[j] - at[j - 1])))
    return ConfidenceInterval(-math.inf if math.isinf(ends[0]) else ends[0], ends[1])


@dataclass(frozen=True, kw_only=True)
class UnidentifiedSides:
    """What a walk to the bounds finds: per parameter, whether the data allow its lower and its upper bound."""

    sides: dict[str, tuple[bool, bool]]
    at_bound: frozenset[str]
    """Parameters whose bound is as good as the optimum."""


def unidentified_sides(
    problem: Problem,
    theta_P: FloatArray,
    value: float,
    log_scale: float | None,
    covariance_PP: FloatArray,
    fixed: tuple[str, ...],
    degrees: int,
) -> UnidentifiedSides:
    """Hold each parameter whose bound is near at that bound: where the 95 % ratio is not passed, the side is open."""
    law, model = problem.model.law, problem.model
    se_P = np.sqrt(np.maximum(np.diag(covariance_PP), 0.0))
    trials: list[tuple[int, int, float]] = []
    for index, name in enumerate(law.names):
        for side, bound in enumerate((model.lower[index], model.upper[index])):
            far = abs(bound - theta_P[index]) > _SIGMAS * se_P[index] > 0
            if name not in fixed and not far:
                trials.append((index, side, float(bound)))
    if not trials:
        return UnidentifiedSides(sides={}, at_bound=frozenset())
    held_BP = np.tile(np.array([name in fixed for name in law.names]), (len(trials), 1))
    theta_BP = np.tile(theta_P, (len(trials), 1))
    rows, columns = np.arange(len(trials)), np.array([index for index, _, _ in trials])
    held_BP[rows, columns] = True
    bounds_B = np.array([bound for _, _, bound in trials])
    for rung in range(1, _RUNGS + 1):
        share = rung / _RUNGS
        theta_BP[rows, columns] = theta_P[columns] + share * (bounds_B - theta_P[columns])
        solution = minimise(problem, theta_BP, held_P=held_BP, max_steps=_MAX_STEPS)
        theta_BP = solution.theta.copy()
    ratio_B = ratio(problem, theta_P, log_scale, value, solution.value)
    sides: dict[str, tuple[bool, bool]] = {}
    at_bound = set()
    limit = threshold(degrees)
    for (index, side, _), found in zip(trials, ratio_B, strict=True):
        name = law.names[index]
        lower, upper = sides.get(name, (False, False))
        is_open = bool(found < limit)
        sides[name] = (lower or (is_open and side == 0), upper or (is_open and side == 1))
        if found < 1e-4:
            at_bound.add(name)
    return UnidentifiedSides(
        sides={name: pair for name, pair in sides.items() if any(pair)}, at_bound=frozenset(at_bound)
    )
