"""AdamW on rows in plain torch operators: the reference of every other back end, on any device and for any type.

Rows are gathered, worked on in the moments' type, and put back, a block at a time, so that nothing as large as the
table is made. bfloat16 weights are rounded stochastically (`memscale.kernels.rounding`).

U rows, V width of a row.
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
    """Bring the weights of `rows_U` (int64, distinct) from their own step to the last one of `idle`.

    `idle` is `LazyDecay.table`, float64 on the state's device.
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
    state: RowState, lookups: GroupedLookups, scale: Tensor | float, coefficients: Tensor, numbers: AdamWStep
) -> None:
    """Take step `numbers` on the rows that were read. They must have been caught up with `idle`, of the step before.

    `scale` multiplies the gradient.
    """
    kind = state.first_NV.dtype
    for start, stop in _blocks(lookups.rows_U, state):
        rows, starts = lookups.rows_U[start:stop], lookups.starts_U1[start : stop + 1]
        places = slice(int(starts[0]), int(starts[-1]))
        gradient = bags_torch.embedding_bag(
            lookups.x_TV, lookups.tokens_A[places], starts - starts[0], lookups.weights_A[places]
        ).to(kind)
        gradient *= scale
        missed_steps = numbers.step - 1 - state.moments_step_N[rows].long()
        first, second = state.first_NV[rows], state.second_NV[rows]
        first *= (numbers.beta1 * coefficients[missed_steps, BETA1_POWER, None]).to(kind)
        second *= (numbers.beta2 * coefficients[missed_steps, BETA2_POWER, None]).to(kind)
        first += (1.0 - numbers.beta1) * gradient
        squares = gradient.square().mean(1, keepdim=True) if state.by_row else gradient.square()
        second += (1.0 - numbers.beta2) * squares
        state.first_NV[rows], state.second_NV[rows] = first, second
        moved = numbers.step_size * first / (second.sqrt() * numbers.root_correction + numbers.eps)
        kept = 1.0 - numbers.rate * numbers.weight_decay
        _put(state, rows, state.weights_NV[rows].to(kind) * kept - moved, numbers.step)
        state.moments_step_N[rows] = numbers.step


def _blocks(rows_U: Tensor, state: RowState) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_VALUES // max(1, state.first_NV.shape[1]))
    for start in range(0, len(rows_U), size):
        yield start, min(start + size, len(rows_U))


def _put(state: RowState, rows: Tensor, values: Tensor, step: int) -> None:
    if state.weights_NV.dtype == torch.bfloat16:
        values = rounding.to_bfloat16(values, rows, step)
    state.weights_NV[rows] = values.to(state.weights_NV.dtype)
    state.weights_step_N[rows] = step
