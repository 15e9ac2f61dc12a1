"""AdamW on rows in plain torch operators: the reference of the other back ends, on any device and for any type.

Rows are gathered, updated in the moments' type, and scattered back, a block at a time, so that nothing as large as the
table is made. bfloat16 weights are rounded stochastically (`memscale.kernels.rounding`).

Shape suffixes: U rows, V width of a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from memscale.kernels import bags_torch, rounding
from memscale.kernels.lazy_decay import BETA1_POWER, BETA2_POWER, FACTORS, LOG_DECAY, NODES, NUM_NODES
from memscale.kernels.row_gradient import GroupedLookups
from memscale.kernels.row_state import AdamWStep, RowState

_BLOCK_VALUES = 1 << 24


def catch_up(state: RowState, rows_U: Tensor, coefficients: Tensor, eps: float) -> None:
    """Apply the pending updates of `rows_U`: bring their weights from the step they are of to the latest one.

    Args:
        state: The table's rows and AdamW's state of them.
        rows_U: Distinct rows, int64.
        coefficients: `LazyDecay.coefficients`, float64 on the state's device; its last row is the latest step.
        eps: The eps of AdamW.
    """
    step = len(coefficients) - 1
    kind = state.first_NV.dtype
    for start, stop in _blocks(rows_U, state):
        rows = rows_U[start:stop]
        rows = rows[state.weights_step_N[rows] < step]
        since, moved = state.weights_step_N[rows].long(), state.moments_step_N[rows].long()
        first = state.first_NV[rows] * coefficients[since - moved, BETA1_POWER, None].to(kind)
        root = state.second_NV[rows].sqrt() * coefficients[since - moved, BETA2_POWER, None].sqrt().to(kind)
        slope = torch.zeros_like(root)
        for i in range(NUM_NODES):
            factor, node = (
                coefficients[since, FACTORS + i, None].to(kind),
                coefficients[since, NODES + i, None].to(kind),
            )
            slope += factor / (node * root + eps)
        decay = torch.exp(coefficients[step, LOG_DECAY] - coefficients[since, LOG_DECAY])[:, None].to(kind)
        _put(state, rows, decay * (state.weights_NV[rows].to(kind) - first * slope), step)


def update(
    state: RowState, lookups: GroupedLookups, scale: Tensor | float, coefficients: Tensor, adamw_step: AdamWStep
) -> None:
    """Take one AdamW step on the rows that were looked up.

    Args:
        state: The table's rows and AdamW's state of them; `catch_up` must have been called on these rows.
        lookups: The gradient, grouped by row.
        scale: Factor on the gradient, a number or a scalar tensor.
        coefficients: `LazyDecay.coefficients` of the step before.
        adamw_step: The constants of this step.
    """
    kind = state.first_NV.dtype
    for start, stop in _blocks(lookups.rows_U, state):
        rows, starts = lookups.rows_U[start:stop], lookups.starts_U1[start : stop + 1]
        span = slice(int(starts[0]), int(starts[-1]))
        gradient = bags_torch.embedding_bag(
            lookups.x_TV, lookups.tokens_A[span], starts - starts[0], lookups.weights_A[span]
        ).to(kind)
        gradient *= scale
        missed_steps = adamw_step.step - 1 - state.moments_step_N[rows].long()
        first, second = state.first_NV[rows], state.second_NV[rows]
        first *= (adamw_step.beta1 * coefficients[missed_steps, BETA1_POWER, None]).to(kind)
        second *= (adamw_step.beta2 * coefficients[missed_steps, BETA2_POWER, None]).to(kind)
        first += (1.0 - adamw_step.beta1) * gradient
        squares = gradient.square().mean(1, keepdim=True) if state.by_row else gradient.square()
        second += (1.0 - adamw_step.beta2) * squares
        state.first_NV[rows], state.second_NV[rows] = first, second
        moved = adamw_step.step_size * first / (second.sqrt() * adamw_step.root_correction + adamw_step.eps)
        kept = 1.0 - adamw_step.learning_rate * adamw_step.weight_decay
        _put(state, rows, state.weights_NV[rows].to(kind) * kept - moved, adamw_step.step)
        state.moments_step_N[rows] = adamw_step.step


def _blocks(rows_U: Tensor, state: RowState) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_VALUES // max(1, state.first_NV.shape[1]))
    for start in range(0, len(rows_U), size):
        yield start, min(start + size, len(rows_U))


def _put(state: RowState, rows: Tensor, values: Tensor, step: int) -> None:
    if state.weights_NV.dtype == torch.bfloat16:
        values = rounding.to_bfloat16(values, rows, step)
    state.weights_NV[rows] = values.to(state.weights_NV.dtype)
    state.weights_step_N[rows] = step
