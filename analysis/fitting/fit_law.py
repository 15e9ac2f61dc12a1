"""`fit_law`: a law fitted to a table at its global optimum, with diagnostics and unidentified parameters.

Decides that the best of many polished starts is the optimum and says how many reach it; that other optima are shown;
and that what the data do not determine is marked. Refuses tables that no law can be fitted to: fewer points than
parameters, values that are not numbers, equal losses, a column the law reads with one value only.

Shapes: N runs, P parameters, S starts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting import diagnostics
from analysis.inference.bootstrap import bootstrap as bootstrap_of
from analysis.inference.bootstrap import group_codes
from analysis.inference.identification import undetermined
from analysis.inference.profile import unidentified_sides
from analysis.inference.residual_bootstrap import default_replicates
from analysis.inference.result import Fit, LocalOptimum, Starts
from analysis.inference.sandwich import covariance
from analysis.laws.constraints import bounded, held
from analysis.laws.constraints import tied as tie_parameters
from analysis.laws.law import Law
from analysis.laws.registry import law_of
from analysis.solver import starting_points
from analysis.solver.model import Model
from analysis.solver.newton import Problem, Solution, minimise
from analysis.solver.objective import Objective, objective_named

FloatArray = npt.NDArray[np.float64]

NUM_STARTS = 16
NUM_STARTS_OF_JETS = 32
"""For a law that is no sum of powers: more valleys, and a thinner grid."""
SAME_OPTIMUM = 1e-6
"""Two starts reached one optimum where their objectives differ by less than this, relative."""
PART = 20_000
"""Rows of a larger table on which starts are polished first."""
_MAX_LOCAL_OPTIMA = 3


def fit_law(
    law: Law | str,
    columns: Mapping[str, npt.ArrayLike],
    loss: npt.ArrayLike,
    *,
    objective: str | Objective = "log_huber",
    delta: float | None = None,
    weights: npt.ArrayLike | None = None,
    stderr: npt.ArrayLike | None = None,
    fixed: Mapping[str, float] | None = None,
    tied: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    num_starts: int | None = None,
    bootstrap: int = 0,
    cluster: str | None = None,
    clusters: Sequence[object] | npt.NDArray[np.generic] | None = None,
    seed: int = 0,
) -> Fit:
    """Fit `law` to `loss` over `columns`, all arrays of N runs; `analysis.fit` does the same for a table.

    Args:
        law: A law, or the name of one.
        columns: Arrays [N] by the law's own names of them.
        loss: What is fitted [N], as a rule in nats per token.
        objective: What is minimised, such as 'log_huber' or 'log_lsq' (`OBJECTIVES`).
        delta: Of a Huber objective.
        weights: Of the runs [N]; inverse variances up to a factor.
        stderr: Standard error of each loss [N], in its unit; gives the weights in their place.
        fixed: Parameters held at values as people write them.
        tied: Parameters that have another's value, such as {"alpha": "beta"}.
        bounds: Bounds in the place of the law's.
        num_starts: Starting points that are polished (default 16, or 32 for a law that is no sum of powers).
        bootstrap: Refits to resampled runs (or groups); with 0 intervals come from `default_replicates`.
        cluster: Name of the groups, or the column that gives them.
        clusters: The group of each run [N]; runs of one group, such as checkpoints of a run, are not independent.
        seed: Of everything that is resampled.

    Raises:
        FitError: The table is too small or holds values that the law cannot take, or a choice is not possible.
    """
    begun = time.perf_counter()
    law = law_of(law)
    fixed = fixed or {}
    law = held(tie_parameters(bounded(law, bounds or {}), tied or {}), fixed)
    objective = objective_named(objective, delta) if isinstance(objective, str) else objective
    weights = diagnostics.inverse_variances(loss, stderr, weights, objective) if stderr is not None else weights
    points = diagnostics.points(law, columns, loss, weights, objective, fixed)
    codes_N = group_codes(len(points.loss), points.columns, cluster, clusters)
    problem = Problem(
        model=Model(law, points.columns, log=objective.log),
        objective=objective,
        target=(np.log(points.loss) if objective.log else points.loss)[None, :],
        weights=points.weights[None, :],
    )
    found = _optimum(problem, points, fixed, codes_N, num_starts)
    found = replace(found, cluster_name=cluster, resample=partial(default_replicates, seed=seed))
    if bootstrap:
        found = found.with_replicates(bootstrap_of(found, num=bootstrap, seed=seed))
        found = replace(found, warnings=(*found.warnings, *diagnostics.warnings_of_replicates(found)))
    return replace(found, seconds=time.perf_counter() - begun)


NUM_STARTS_OF_PART = 4


def refit_part(fit: Fit, kept_N: npt.NDArray[np.bool_]) -> FloatArray:
    """The parameters [P] of the same law at its optimum for some of the fit's runs, without diagnostics.

    For the many fits of a cross-validation: the starts are the optima of the whole fit and `NUM_STARTS_OF_PART` of the
    part's own.

    Raises:
        FitError: The part has fewer runs than free parameters, or no start has a finite prediction.
    """
    if int(kept_N.sum()) < fit.num_free:
        raise FitError(f"{int(kept_N.sum())} runs for {fit.num_free} free parameters of law {fit.law.name}")
    columns, loss_N = {name: values[kept_N] for name, values in fit.columns.items()}, fit.loss[kept_N]
    part = Problem(
        model=Model(fit.law, columns, log=fit.objective.log),
        objective=fit.objective,
        target=fit.problem.target[:, kept_N],
        weights=fit.problem.weights[:, kept_N],
    )
    values = fit.values
    fixed = {name: values[name] for name in fit.fixed}
    own = starting_points.starts(
        part.model, columns, loss_N, part.weights[0], num=NUM_STARTS_OF_PART, fixed=fixed
    )  # fmt: skip
    theta_SP = np.concatenate([fit.theta[None, :], *(np.array(one.theta)[None, :] for one in fit.local_optima), own])
    held_P = np.array([name in fit.fixed for name in fit.law.names])
    solution = minimise(part, theta_SP, held_P=held_P)
    if not np.isfinite(solution.value).any():
        raise FitError(f"law {fit.law.name} gives no finite prediction for the runs that were kept")
    theta_P: FloatArray = solution.theta[int(np.argmin(solution.value))]
    return theta_P


def _optimum(
    problem: Problem,
    points: diagnostics.FitInputs,
    fixed: Mapping[str, float],
    codes_N: npt.NDArray[np.intp] | None,
    num_starts: int | None,
) -> Fit:
    """The best of the polished starts, and what the table does not determine there."""
    model, law = problem.model, problem.model.law
    num = num_starts or (NUM_STARTS if model.design else NUM_STARTS_OF_JETS)
    held_P = np.array([name in fixed for name in law.names])
    theta_SP = starting_points.starts(model, points.columns, points.loss, points.weights, num=num, fixed=fixed)
    solution = minimise(problem, _nearer(model, problem, points, theta_SP, held_P), held_P=held_P)
    if not np.isfinite(solution.value).any():
        raise FitError(f"law {law.name} gives no finite prediction at any of {len(theta_SP)} starts: check the columns")
    best = int(np.argmin(solution.value))
    theta_P, value = solution.theta[best], float(solution.value[best])
    log_scale = None if solution.log_scale is None else float(solution.log_scale[best])
    at_P = np.isclose(theta_P, model.lower, rtol=0, atol=1e-9) | np.isclose(theta_P, model.upper, rtol=0, atol=1e-9)
    covariance_PP = covariance(problem, theta_P, ~(held_P | at_P), log_scale=log_scale, clusters_N=codes_N)
    groups = np.count_nonzero(problem.weights[0]) if codes_N is None else len(np.unique(codes_N))
    degrees = int(groups) - int((~held_P).sum())
    open_ = unidentified_sides(problem, theta_P, value, log_scale, covariance_PP, tuple(fixed), degrees)
    at_bound = open_.at_bound | {name for name, at in zip(law.names, at_P & ~held_P, strict=True) if at}
    same_S = _same(problem, solution.value, value)
    starts = Starts(num=len(theta_SP), share_at_best=float(same_S.mean()))
    found = Fit(
        law=law,
        objective=problem.objective,
        value=value,
        theta=theta_P,
        log_scale=log_scale,
        problem=problem,
        columns=points.columns,
        loss=points.loss,
        fixed=tuple(fixed),
        starts=starts,
        local_optima=_local_optima(law, problem, solution, same_S),
        covariance=covariance_PP,
        at_bound=at_bound,
        unidentified_sides=open_.sides,
        undetermined=frozenset(),
        warnings=points.warnings,
        clusters=codes_N,
        seconds=0.0,
    )
    lost = undetermined(problem, points.columns, theta_P, ~held_P, at_bound, found.degrees)
    more = diagnostics.warnings(problem, bool(solution.converged[best]), starts, open_, at_bound, lost)
    return replace(found, undetermined=lost, warnings=(*points.warnings, *more))


def _nearer(
    model: Model, problem: Problem, points: diagnostics.FitInputs, theta_SP: FloatArray, held_P: npt.NDArray[np.bool_]
) -> FloatArray:
    """Of a large table: the starts moved to their optima on a part of it, from which the whole takes few steps."""
    if model.num_points <= 2 * PART:
        return theta_SP
    rows = np.sort(np.random.default_rng(0).choice(model.num_points, PART, replace=False))
    part = Problem(
        model=Model(model.law, {name: values[rows] for name, values in points.columns.items()}, log=model.log),
        objective=problem.objective,
        target=problem.target[:, rows],
        weights=problem.weights[:, rows],
    )
    return minimise(part, theta_SP, held_P=held_P).theta


def _same(problem: Problem, value_S: FloatArray, best: float) -> npt.NDArray[np.bool_]:
    """Which objectives are the best one, up to rounding and an improvement nobody could see."""
    floor = problem.model.num_points * float(problem.objective.each(np.array([1e-8]))[0])
    return np.asarray(value_S <= best + SAME_OPTIMUM * abs(best) + floor)


def _local_optima(
    law: Law, problem: Problem, solution: Solution, same_S: npt.NDArray[np.bool_]
) -> tuple[LocalOptimum, ...]:
    """The other optima that starts converged to, the best of them first."""
    left = np.flatnonzero(~same_S & solution.converged & np.isfinite(solution.value))
    left = left[np.argsort(solution.value[left], kind="stable")]
    local_optima: list[LocalOptimum] = []
    while len(left) and len(local_optima) < _MAX_LOCAL_OPTIMA:
        value = float(solution.value[left[0]])
        here = _same(problem, solution.value[left], value)
        theta_P = solution.theta[left[0]]
        local_optima.append(
            LocalOptimum(
                values={name: float(found[0]) for name, found in law.values(theta_P[None, :]).items()},
                objective=value,
                share=float(here.sum()) / len(same_S),
                theta=tuple(theta_P.tolist()),
            )
        )
        left = left[~here]
    return tuple(local_optima)
