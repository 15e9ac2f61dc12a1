"""Sums over bags of rows on the CPU, compiled by Numba for float32 and float64.

The functions are those of `memscale.kernels.bags_torch`. Every sum is taken in the order of its lookups by one thread:
no races, and the same bits for any number of threads. Arguments are not checked here, and a slot outside the table
would corrupt memory: the ops check them.

Shape suffixes: A lookups, B bags, T tokens, K slots per token, U distinct rows, V width of a row, N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memscale.kernels.grouping_numba import group_lookups, unique_slots
from memscale.kernels.numba_jit import numba_jit
from memscale.kernels.prefetch import LINE_BYTES, prefetch
from memscale.kernels.threads import parallel_for, parallel_for_bags

Floats = NDArray[Any]
Integers = NDArray[np.int64]

__all__ = [
    "bag_squared_norm",
    "embedding_bag",
    "group_lookups",
    "per_sample_weight_grad",
    "squared_norm",
    "unique_slots",
]


def embedding_bag(
    rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, weights_A: Tensor, *, max_bag_size: int | None = None
) -> Tensor:
    """As `memscale.kernels.bags_torch.embedding_bag`."""
    del max_bag_size
    sums_BV = torch.empty(len(offsets_B1) - 1, rows_NV.shape[1], dtype=rows_NV.dtype)
    arrays = _arrays(indices_A, rows_NV, weights_A, sums_BV)
    parallel_for_bags(_embedding_bag, _array(offsets_B1), *arrays)
    return sums_BV


def per_sample_weight_grad(rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, x_BV: Tensor) -> Tensor:
    """As `memscale.kernels.bags_torch.per_sample_weight_grad`."""
    products_A = torch.empty(len(indices_A), dtype=rows_NV.dtype)
    parallel_for_bags(_per_sample_weight_grad, _array(offsets_B1), *_arrays(indices_A, rows_NV, x_BV, products_A))
    return products_A


def bag_squared_norm(rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, weights_A: Tensor) -> Tensor:
    """As `memscale.kernels.bags_torch.bag_squared_norm`."""
    squares_B = torch.empty(len(offsets_B1) - 1, dtype=torch.float64)
    parallel_for_bags(_bag_squared_norm, _array(offsets_B1), *_arrays(indices_A, rows_NV, weights_A, squares_B))
    return _sum(squares_B)


def squared_norm(rows_NV: Tensor) -> Tensor:
    """As `memscale.kernels.bags_torch.squared_norm`."""
    squares_N = torch.empty(len(rows_NV), dtype=torch.float64)
    parallel_for(_squares, len(rows_NV), *_arrays(rows_NV, squares_N))
    return _sum(squares_N)


def _sum(values_B: Tensor) -> Tensor:
    """Sum with NumPy, whose order of summation does not depend on the number of threads, as torch's does."""
    return torch.tensor(values_B.numpy().sum())


def _arrays(*tensors: Tensor) -> tuple[Floats, ...]:
    return tuple(_array(tensor) for tensor in tensors)


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().contiguous().numpy()


