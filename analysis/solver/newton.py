"""A damped semi-smooth Newton method for many replicates of one fit at once.

Each of B replicates has its own weights, targets or starting point, is damped on its own, and takes a step only where
its objective falls. The Hessian is exact: H = sum w [psi'(r) g g' + psi(r) H_n]. In the linear zone of Huber's
objective psi' is 0, so H may be singular or have the wrong sign; the damping therefore adds a multiple of
G = sum w (psi(r)/r) g g', the curvature of the re-weighted least squares that touches the objective from above
(Huber and Dutter 1974). With no damping the step is Newton's, with much it is a short step of re-weighted least
squares, and G as a metric makes both independent of the units of columns and parameters.

A parameter that a step pushes against its bound is held there for that step; the free ones are clipped to their
bounds. Least absolute deviations are approached through Huber objectives of ever smaller delta.

Shapes: B replicates, N runs, P parameters (Q = P + 1 with a free scale, the last one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.solver.model import Model, Point
from analysis.solver.objective import Objective, huber, log_normaliser

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MAX_STEPS = 200
TOLERANCE = 1e-13
"""A replicate is done where a full step would lower its objective by less than this, relative."""
_CHUNK = 40_000
"""Residuals worked on at once: small enough for a core's cache, large enough to hide Python."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is fitted to what: targets and weights are [1, N] where all replicates share them, else [B, N]."""

    model: Model
    objective: Objective
    target: FloatArray
    weights: FloatArray

    def residuals(self, theta_BP: FloatArray) -> FloatArray:
        """Prediction minus target, [B, N]."""
        return self.model.predict(theta_BP) - self.target

    def rows(self, chosen: npt.NDArray[np.intp]) -> Problem:
        """The problem of some of the replicates."""
        return Problem(
            model=self.model,
            objective=self.objective,
            target=self.target if len(self.target) == 1 else self.target[chosen],
            weights=self.weights if len(self.weights) == 1 else self.weights[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where each replicate ended."""

    theta: FloatArray
    """[B, P]"""
    value: FloatArray
    """The objective itself, whatever it was approached by."""
    converged: BoolArray
    steps: npt.NDArray[np.int64]
    log_scale: FloatArray | None = None
    """ln of the scale, where it is free."""


def minimise(
    problem: Problem, theta_BP: FloatArray, *, held_P: BoolArray | None = None, max_steps: int = MAX_STEPS
) -> Solution:
    """Minimise from each row of `theta_BP`; parameters in `held_P` ([P] or [B, P]) stay as they are."""
    num, num_params = theta_BP.shape
    held_BP = np.broadcast_to(np.zeros(num_params, dtype=bool) if held_P is None else held_P, (num, num_params))
    size = max(1, _CHUNK // problem.model.num_points)
    parts = []
    for begin in range(0, num, size):
        rows = np.arange(begin, min(begin + size, num))
        parts.append(_minimise_chunk(problem.rows(rows), theta_BP[rows], held_BP[rows], max_steps))
    if len(parts) == 1:
        return parts[0]
    scales = [part.log_scale for part in parts if part.log_scale is not None]
    return Solution(
        theta=np.concatenate([part.theta for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
        steps=np.concatenate([part.steps for part in parts]),
        log_scale=np.concatenate(scales) if scales else None,
    )


def _minimise_chunk(problem: Problem, theta_BP: FloatArray, held_BP: BoolArray, max_steps: int) -> Solution:
    model, objective = problem.model, problem.objective
    theta_BP = np.clip(theta_BP, model.lower, model.upper)
    lower, upper = model.lower, model.upper
    if objective.free_scale:
        residual_BN = problem.residuals(theta_BP)
        # The maximum-likelihood scale of a Laplace density of slope delta, to start from.
        spread_B = np.maximum(np.average(np.abs(residual_BN), axis=1) * objective.smooth_enough, 1e-300)
        theta_BP = np.concatenate([theta_BP, np.log(spread_B)[:, None]], axis=1)
        held_BP = np.concatenate([held_BP, np.zeros((len(held_BP), 1), dtype=bool)], axis=1)
        lower, upper = np.append(lower, -600.0), np.append(upper, 600.0)
    steps_B = np.zeros(len(theta_BP), dtype=np.int64)
    converged_B = np.zeros(len(theta_BP), dtype=bool)
    for delta in _deltas(problem, theta_BP):
        descent = _Descent(problem, delta, lower, upper, held_BP)
        theta_BP, converged_B, steps = descent.run(theta_BP, max_steps)
        steps_B += steps
    num_params = held_BP.shape[1] - objective.free_scale
    log_scale_B = theta_BP[:, -1] if objective.free_scale else None
    residual_BN = problem.residuals(theta_BP[:, :num_params])
    return Solution(
        theta=theta_BP[:, :num_params],
        value=objective.total(residual_BN, problem.weights, log_scale_B),
        converged=converged_B,
        steps=steps_B,
        log_scale=log_scale_B,
    )


def _deltas(problem: Problem, theta_BP: FloatArray) -> tuple[float, ...]:
    """The deltas to go through: the objective's own, or ever smaller ones towards the absolute value."""
    kind, delta = problem.objective.kind, problem.objective.smooth_enough
    if kind in ("squares", "huber"):
        return (delta,)
    if kind == "free_huber":
        return (*(rung for rung in (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4, 1e-5) if rung > delta), delta)
    residual_BN = problem.residuals(theta_BP[:, : len(problem.model.lower)])
    scale = float(np.median(np.abs(residual_BN))) + 1e-12
    return tuple(scale * 10.0**-power for power in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))


class _Descent:
    """The iterations for one delta."""

    def __init__(
        self, problem: Problem, delta: float, lower: FloatArray, upper: FloatArray, held_BP: BoolArray
    ) -> None:
        self.problem, self.delta, self.lower, self.upper, self.held_BP = problem, delta, lower, upper, held_BP
        self.free_scale = problem.objective.free_scale
        self.eye = np.eye(len(lower))

    def run(self, theta_BQ: FloatArray, max_steps: int) -> tuple[FloatArray, BoolArray, npt.NDArray[np.int64]]:
        theta_BQ = theta_BQ.copy()
        value_B = self.value(self.problem, theta_BQ)
        damping_B = np.zeros(len(theta_BQ))
        done_B = np.zeros(len(theta_BQ), dtype=bool)
        steps_B = np.zeros(len(theta_BQ), dtype=np.int64)
        moving = np.arange(len(theta_BQ))
        problem = self.problem
        gradient_BQ, curved_BQQ, metric_BQQ = self.derivatives(problem, theta_BQ)
        floor = self.floor()
        for _ in range(max_steps):
            here_BQ, damping = theta_BQ[moving], damping_B[moving]
            step_BQ = self.step(here_BQ, gradient_BQ, curved_BQQ, metric_BQQ, damping, self.held_BP[moving])
            trial_BQ = np.clip(here_BQ + step_BQ, self.lower, self.upper)
            promised_B = -np.einsum("bq,bq->b", gradient_BQ, trial_BQ - here_BQ)
            trial_B = self.value(problem, trial_BQ)
            before_B = value_B[moving]
            better_B = (trial_B < before_B) & (promised_B > 0)
            taken = moving[better_B]
            theta_BQ[taken], value_B[taken] = trial_BQ[better_B], trial_B[better_B]
            steps_B[moving] += 1
            damping_B[moving] = np.where(better_B, _relaxed(damping), np.maximum(damping * 6.0, 1e-2))
            gone_B = (np.abs(promised_B) <= TOLERANCE * np.abs(before_B) + floor) & (damping < 1.0)
            stuck_B = damping > 1e10
            done_B[moving[gone_B]] = True
            going_B = ~(gone_B | stuck_B)
            if not going_B.all():
                moving, better_B = moving[going_B], better_B[going_B]
                problem = self.problem.rows(moving)
                gradient_BQ, curved_BQQ = gradient_BQ[going_B], curved_BQQ[going_B]
                metric_BQQ = metric_BQQ[going_B]
            if len(moving) == 0:
                break
            if better_B.all():
                gradient_BQ, curved_BQQ, metric_BQQ = self.derivatives(problem, theta_BQ[moving])
            elif better_B.any():
                new = self.derivatives(self.problem.rows(moving[better_B]), theta_BQ[moving[better_B]])
                gradient_BQ[better_B], curved_BQQ[better_B], metric_BQQ[better_B] = new
        return theta_BQ, done_B, steps_B

    def floor(self) -> float:
        """An improvement too small to be more than rounding, in the objective's unit."""
        count = self.problem.model.num_points
        return count * (1e-15 if self.problem.objective.kind in ("absolute", "asymmetric", "free_huber") else 1e-30)

    def value(self, problem: Problem, theta_BQ: FloatArray) -> FloatArray:
        """The objective, smoothed by delta, as [B]; infinite where it is not a number."""
        kind = problem.objective.kind
        with np.errstate(all="ignore"):
            residual_BN = problem.residuals(theta_BQ[:, : len(problem.model.lower)])
            if kind == "free_huber":
                scaled_BN = huber(residual_BN * np.exp(-theta_BQ[:, -1:]), self.delta)
                scaled_BN += theta_BQ[:, -1:] + log_normaliser(self.delta)
            elif kind == "huber":
                scaled_BN = huber(residual_BN, self.delta)
            elif kind == "squares":
                scaled_BN = residual_BN * residual_BN
            else:
                scaled_BN = huber(residual_BN, self.delta) / self.delta
                scaled_BN *= np.where(residual_BN > 0, problem.objective.over, 1.0)
            weights_BN = np.broadcast_to(problem.weights, scaled_BN.shape)
            value_B = np.einsum("bn,bn->b", weights_BN, scaled_BN)
        return np.where(np.isfinite(value_B), value_B, np.inf)

    def derivatives(self, problem: Problem, theta_BQ: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gradient [B, Q], Hessian [B, Q, Q], and the metric G [B, Q, Q]."""
        num_params = len(problem.model.lower)
        with np.errstate(all="ignore"):
            point = problem.model.at(theta_BQ[:, :num_params])
            residual_BN = point.value - problem.target
            if self.free_scale:
                return self._with_scale(problem, point, residual_BN, theta_BQ)
            psi_BN, true_BN, metric_BN = self.curvatures(problem, residual_BN)
            if true_BN is metric_BN:
                gradient_BP, own_BPP, outer = point.sums(psi_BN, (metric_BN,))
                return gradient_BP, own_BPP + outer[0], outer[0]
            gradient_BP, own_BPP, outer = point.sums(psi_BN, (true_BN, metric_BN))
        return gradient_BP, own_BPP + outer[0], outer[1]

    def _with_scale(
        self, problem: Problem, point: Point, residual_BN: FloatArray, theta_BQ: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The same where z = r e^-s, s the last parameter: z has the gradient (g e^-s, -z)."""
        inverse_B1 = np.exp(-theta_BQ[:, -1:])
        z_BN = residual_BN * inverse_B1
        psi_BN, true_BN, metric_BN = self.curvatures(problem, z_BN)
        square_B1 = inverse_B1 * inverse_B1
        gradient_BP, own_BPP, outer = point.sums(psi_BN * inverse_B1, (true_BN * square_B1, metric_BN * square_B1))
        bent_BP = point.sums(true_BN * z_BN * inverse_B1, ())[0]
        weights_BN = np.broadcast_to(problem.weights, z_BN.shape)
        pull_B = np.einsum("bn,bn->b", psi_BN, z_BN)
        bend_B = np.einsum("bn,bn->b", true_BN, z_BN * z_BN)
        gradient_BQ = np.concatenate([gradient_BP, (weights_BN.sum(axis=1) - pull_B)[:, None]], axis=1)
        hessian_BQQ = _bordered(own_BPP + outer[0], -bent_BP - gradient_BP, bend_B + pull_B)
        return gradient_BQ, hessian_BQQ, _bordered(outer[1], -gradient_BP, pull_B)

    def curvatures(self, problem: Problem, residual_BN: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The factors w psi, w psi' and w psi/r of each residual, smoothed by delta."""
        weights_BN = problem.weights
        kind = problem.objective.kind
        if kind == "squares":
            double_BN = np.broadcast_to(2.0 * weights_BN, residual_BN.shape)
            return double_BN * residual_BN, double_BN, double_BN
        if kind in ("absolute", "asymmetric"):
            weights_BN = weights_BN * np.where(residual_BN > 0, problem.objective.over / self.delta, 1.0 / self.delta)
        size_BN = np.abs(residual_BN)
        metric_BN = weights_BN * (self.delta / np.maximum(size_BN, self.delta))
        true_BN = weights_BN * (size_BN < self.delta)
        return metric_BN * residual_BN, true_BN, metric_BN

    def step(
        self,
        theta_BQ: FloatArray,
        gradient_BQ: FloatArray,
        hessian_BQQ: FloatArray,
        metric_BQQ: FloatArray,
        damping_B: FloatArray,
        held_BQ: BoolArray,
    ) -> FloatArray:
        """-(H + damping G)^-1 gradient, with the parameters held that are fixed or would leave their bounds."""
        still_BQ = held_BQ | ((theta_BQ <= self.lower) & (gradient_BQ > 0))
        still_BQ |= (theta_BQ >= self.upper) & (gradient_BQ < 0)
        diagonal_BQ = np.einsum("bqq->bq", metric_BQQ)
        size_BQ = np.sqrt(np.maximum(diagonal_BQ, 1e-24 * diagonal_BQ.max(axis=1, keepdims=True) + 1e-290))
        free_BQ = (~still_BQ) / size_BQ
        matrix_BQQ = hessian_BQQ + damping_B[:, None, None] * metric_BQQ
        matrix_BQQ = matrix_BQQ * free_BQ[:, :, None] * free_BQ[:, None, :]
        # A held parameter has an empty row: a one on its diagonal keeps the system regular and its step zero.
        ridge_BQ = still_BQ + (1e-13 + 1e-6 * damping_B[:, None])
        matrix_BQQ += ridge_BQ[:, :, None] * self.eye
        downhill_BQ = -gradient_BQ * free_BQ
        try:
            step_BQ: FloatArray = np.linalg.solve(matrix_BQQ, downhill_BQ[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # of one problem's exactly: the pseudo-inverse serves all
            step_BQ = np.einsum("bqr,br->bq", np.linalg.pinv(np.nan_to_num(matrix_BQQ), hermitian=True), downhill_BQ)
        step_BQ *= free_BQ
        return step_BQ


def _relaxed(damping_B: FloatArray) -> FloatArray:
    """Less damping after a step that helped; none once there is little."""
    return np.where(damping_B > 1e-3, damping_B * 0.15, 0.0)


def _bordered(matrix_BPP: FloatArray, border_BP: FloatArray, corner_B: FloatArray) -> FloatArray:
    num, size, _ = matrix_BPP.shape
    whole = np.empty((num, size + 1, size + 1))
    whole[:, :size, :size] = matrix_BPP
    whole[:, :size, size] = whole[:, size, :size] = border_BP
    whole[:, size, size] = corner_B
    return whole
