"""AdamW on rows on the CPU, compiled by Numba for float32 and float64.

The functions are those of `memscale.kernels.rows_torch`. A row is fetched once: its gradient is summed into a buffer of
one row and consumed at once. Rows come in rising order, and the next ones are prefetched. Rows do not depend on each
other, so the bits do not depend on the number of threads.

Shape suffixes: U rows, V width of a row, N slots.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memscale.kernels.bags_numba import Floats, Integers, prefetch_row, sum_bag
from memscale.kernels.lazy_decay import BETA1_POWER, BETA2_POWER, FACTORS, LOG_DECAY, NODES, NUM_NODES
from memscale.kernels.numba_jit import numba_jit
from memscale.kernels.prefetch import prefetch_element
from memscale.kernels.row_gradient import GroupedLookups
from memscale.kernels.row_state import AdamWStep, RowState
from memscale.kernels.threads import parallel_for, parallel_for_bags

Steps = NDArray[np.int32]

_AHEAD_BYTES = 2048
"""Bytes of weights that rows are prefetched ahead, at least two rows."""
_STAMPS_AHEAD = 24
"""Rows that step numbers are prefetched ahead of their rows: they decide whether a row is prefetched."""


def catch_up(state: RowState, rows_U: Tensor, coefficients: Tensor, eps: float) -> None:
    """As `memscale.kernels.rows_torch.catch_up`."""
    parallel_for(_catch_up, len(rows_U), rows_U.numpy(), *_arrays(state), coefficients.numpy(), eps)


def update(
    state: RowState, lookups: GroupedLookups, scale: Tensor | float, coefficients: Tensor, adamw_step: AdamWStep
) -> None:
    """As `memscale.kernels.rows_torch.update`."""
    n = adamw_step
    settings = (
        n.beta1,
        n.beta2,
        n.eps,
        1.0 - n.learning_rate * n.weight_decay,
        n.step_size,
        n.root_correction,
        float(scale),
    )
    x_TV, weights_A = lookups.x_TV.detach().numpy(), lookups.weights_A.detach().numpy()
    read = (lookups.rows_U.numpy(), lookups.tokens_A.numpy(), x_TV, weights_A)
    parallel_for_bags(
        _update, lookups.starts_U1.numpy(), *read, *_arrays(state), coefficients.numpy(), n.step, np.array(settings)
    )


def _arrays(state: RowState) -> tuple[NDArray[Any], ...]:
    return (
        state.weights_NV.detach().numpy(),
        state.first_NV.numpy(),
        state.second_NV.numpy(),
        state.moments_step_N.numpy(),
        state.weights_step_N.numpy(),
    )


def _catch_up_loop(
    start: int,
    stop: int,
    rows_U: Integers,
    weights_NV: Floats,
    first_NV: Floats,
    second_NV: Floats,
    moments_step_N: Steps,
    weights_step_N: Steps,
    coefficients: NDArray[np.float64],
    eps: float,
) -> None:
    width, step = weights_NV.shape[1], coefficients.shape[0] - 1
    by_row = second_NV.shape[1] < width
    ahead = max(2, _AHEAD_BYTES // (width * weights_NV.itemsize))
    scratch = np.empty(2 * NUM_NODES + 2, weights_NV.dtype)  # casts to the weights' type
    for u in range(start, stop):
        if u + ahead + _STAMPS_AHEAD < stop:
            prefetch_element(weights_step_N, rows_U[u + ahead + _STAMPS_AHEAD])
            prefetch_element(moments_step_N, rows_U[u + ahead + _STAMPS_AHEAD])
        if u + ahead < stop and weights_step_N[rows_U[u + ahead]] < step:
            prefetch_row(weights_NV, rows_U[u + ahead])
            if moments_step_N[rows_U[u + ahead]] > 0:
                prefetch_row(first_NV, rows_U[u + ahead])
                prefetch_row(second_NV, rows_U[u + ahead])
        row = rows_U[u]
        since = weights_step_N[row]
        if since == step:
            continue
        weights_step_N[row] = step
        decay = math.exp(coefficients[step, LOG_DECAY] - coefficients[since, LOG_DECAY])
        weights = weights_NV[row]
        if moments_step_N[row] == 0:  # never had a gradient: its moments are zero
            if decay != 1.0:
                scratch[0] = decay
                for v in range(width):
                    weights[v] *= scratch[0]
            continue
        # Moments are those of the last gradient's step; by step `since` they had decayed.
        missed = since - moments_step_N[row]
        first_decay, root_decay = (
            decay * coefficients[missed, BETA1_POWER],
            math.sqrt(coefficients[missed, BETA2_POWER]),
        )
        for i in range(NUM_NODES):
            scratch[i] = first_decay * coefficients[since, FACTORS + i]
            scratch[NUM_NODES + i] = root_decay * coefficients[since, NODES + i]
        scratch[2 * NUM_NODES], scratch[2 * NUM_NODES + 1] = decay, eps
        if by_row:
            _move_by_row(weights, first_NV[row], math.sqrt(second_NV[row, 0]), scratch)
        else:
            _move(weights, first_NV[row], second_NV[row], scratch)


def _move_loop(weights: Floats, first: Floats, second: Floats, scratch: Floats) -> None:
    """Apply the three terms of the pending update to a row, brought to one denominator.

    Numerators are divided by root + eps first, so that no product of three leaves the range of float32.
    """
    a, b, c = scratch[0], scratch[1], scratch[2]
    y, z, w = scratch[3], scratch[4], scratch[5]
    decay, eps = scratch[6], scratch[7]
    for v in range(weights.shape[0]):
        root = np.sqrt(second[v])
        unit = first[v] / (root + eps)
        share, rest = root / (root + eps), eps / (root + eps)
        p, q, r = y * share + rest, z * share + rest, w * share + rest
        weights[v] = decay * weights[v] - unit * (((a * q + b * p) * r + c * (p * q)) / (p * q * r))


def _move_by_row_loop(weights: Floats, first: Floats, root: float, scratch: Floats) -> None:
    """The same for one second moment per row."""
    total = 0.0
    for i in range(NUM_NODES):
        total += scratch[i] / (scratch[NUM_NODES + i] * root + scratch[7])
    scratch[0] = total
    slope, decay = scratch[0], scratch[6]
    for v in range(weights.shape[0]):
        weights[v] = decay * weights[v] - first[v] * slope


def _update_loop(
    start: int,
    stop: int,
    starts_U1: Integers,
    rows_U: Integers,
    tokens_A: Integers,
    x_TV: Floats,
    weights_A: Floats,
    weights_NV: Floats,
    first_NV: Floats,
    second_NV: Floats,
    moments_step_N: Steps,
    weights_step_N: Steps,
    coefficients: NDArray[np.float64],
    step: int,
    settings: NDArray[np.float64],
) -> None:
    width = weights_NV.shape[1]
    by_row = second_NV.shape[1] < width
    gradient = np.empty(width, weights_NV.dtype)
    scratch = np.empty(9, weights_NV.dtype)
    ahead = max(2, _AHEAD_BYTES // (width * weights_NV.itemsize))
    beta1, beta2 = settings[0], settings[1]
    for u in range(start, stop):
        if u + ahead < stop:
            prefetch_row(weights_NV, rows_U[u + ahead])
            prefetch_row(first_NV, rows_U[u + ahead])
            prefetch_row(second_NV, rows_U[u + ahead])
            prefetch_row(x_TV, tokens_A[starts_U1[u + ahead]])
            prefetch_element(moments_step_N, rows_U[u + ahead])
            prefetch_element(weights_step_N, rows_U[u + ahead])
        row, first, last = rows_U[u], starts_U1[u], starts_U1[u + 1]
        missed = step - 1 - moments_step_N[row]
        scratch[0], scratch[1] = beta1 * coefficients[missed, BETA1_POWER], 1.0 - beta1
        scratch[2], scratch[3] = beta2 * coefficients[missed, BETA2_POWER], 1.0 - beta2
        for i in range(2, 7):
            scratch[2 + i] = settings[i]
        if last - first == 1 and not by_row:  # a single lookup needs no sum: its weight goes into the scale
            scratch[8] *= weights_A[first]
            _step_row(x_TV[tokens_A[first]], weights_NV[row], first_NV[row], second_NV[row], scratch)
        else:
            sum_bag(gradient, first, last, tokens_A, x_TV, weights_A)
            if by_row:
                _step_row_by_row(gradient, weights_NV[row], first_NV[row], second_NV[row], scratch)
            else:
                _step_row(gradient, weights_NV[row], first_NV[row], second_NV[row], scratch)
        moments_step_N[row] = weights_step_N[row] = step


def _step_row_loop(gradient: Floats, weights: Floats, first: Floats, second: Floats, scratch: Floats) -> None:
    kept1, new1, kept2, new2 = scratch[0], scratch[1], scratch[2], scratch[3]
    eps, kept, step_size, correction, scale = scratch[4], scratch[5], scratch[6], scratch[7], scratch[8]
    for v in range(gradient.shape[0]):
        g = scale * gradient[v]
        m = kept1 * first[v] + new1 * g
        s = kept2 * second[v] + new2 * (g * g)
        first[v], second[v] = m, s
        weights[v] = kept * weights[v] - step_size * m / (np.sqrt(s) * correction + eps)


def _step_row_by_row_loop(gradient: Floats, weights: Floats, first: Floats, second: Floats, scratch: Floats) -> None:
    kept1, new1, kept2, new2 = scratch[0], scratch[1], scratch[2], scratch[3]
    eps, kept, step_size, correction, scale = scratch[4], scratch[5], scratch[6], scratch[7], scratch[8]
    square = gradient[0] * gradient[0]
    for v in range(1, gradient.shape[0]):
        square += gradient[v] * gradient[v]
    second[0] = kept2 * second[0] + new2 * (scale * scale * (square / gradient.shape[0]))
    scratch[0] = step_size / (math.sqrt(second[0]) * correction + eps)
    slope = scratch[0]
    for v in range(gradient.shape[0]):
        m = kept1 * first[v] + new1 * (scale * gradient[v])
        first[v] = m
        weights[v] = kept * weights[v] - slope * m


# As in `bags_numba`; 'arcp' lets a quotient be a product with a reciprocal, which takes half the time.
_compiled = numba_jit("reassoc", "contract", "arcp")
_move = _compiled(_move_loop)
_move_by_row = _compiled(_move_by_row_loop)
_step_row = _compiled(_step_row_loop)
_step_row_by_row = _compiled(_step_row_by_row_loop)
_catch_up = _compiled(_catch_up_loop)
_update = _compiled(_update_loop)
