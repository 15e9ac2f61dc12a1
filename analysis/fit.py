"""Weighted least squares on the log of the loss: one batched solver for every law.

Damped Gauss-Newton with exact derivatives; each of B replicates has its own weights or its own targets, is damped on
its own, and takes a step only where its objective falls. A parameter that a step pushes against its bound is held
there for that step. The point estimate is the best of the law's starts, and the share of starts that reach it is
reported.

Shapes: B replicates, N runs, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.laws.of_compute import Law

FloatArray = npt.NDArray[np.float64]

MAX_STEPS = 200
SAME_OPTIMUM = 1e-6
"""Two starts reached one optimum where their objectives differ by less than this, relative."""


@dataclass(frozen=True, kw_only=True)
class PointFit:
    """A law at its best parameters for one set of runs."""

    law: Law
    x0: float
    """Geometric mean of x; u = ln(x / x0)."""
    theta: FloatArray
    """The parameters in the solver's form, as [P]."""
    objective: float
    """Sum of squared residuals of the log loss."""
    num_starts: int
    share_at_best: float
    u: FloatArray
    log_loss: FloatArray

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Names of the parameters that lie at a bound: the data do not determine them."""
        near = 1e-6 * (self.law.upper - self.law.lower)
        at = (self.theta <= self.law.lower + near) | (self.theta >= self.law.upper - near)
        return tuple(parameter.name for parameter, here in zip(self.law.parameters, at, strict=True) if here)

    def centred(self, x_X: FloatArray) -> FloatArray:
        u_X: FloatArray = np.log(x_X / self.x0)
        return u_X


def fit_point(law: Law, x_N: FloatArray, loss_N: FloatArray) -> PointFit:
    """Fit `law` to losses (nats) at x (FLOPs or seconds, above zero). Raises FitError where all x are equal."""
    if len(np.unique(x_N)) < 2:
        raise FitError(f"a law needs at least two different values of compute; all {len(x_N)} runs have {x_N[0]:.3g}")
    x0 = float(np.exp(np.log(x_N).mean()))
    u_N, log_loss_N = np.log(x_N / x0), np.log(loss_N)
    starts_SP = law.starts(u_N, log_loss_N)
    weights_SN = np.ones((len(starts_SP), len(x_N)))
    theta_SP, objective_S = solve(law, u_N, log_loss_N[None, :], weights_SN, starts_SP)
    best = int(np.argmin(objective_S))
    reached = objective_S <= objective_S[best] * (1 + SAME_OPTIMUM) + 1e-18
    return PointFit(
        law=law,
        x0=x0,
        theta=theta_SP[best],
        objective=float(objective_S[best]),
        num_starts=len(starts_SP),
        share_at_best=float(reached.mean()),
        u=u_N,
        log_loss=log_loss_N,
    )


def refit(
    point: PointFit, *, log_loss_BN: FloatArray | None = None, weights_BN: FloatArray | None = None
) -> FloatArray:
    """Refit B replicates from the point estimate: other targets, or other weights. Returns theta as [B, P]."""
    targets_BN = point.log_loss[None, :] if log_loss_BN is None else log_loss_BN
    if weights_BN is None:
        weights_BN = np.ones_like(targets_BN)
    starts_BP = np.repeat(point.theta[None, :], max(len(targets_BN), len(weights_BN)), axis=0)
    return solve(point.law, point.u, targets_BN, weights_BN, starts_BP)[0]


def solve(
    law: Law, u_N: FloatArray, log_loss_BN: FloatArray, weights_BN: FloatArray, theta_BP: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Minimise the weighted sum of squared log residuals. Returns theta [B, P] and the objective [B]."""
    u_BN = u_N[None, :]
    num = max(len(theta_BP), len(log_loss_BN), len(weights_BN))
    log_loss_BN = np.broadcast_to(log_loss_BN, (num, len(u_N)))
    weights_BN = np.broadcast_to(weights_BN, (num, len(u_N)))
    theta_BP = np.clip(np.broadcast_to(theta_BP, (num, theta_BP.shape[1])), law.lower, law.upper)
    value_B = _objective(law, u_BN, log_loss_BN, weights_BN, theta_BP)
    damping_B = np.full(num, 1e-9)
    moving = np.arange(num)
    for _ in range(MAX_STEPS):
        targets_BN, weight_BN, here_BP = log_loss_BN[moving], weights_BN[moving], theta_BP[moving]
        step_BP = _step(law, u_BN, targets_BN, weight_BN, here_BP, damping_B[moving])
        trial_BP = np.clip(here_BP + step_BP, law.lower, law.upper)
        trial_B = _objective(law, u_BN, targets_BN, weight_BN, trial_BP)
        before_B = value_B[moving]
        better_B = trial_B < before_B
        theta_BP[moving[better_B]], value_B[moving[better_B]] = trial_BP[better_B], trial_B[better_B]
        damping_B[moving] *= np.where(better_B, 0.1, 10.0)
        # Done where a full step no longer changes the objective, or where no step however small improves it.
        flat_B = np.abs(before_B - trial_B) <= 1e-14 * before_B
        moving = moving[~flat_B & (damping_B[moving] < 1e9)]
        if len(moving) == 0:
            break
    return theta_BP, value_B


def _objective(
    law: Law, u_BN: FloatArray, log_loss_BN: FloatArray, weights_BN: FloatArray, theta_BP: FloatArray
) -> FloatArray:
    residual_BN = law.predict(theta_BP, u_BN) - log_loss_BN
    total_B: FloatArray = np.einsum("bn,bn,bn->b", weights_BN, residual_BN, residual_BN)
    return total_B


def _step(
    law: Law,
    u_BN: FloatArray,
    log_loss_BN: FloatArray,
    weights_BN: FloatArray,
    theta_BP: FloatArray,
    damping_B: FloatArray,
) -> FloatArray:
    """The damped Gauss-Newton step, with parameters held that would leave their bounds."""
    jacobian_BNP = law.jacobian(theta_BP, u_BN)
    residual_BN = law.predict(theta_BP, u_BN) - log_loss_BN
    weighted_BNP = weights_BN[:, :, None] * jacobian_BNP
    gradient_BP = np.einsum("bnp,bn->bp", weighted_BNP, residual_BN)
    held_BP = ((theta_BP <= law.lower) & (gradient_BP > 0)) | ((theta_BP >= law.upper) & (gradient_BP < 0))
    free_BP = (~held_BP).astype(np.float64)
    hessian_BPP = np.einsum("bnp,bnq->bpq", weighted_BNP, jacobian_BNP) * free_BP[:, :, None] * free_BP[:, None, :]
    diagonal_BP = np.einsum("bpp->bp", hessian_BPP)
    ridge_BP = damping_B[:, None] * np.maximum(diagonal_BP, 1e-12 * diagonal_BP.max(axis=1, keepdims=True) + 1e-30)
    # A held parameter has an empty row: a one on its diagonal keeps the system regular and its step zero.
    hessian_BPP = hessian_BPP + (ridge_BP + held_BP)[:, :, None] * np.eye(theta_BP.shape[1])
    solution: FloatArray = np.linalg.solve(hessian_BPP, -(gradient_BP * free_BP)[:, :, None])[:, :, 0]
    return solution
