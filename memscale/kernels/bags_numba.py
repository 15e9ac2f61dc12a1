"""Bags of rows on the CPU, compiled by Numba for float32 and float64 and kept on disk between processes.

The functions are those of `memscale.kernels.bags_torch`. Nothing of size [A, V] is ever made, and every sum is taken in
the order of its reads by one thread: no race, and the same bits for any number of threads.
Refuses nothing: the ops check what comes in, for a slot outside the table would corrupt memory here.

A reads, B bags, V width of a row, N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memscale.kernels.compiled import compiled
from memscale.kernels.grouping_numba import distinct, grouped
from memscale.kernels.prefetch import LINE_BYTES, prefetch
from memscale.kernels.threads import run_in_parts, run_over_bags

Floats = NDArray[Any]
Integers = NDArray[np.int64]

__all__ = ["bag_products", "bag_squares", "bag_sums", "distinct", "grouped", "squares"]


def bag_sums(
    rows_NV: Tensor, places_A: Tensor, offsets_B1: Tensor, weights_A: Tensor, *, longest: int | None = None
) -> Tensor:
    del longest
    sums_BV = torch.empty(len(offsets_B1) - 1, rows_NV.shape[1], dtype=rows_NV.dtype)
    arrays = _arrays(places_A, rows_NV, weights_A, sums_BV)
    run_over_bags(_bag_sums, _array(offsets_B1), *arrays)
    return sums_BV


def bag_products(rows_NV: Tensor, places_A: Tensor, offsets_B1: Tensor, x_BV: Tensor) -> Tensor:
    products_A = torch.empty(len(places_A), dtype=rows_NV.dtype)
    run_over_bags(_bag_products, _array(offsets_B1), *_arrays(places_A, rows_NV, x_BV, products_A))
    return products_A


def bag_squares(rows_NV: Tensor, places_A: Tensor, offsets_B1: Tensor, weights_A: Tensor) -> Tensor:
    squares_B = torch.empty(len(offsets_B1) - 1, dtype=torch.float64)
    run_over_bags(_bag_squares, _array(offsets_B1), *_arrays(places_A, rows_NV, weights_A, squares_B))
    return _sum(squares_B)


def squares(rows_NV: Tensor) -> Tensor:
    squares_N = torch.empty(len(rows_NV), dtype=torch.float64)
    run_in_parts(_squares, len(rows_NV), *_arrays(rows_NV, squares_N))
    return _sum(squares_N)


def _sum(values_B: Tensor) -> Tensor:
    """NumPy's sum, whose order does not depend on the number of threads, as torch's does."""
    return torch.tensor(values_B.numpy().sum())


def _arrays(*tensors: Tensor) -> tuple[Floats, ...]:
    return tuple(_array(tensor) for tensor in tensors)


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().contiguous().numpy()


def _fetch_loop(rows_NV: Floats, row: int) -> None:
    """Ask for a whole row that will soon be needed."""
    for column in range(0, rows_NV.shape[1], LINE_BYTES // rows_NV.itemsize):
        prefetch(rows_NV, row, column)


def _sum_bag_loop(
    sums_V: Floats, first: int, last: int, places_A: Integers, rows_NV: Floats, weights_A: Floats
) -> None:
    """Put the weighted sum of the reads first..last into `sums_V`."""
    width = rows_NV.shape[1]
    for v in range(width):
        sums_V[v] = 0.0
    whole = first + (last - first) // 8 * 8
    # Eight rows at a time: the sums are read and written an eighth as often, and eight rows are on their way at once.
    for i in range(first, whole, 8):
        a, b, c, d = weights_A[i], weights_A[i + 1], weights_A[i + 2], weights_A[i + 3]
        e, f, g, h = weights_A[i + 4], weights_A[i + 5], weights_A[i + 6], weights_A[i + 7]
        row_a, row_b = rows_NV[places_A[i]], rows_NV[places_A[i + 1]]
        row_c, row_d = rows_NV[places_A[i + 2]], rows_NV[places_A[i + 3]]
        row_e, row_f = rows_NV[places_A[i + 4]], rows_NV[places_A[i + 5]]
        row_g, row_h = rows_NV[places_A[i + 6]], rows_NV[places_A[i + 7]]
        for v in range(width):
            four = a * row_a[v] + b * row_b[v] + (c * row_c[v] + d * row_d[v])
            sums_V[v] += four + (e * row_e[v] + f * row_f[v] + (g * row_g[v] + h * row_h[v]))
    for i in range(whole, last):
        weight, row = weights_A[i], rows_NV[places_A[i]]
        for v in range(width):
            sums_V[v] += weight * row[v]


def _bag_sums_loop(
    start: int,
    stop: int,
    offsets_B1: Integers,
    places_A: Integers,
    rows_NV: Floats,
    weights_A: Floats,
    sums_BV: Floats,
) -> None:
    for b in range(start, stop):
        sum_bag(sums_BV[b], offsets_B1[b], offsets_B1[b + 1], places_A, rows_NV, weights_A)


def _bag_squares_loop(
    start: int,
    stop: int,
    offsets_B1: Integers,
    places_A: Integers,
    rows_NV: Floats,
    weights_A: Floats,
    squares_B: NDArray[np.float64],
) -> None:
    sums_V, zero = np.empty(rows_NV.shape[1], rows_NV.dtype), rows_NV.dtype.type(0)
    for b in range(start, stop):
        sum_bag(sums_V, offsets_B1[b], offsets_B1[b + 1], places_A, rows_NV, weights_A)
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


def _bag_products_loop(
    start: int,
    stop: int,
    offsets_B1: Integers,
    places_A: Integers,
    rows_NV: Floats,
    x_BV: Floats,
    products_A: Floats,
) -> None:
    width, zero = rows_NV.shape[1], rows_NV.dtype.type(0)
    for b in range(start, stop):
        x, last = x_BV[b], offsets_B1[b + 1]
        whole = offsets_B1[b] + (last - offsets_B1[b]) // 4 * 4
        for i in range(offsets_B1[b], whole, 4):  # four rows are on their way at once
            row_a, row_b = rows_NV[places_A[i]], rows_NV[places_A[i + 1]]
            row_c, row_d = rows_NV[places_A[i + 2]], rows_NV[places_A[i + 3]]
            product_a, product_b, product_c, product_d = zero, zero, zero, zero
            for v in range(width):
                product_a += row_a[v] * x[v]
                product_b += row_b[v] * x[v]
                product_c += row_c[v] * x[v]
                product_d += row_d[v] * x[v]
            products_A[i], products_A[i + 1] = product_a, product_b
            products_A[i + 2], products_A[i + 3] = product_c, product_d
        for i in range(whole, last):
            row = rows_NV[places_A[i]]
            product = zero
            for v in range(width):
                product += row[v] * x[v]
            products_A[i] = product


# 'reassoc' lets a dot product use vector lanes, 'contract' fused multiply-adds: other roundings than a plain loop's,
# but the same ones at every call.
_compiled = compiled("reassoc", "contract")
fetch = _compiled(_fetch_loop)
sum_bag = _compiled(_sum_bag_loop)
_bag_sums = _compiled(_bag_sums_loop)
_bag_squares = _compiled(_bag_squares_loop)
_squares = _compiled(_squares_loop)
_bag_products = _compiled(_bag_products_loop)