def _prefetch_row_loop(rows_NV: Floats, row: int) -> None:
    """Prefetch a whole row that will soon be needed."""
    for column in range(0, rows_NV.shape[1], LINE_BYTES // rows_NV.itemsize):
        prefetch(rows_NV, row, column)


def _sum_bag_loop(
    sums_V: Floats, first: int, last: int, indices_A: Integers, rows_NV: Floats, weights_A: Floats
) -> None:
    """Put the weighted sum of the lookups first..last into `sums_V`."""
    width = rows_NV.shape[1]
    for v in range(width):
        sums_V[v] = 0.0
    whole = first + (last - first) // 8 * 8
    # Eight rows at a time: the sums are read and written an eighth as often, and eight rows are fetched at once.
    for i in range(first, whole, 8):
        a, b, c, d = weights_A[i], weights_A[i + 1], weights_A[i + 2], weights_A[i + 3]
        e, f, g, h = weights_A[i + 4], weights_A[i + 5], weights_A[i + 6], weights_A[i + 7]
        row_a, row_b = rows_NV[indices_A[i]], rows_NV[indices_A[i + 1]]
        row_c, row_d = rows_NV[indices_A[i + 2]], rows_NV[indices_A[i + 3]]
        row_e, row_f = rows_NV[indices_A[i + 4]], rows_NV[indices_A[i + 5]]
        row_g, row_h = rows_NV[indices_A[i + 6]], rows_NV[indices_A[i + 7]]
        for v in range(width):
            four = a * row_a[v] + b * row_b[v] + (c * row_c[v] + d * row_d[v])
            sums_V[v] += four + (e * row_e[v] + f * row_f[v] + (g * row_g[v] + h * row_h[v]))
    for i in range(whole, last):
        weight, row = weights_A[i], rows_NV[indices_A[i]]
        for v in range(width):
            sums_V[v] += weight * row[v]


def _embedding_bag_loop(
    start: int,
    stop: int,
    offsets_B1: Integers,
    indices_A: Integers,
    rows_NV: Floats,
    weights_A: Floats,
    sums_BV: Floats,
) -> None:
    for b in range(start, stop):
        sum_bag(sums_BV[b], offsets_B1[b], offsets_B1[b + 1], indices_A, rows_NV, weights_A)


def _bag_squared_norm_loop(
    start: int,
    stop: int,
    offsets_B1: Integers,
    indices_A: Integers,
    rows_NV: Floats,
    weights_A: Floats,
    squares_B: NDArray[np.float64],
) -> None:
    sums_V, zero = np.empty(rows_NV.shape[1], rows_NV.dtype), rows_NV.dtype.type(0)
    for b in range(start, stop):
        sum_bag(sums_V, offsets_B1[b], offsets_B1[b + 1], indices_A, rows_NV, weights_A)
        square = zero
        for v in range(sums_V.shape[0]):
            square += sums_V[v] * sums_V[v]
        squares_B[b] = square


def _squares_loop(start: int, stop: int, rows_NV: Floats, squares_N: NDArray[np.float64]) -> None:
    zero = rows_NV.dtype.type(0)
    for n in range(start, stop):
        square, row = zero, rows_NV[n]
        for v in range(row.shape[0]):
            square += row[v] * row[v]
        squares_N[n] = square


def _per_sample_weight_grad_loop(
    start: int,
    stop: int,
    offsets_B1: Integers,
    indices_A: Integers,
    rows_NV: Floats,
    x_BV: Floats,
    products_A: Floats,
) -> None:
    width, zero = rows_NV.shape[1], rows_NV.dtype.type(0)
    for b in range(start, stop):
        x, last = x_BV[b], offsets_B1[b + 1]
        whole = offsets_B1[b] + (last - offsets_B1[b]) // 4 * 4
        for i in range(offsets_B1[b], whole, 4):  # four rows are fetched at once
            row_a, row_b = rows_NV[indices_A[i]], rows_NV[indices_A[i + 1]]
            row_c, row_d = rows_NV[indices_A[i + 2]], rows_NV[indices_A[i + 3]]
            product_a, product_b, product_c, product_d = zero, zero, zero, zero
            for v in range(width):
                product_a += row_a[v] * x[v]
                product_b += row_b[v] * x[v]
                product_c += row_c[v] * x[v]
                product_d += row_d[v] * x[v]
            products_A[i], products_A[i + 1] = product_a, product_b
            products_A[i + 2], products_A[i + 3] = product_c, product_d
        for i in range(whole, last):
            row = rows_NV[indices_A[i]]
            product = zero
            for v in range(width):
                product += row[v] * x[v]
            products_A[i] = product


# 'reassoc' lets a dot product use vector lanes, 'contract' fused multiply-adds: other roundings than a plain loop's,
# but the same ones at every call.
_compiled = numba_jit("reassoc", "contract")
prefetch_row = _compiled(_prefetch_row_loop)
sum_bag = _compiled(_sum_bag_loop)
_embedding_bag = _compiled(_embedding_bag_loop)
_bag_squared_norm = _compiled(_bag_squared_norm_loop)
_squares = _compiled(_squares_loop)
_per_sample_weight_grad = _compiled(_per_sample_weight_grad_loop)
