"""Sums over bags of rows on a GPU, compiled by Triton for float16, bfloat16, float32 and float64.

The functions are those of `memscale.kernels.bags_torch`. One program of one warp sums one bag over one block of
columns, several rows at a time so that many loads are in flight, in float32 (float64 for float64). Small programs take
about equally long and hold few sums in registers, so that many run at once. There are no atomics: the order of a bag's
sum depends on the bag alone, so the bits are the same at every run. A slot with very many lookups would make one
program run long after all others; lookups beyond the first CHUNK of a bag are therefore summed beforehand, CHUNK by
CHUNK, by programs of their own. In `per_sample_weight_grad` a bag is a token with tens of lookups, and SPLIT programs
share it.
Arguments are not checked here: the ops do that, for a slot outside the table would corrupt memory.

Shape suffixes: A lookups, B bags, T tokens, K slots per token, U distinct rows, V width of a row, N rows.
Within a program: R lookups at once, C columns at once, H chunk sums at once; W windows of CHUNK lookups.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memscale.kernels.bags_torch import group_lookups, squared_norm, unique_slots
from memscale.kernels.triton_launch import CHUNK, SPLIT, jit, launch, num_blocks_of, tile, weight_grad_tile

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
    num_bags, width = len(offsets_B1) - 1, rows_NV.shape[1]
    sums_BV = torch.empty(num_bags, width, dtype=rows_NV.dtype, device=rows_NV.device)
    _over_bags(embedding_bag_kernel, rows_NV, indices_A, offsets_B1, weights_A, sums_BV, max_bag_size)
    return sums_BV


def bag_squared_norm(rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, weights_A: Tensor) -> Tensor:
    """As `memscale.kernels.bags_torch.bag_squared_norm`."""
    num_blocks = num_blocks_of(tile(rows_NV.shape[1], rows_NV.dtype))
    squares_BX = torch.empty(len(offsets_B1) - 1, num_blocks, dtype=torch.float64, device=rows_NV.device)
    _over_bags(bag_squared_norm_kernel, rows_NV, indices_A, offsets_B1, weights_A, squares_BX)
    return squares_BX.sum()


def per_sample_weight_grad(rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, x_BV: Tensor) -> Tensor:
    """As `memscale.kernels.bags_torch.per_sample_weight_grad`."""
    products_A = torch.empty(len(indices_A), dtype=rows_NV.dtype, device=rows_NV.device)
    if len(indices_A):
        tensors = (tensor.detach().contiguous() for tensor in (offsets_B1, indices_A, rows_NV, x_BV))
        constants = weight_grad_tile(rows_NV.shape[1], rows_NV.dtype)
        launch(per_sample_weight_grad_kernel, len(x_BV) * SPLIT, (*tensors, products_A), constants)
    return products_A


def long_bags(
    rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, weights_A: Tensor, max_bag_size: int | None = None
) -> Tensor:
    """Return [W, V]: the sums of all chunks of bags but each bag's first.

    Chunk j of a bag begins at lookup offset + j * CHUNK, and its sum is put in row (offset + j * CHUNK) // CHUNK: at
    most one chunk that is not its bag's first begins in a window of CHUNK lookups. The number of rows is therefore
    known without asking the GPU; rows to which no chunk belongs are undefined. `max_bag_size` as in
    `bags_torch.embedding_bag`.
    """
    most = len(indices_A) if max_bag_size is None else max_bag_size
    num_windows = triton.cdiv(len(indices_A), CHUNK) if most > CHUNK else 0
    kind = torch.promote_types(rows_NV.dtype, torch.float32)
    sums_WV = torch.empty(num_windows, rows_NV.shape[1], dtype=kind, device=rows_NV.device)
    if num_windows:
        constants = tile(rows_NV.shape[1], rows_NV.dtype)
        arguments = (offsets_B1, indices_A, weights_A, rows_NV, sums_WV, len(offsets_B1) - 1)
        launch(long_bags_kernel, num_windows * num_blocks_of(constants), arguments, constants)
    return sums_WV


def _over_bags(
    kernel: Any,
    rows_NV: Tensor,
    indices_A: Tensor,
    offsets_B1: Tensor,
    weights_A: Tensor,
    out: Tensor,
    max_bag_size: int | None = None,
) -> None:
    """Launch a kernel with one program per bag and block of columns."""
    if not out.numel():
        return
    constants = tile(rows_NV.shape[1], rows_NV.dtype)
    tensors = (tensor.detach().contiguous() for tensor in (rows_NV, indices_A, offsets_B1, weights_A))
    rows_NV, indices_A, offsets_B1, weights_A = tensors
    partial_WV = long_bags(rows_NV, indices_A, offsets_B1, weights_A, max_bag_size)
    num_programs = (len(offsets_B1) - 1) * num_blocks_of(constants)
    launch(kernel, num_programs, (offsets_B1, indices_A, weights_A, rows_NV, partial_WV, out), constants)


@jit
def add_lookups(
    sums_C: tl.tensor,
    first: tl.tensor,
    last: tl.tensor,
    indices_ptr: tl.tensor,
    factors_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    columns_C: tl.tensor,
    WIDTH: tl.constexpr,
    LOOKUPS: tl.constexpr,
    SUM: tl.constexpr,
) -> tl.tensor:
    """Add the lookups first..last to `sums_C`, LOOKUPS at once."""
    for start in range(first, last, LOOKUPS):
        lookups_R = start + tl.arange(0, LOOKUPS)
        indices_R = tl.load(indices_ptr + lookups_R, mask=lookups_R < last, other=0)
        factors_R = tl.load(factors_ptr + lookups_R, mask=lookups_R < last, other=0.0).to(SUM)
        wanted_RC = (lookups_R < last)[:, None] & (columns_C < WIDTH)[None, :]
        rows_RC = tl.load(rows_ptr + indices_R[:, None] * WIDTH + columns_C[None, :], mask=wanted_RC, other=0.0)
        sums_C += tl.sum(factors_R[:, None] * rows_RC.to(SUM), 0)
    return sums_C


@jit
def bag_sum(
    b: tl.tensor,
    columns_C: tl.tensor,
    offsets_ptr: tl.tensor,
    indices_ptr: tl.tensor,
    factors_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    WIDTH: tl.constexpr,
    LOOKUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    SUM: tl.constexpr,
) -> tl.tensor:
    """Sum a bag: the lookups of its first chunk, and the sums that `long_bags` made of the others."""
    first, last = tl.load(offsets_ptr + b), tl.load(offsets_ptr + b + 1)
    sums_C = tl.zeros([COLUMNS], SUM)
    end = tl.minimum(last, first + CHUNK)
    sums_C = add_lookups(sums_C, first, end, indices_ptr, factors_ptr, rows_ptr, columns_C, WIDTH, LOOKUPS, SUM)
    if last - first > CHUNK:
        # Fewer rows at once than above: partial sums may be twice as wide as the rows.
        past = first // CHUNK + tl.cdiv(last - first, CHUNK)
        for start in range(first // CHUNK + 1, past, LOOKUPS // 4):
            windows_H = start + tl.arange(0, LOOKUPS // 4)
            wanted_HC = (windows_H < past)[:, None] & (columns_C < WIDTH)[None, :]
            more_HC = tl.load(partial_ptr + windows_H[:, None] * WIDTH + columns_C[None, :], mask=wanted_HC, other=0.0)
            sums_C += tl.sum(more_HC, 0)
    return sums_C


@jit
def embedding_bag_kernel(
    offsets_ptr: tl.tensor,
    indices_ptr: tl.tensor,
    factors_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    out_ptr: tl.tensor,
    WIDTH: tl.constexpr,
    LOOKUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """Write the sum of one bag over one block of columns."""
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    b = (tl.program_id(0) // num_blocks).to(tl.int64)
    columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
    sums_C = bag_sum(
        b, columns_C, offsets_ptr, indices_ptr, factors_ptr, rows_ptr, partial_ptr, WIDTH, LOOKUPS, COLUMNS, CHUNK, SUM
    )
    tl.store(out_ptr + b * WIDTH + columns_C, sums_C.to(out_ptr.dtype.element_ty), mask=columns_C < WIDTH)


@jit
def bag_squared_norm_kernel(
    offsets_ptr: tl.tensor,
    indices_ptr: tl.tensor,
    factors_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    out_ptr: tl.tensor,
    WIDTH: tl.constexpr,
    LOOKUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """Write the sum of squares of one bag's sum over one block of columns, in float64."""
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    b = (tl.program_id(0) // num_blocks).to(tl.int64)
    columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
    sums_C = bag_sum(
        b, columns_C, offsets_ptr, indices_ptr, factors_ptr, rows_ptr, partial_ptr, WIDTH, LOOKUPS, COLUMNS, CHUNK, SUM
    )
    sums_C = sums_C.to(tl.float64)
    tl.store(out_ptr + tl.program_id(0), tl.sum(sums_C * sums_C, 0))


@jit
def long_bags_kernel(
    offsets_ptr: tl.tensor,
    indices_ptr: tl.tensor,
    factors_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    num_bags: tl.tensor,
    WIDTH: tl.constexpr,
    LOOKUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """Sum the chunk that begins in one window of lookups and is not its bag's first, if there is one."""
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    window = (tl.program_id(0) // num_blocks).to(tl.int64)
    at = window * CHUNK
    # The bag of lookup `at`, by bisection: bags that begin later in the window have their second chunk after it.
    bag, past = tl.full([], 0, tl.int32), num_bags
    while past - bag > 1:
        middle = (bag + past) // 2
        before = tl.load(offsets_ptr + middle) <= at
        bag, past = tl.where(before, middle, bag), tl.where(before, past, middle)
    first, last = tl.load(offsets_ptr + bag), tl.load(offsets_ptr + bag + 1)
    start = first + tl.cdiv(at - first, CHUNK) * CHUNK
    if (at > first) & (start < last):
        columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
        sums_C = tl.zeros([COLUMNS], SUM)
        end = tl.minimum(last, start + CHUNK)
        sums_C = add_lookups(sums_C, start, end, indices_ptr, factors_ptr, rows_ptr, columns_C, WIDTH, LOOKUPS, SUM)
        tl.store(partial_ptr + window * WIDTH + columns_C, sums_C, mask=columns_C < WIDTH)


@jit
def per_sample_weight_grad_kernel(
    offsets_ptr: tl.tensor,
    indices_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    x_ptr: tl.tensor,
    out_ptr: tl.tensor,
    WIDTH: tl.constexpr,
    LOOKUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLIT: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """Write the products of one of SPLIT shares of a bag's lookups."""
    b = (tl.program_id(0) // SPLIT).to(tl.int64)
    first, last = tl.load(offsets_ptr + b), tl.load(offsets_ptr + b + 1)
    for start in range(first + tl.program_id(0) % SPLIT * LOOKUPS, last, SPLIT * LOOKUPS):
        lookups_R = start + tl.arange(0, LOOKUPS)
        indices_R = tl.load(indices_ptr + lookups_R, mask=lookups_R < last, other=0)
        products_RC = tl.zeros([LOOKUPS, COLUMNS], SUM)
        for column in tl.range(0, WIDTH, COLUMNS, loop_unroll_factor=4):
            columns_C = column + tl.arange(0, COLUMNS)
            wanted_RC = (lookups_R < last)[:, None] & (columns_C < WIDTH)[None, :]
            x_C = tl.load(x_ptr + b * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0).to(SUM)
            rows_RC = tl.load(rows_ptr + indices_R[:, None] * WIDTH + columns_C[None, :], mask=wanted_RC, other=0.0)
            products_RC += rows_RC.to(SUM) * x_C[None, :]
        products_R = tl.sum(products_RC, 1)
        tl.store(out_ptr + lookups_R, products_R.to(out_ptr.dtype.element_ty), mask=lookups_R < last)
