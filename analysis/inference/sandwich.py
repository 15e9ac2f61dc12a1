"""Standard errors that hold where the residuals are neither normal nor equally wide (Huber 1967, White 1980).

covariance = A^-1 M A^-1 with A = sum w (psi' g g' + psi H) and M = the sum over clusters of s s', s = sum w psi g in
the cluster; times n/(n - p). In Huber's linear zone, and for least absolute deviations, psi' is a density at zero: it
is estimated from the points within h, the larger of delta and the quartile of |r| (Powell 1991 takes the same kernel).

Refuses nothing: where A is singular the covariance is that of its regular part, and what is not identified is for
`profile` to say. Shapes: N runs, P parameters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.solver.newton import Problem

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def scores(problem: Problem, residual_N: FloatArray, log_scale: float | None) -> tuple[FloatArray, FloatArray]:
    """Psi and an estimate of psi' of each residual; the scale's factors are left out, as they cancel."""
    objective = problem.objective
    if objective.kind == "squares":
        return 2.0 * residual_N, np.full_like(residual_N, 2.0)
    size_N = np.abs(residual_N)
    near = max(float(np.quantile(size_N, 0.25)), 1e-300)
    if objective.kind in ("absolute", "asymmetric"):
        over = objective.over
        psi_N = np.where(residual_N > 0, over, -1.0)
        return psi_N, np.where(size_N <= near, (1.0 + over) / (2.0 * near), 0.0)
    delta = objective.smooth_enough * (1.0 if log_scale is None else float(np.exp(log_scale)))
    window = max(delta, near)
    return np.clip(residual_N, -delta, delta), np.where(size_N <= window, delta / window, 0.0)


def covariance(
    problem: Problem,
    theta_P: FloatArray,
    free_P: BoolArray,
    *,
    log_scale: float | None = None,
    clusters_N: npt.NDArray[np.intp] | None = None,
) -> FloatArray:
    """Covariance [P, P] of the solver's parameters; zero for those that are not free."""
    point = problem.model.at(theta_P[None, :])
    residual_N = (point.value - problem.target)[0]
    weights_N = problem.weights[0]
    psi_N, bend_N = scores(problem, residual_N, log_scale)
    _, own, outer = point.sums((weights_N * psi_N)[None, :], ((weights_N * bend_N)[None, :],))
    free = np.flatnonzero(free_P)
    curvature = (own[0] + outer[0, 0])[np.ix_(free, free)]
    score_NP = (weights_N * psi_N)[:, None] * point.gradients()[0][:, free]
    if clusters_N is not None:
        summed = np.zeros((int(clusters_N.max()) + 1, len(free)))
        np.add.at(summed, clusters_N, score_NP)
        score_NP = summed
    num = len(score_NP)
    meat = score_NP.T @ score_NP * (num / max(num - len(free), 1))
    size = np.sqrt(np.maximum(np.diag(outer[0, 0])[free], 1e-300))
    inverse = np.linalg.pinv(curvature / size[:, None] / size[None, :], rcond=1e-14, hermitian=True)
    inverse = inverse / size[:, None] / size[None, :]
    whole = np.zeros((len(theta_P), len(theta_P)))
    whole[np.ix_(free, free)] = inverse @ meat @ inverse
    return whole
