"""The lookup's loops for the CPU, compiled by Numba for float32 and kept on disk between processes.

Nothing of size [T, K, V] is ever made. The table's gradient is summed slot by slot in the order of the tokens, each
range of slots by one thread: no sort, no race, and the same bits for any number of threads.
Refuses nothing: `memscale.kernels.lookup` checks what comes in, for a slot outside the table would corrupt memory here.

T tokens, K slots read per token, V width of a row, N slots.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from memscale.kernels.threads import run_in_parts

Floats = NDArray[np.float32]
Slots = NDArray[np.int64]


def weighted_sum(table_NV: Floats, slots_TK: Slots, weights_TK: Floats) -> Floats:
    """Return [T, V]: for every token the sum of its rows times their weights. K must be a multiple of 4."""
    sums_TV = np.empty((slots_TK.shape[0], table_NV.shape[1]), np.float32)
    run_in_parts(_weighted_sum, slots_TK.shape[0], table_NV, slots_TK, weights_TK, sums_TV)
    return sums_TV


def weights_gradient(table_NV: Floats, slots_TK: Slots, gradient_TV: Floats) -> Floats:
    """Return [T, K]: the products of every row read with its token's gradient."""
    products_TK = np.empty(slots_TK.shape, np.float32)
    run_in_parts(_weights_gradient, slots_TK.shape[0], table_NV, slots_TK, gradient_TV, products_TK)
    return products_TK


def table_gradient(num_slots: int, slots_TK: Slots, weights_TK: Floats, gradient_TV: Floats) -> Floats:
    """Return [N, V]: each token's gradient times its weight, added to the rows it read."""
    sums_NV = np.zeros((num_slots, gradient_TV.shape[1]), np.float32)
    run_in_parts(_table_gradient, num_slots, slots_TK, weights_TK, gradient_TV, sums_NV)
    return sums_NV


def _weighted_sum_loop(
    start: int, stop: int, table_NV: Floats, slots_TK: Slots, weights_TK: Floats, sums_TV: Floats
) -> None:
    width = table_NV.shape[1]
    for t in range(start, stop):
        sums = sums_TV[t]
        for v in range(width):
            sums[v] = 0.0
        whole = slots_TK.shape[1] // 4 * 4
        # Four rows at a time, so that the sums are read and written a quarter as often.
        for k in range(0, whole, 4):
            a, b, c, d = weights_TK[t, k], weights_TK[t, k + 1], weights_TK[t, k + 2], weights_TK[t, k + 3]
            row_a, row_b = table_NV[slots_TK[t, k]], table_NV[slots_TK[t, k + 1]]
            row_c, row_d = table_NV[slots_TK[t, k + 2]], table_NV[slots_TK[t, k + 3]]
            for v in range(width):
                sums[v] += a * row_a[v] + b * row_b[v] + (c * row_c[v] + d * row_d[v])
        for k in range(whole, slots_TK.shape[1]):
            weight, row = weights_TK[t, k], table_NV[slots_TK[t, k]]
            for v in range(width):
                sums[v] += weight * row[v]


def _weights_gradient_loop(
    start: int, stop: int, table_NV: Floats, slots_TK: Slots, gradient_TV: Floats, products_TK: Floats
) -> None:
    for t in range(start, stop):
        gradient = gradient_TV[t]
        for k in range(slots_TK.shape[1]):
            row = table_NV[slots_TK[t, k]]
            product = np.float32(0.0)
            for v in range(row.shape[0]):
                product += row[v] * gradient[v]
            products_TK[t, k] = product


def _table_gradient_loop(
    start: int, stop: int, slots_TK: Slots, weights_TK: Floats, gradient_TV: Floats, sums_NV: Floats
) -> None:
    for t in range(slots_TK.shape[0]):
        gradient = gradient_TV[t]
        for k in range(slots_TK.shape[1]):
            slot = slots_TK[t, k]
            if start <= slot < stop:
                weight, sums = weights_TK[t, k], sums_NV[slot]
                for v in range(gradient.shape[0]):
                    sums[v] += weight * gradient[v]


# 'reassoc' lets a dot product use vector lanes, 'contract' fused multiply-adds: other roundings than a plain loop's,
# but the same ones at every call.
_compile = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
_weighted_sum = _compile(_weighted_sum_loop)
_weights_gradient = _compile(_weights_gradient_loop)
_table_gradient = _compile(_table_gradient_loop)
