"""AdamW on rows on a GPU, compiled by Triton for float16, bfloat16, float32 and float64 weights.

The functions are those of `memscale.kernels.rows_torch`, with its formulas: what belongs to a row in float64, elements
in the moments' type. One program does one row and one block of columns: the sum of the row's reads is used where it is
made and never written. Second moments by row need the whole row before they can move any of it; there one program does
a row. The steps of rows are written after the kernel, for every block of a row reads them. Nothing waits for the GPU.
bfloat16 weights are rounded with the random bits of `memscale.kernels.rounding`.
Refuses nothing: the ops check what comes in.

U rows, V width of a row, N slots; within a program C columns at once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memscale.kernels import lazy_decay
from memscale.kernels.bags_triton import bag_sum, jit, launch, long_bags, num_blocks_of, tile
from memscale.kernels.row_gradient import GroupedLookups
from memscale.kernels.row_state import AdamWStep, RowState

LOOKUPS_AT_ONCE = 4
"""Most rows have one or two; the largest bags' sums are made beforehand."""
BLOCK_BYTES = 4096
"""Of a row of moments, for one program."""
_WARP_BYTES = 1024

_LOG_DECAY = tl.constexpr(lazy_decay.LOG_DECAY)
_BETA1_POWER = tl.constexpr(lazy_decay.BETA1_POWER)
_BETA2_POWER = tl.constexpr(lazy_decay.BETA2_POWER)
_FACTORS = tl.constexpr(lazy_decay.FACTORS)
_NODES = tl.constexpr(lazy_decay.NODES)
_NUM_NODES = tl.constexpr(lazy_decay.NUM_NODES)
_NUM_COLUMNS = tl.constexpr(lazy_decay.NUM_COLUMNS)


def catch_up(state: RowState, rows_U: Tensor, coefficients: Tensor, eps: float) -> None:
    if not len(rows_U):
        return
    step, constants = len(coefficients) - 1, constants_of(state)
    arguments = (rows_U.contiguous(), *_tensors(state), coefficients, _on_device(state, eps), step)
    launch(catch_up_kernel, len(rows_U) * num_blocks_of(constants), arguments, constants)
    state.weights_step_N.index_fill_(0, rows_U, step)


def update(
    state: RowState, lookups: GroupedLookups, scale: Tensor | float, coefficients: Tensor, numbers: AdamWStep
) -> None:
    if not len(lookups.rows_U):
        return
    n, constants = numbers, constants_of(state)
    kept = 1.0 - n.rate * n.weight_decay
    settings = _on_device(state, n.beta1, n.beta2, n.eps, kept, n.step_size, n.root_correction)
    if isinstance(scale, Tensor):
        scale = scale.to(state.first_NV.device, torch.float64)
    else:
        scale = torch.full((), scale, dtype=torch.float64, device=state.first_NV.device)
    read = (lookups.rows_U, lookups.starts_U1, lookups.tokens_A, lookups.weights_A, lookups.x_TV)
    rows_U, starts_U1, tokens_A, weights_A, x_TV = (tensor.detach().contiguous() for tensor in read)
    sums_WV = long_bags(x_TV, tokens_A, starts_U1, weights_A)
    arguments = (rows_U, *_tensors(state)[:-1], coefficients, settings, scale, n.step)
    arguments += (starts_U1, tokens_A, weights_A, x_TV, sums_WV)
    if state.by_row:
        launch(update_by_row_kernel, len(rows_U), arguments, constants)
    else:
        launch(update_kernel, len(rows_U) * num_blocks_of(constants), arguments, constants)
    for steps_N in (state.moments_step_N, state.weights_step_N):
        steps_N.index_fill_(0, rows_U, n.step)


def constants_of(state: RowState) -> dict[str, Any]:
    """Return what kernels on these rows are compiled with."""
    return {
        **rows_tile(state.first_NV.shape[1], state.first_NV.dtype),
        "STOCHASTIC": state.weights_NV.dtype == torch.bfloat16,
        "BY_ROW": state.by_row,
    }


def rows_tile(width: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return what kernels on rows of this width, with moments of this type, are compiled with."""
    columns = min(triton.next_power_of_2(width), BLOCK_BYTES // dtype.itemsize)
    return {
        **tile(width, dtype),
        "READS": LOOKUPS_AT_ONCE,
        "COLUMNS": columns,
        "num_warps": max(1, columns * dtype.itemsize // _WARP_BYTES),
    }


def _tensors(state: RowState) -> tuple[Tensor, ...]:
    tensors = (state.weights_NV.detach(), state.first_NV, state.second_NV, state.moments_step_N, state.weights_step_N)
    assert all(tensor.is_contiguous() for tensor in tensors), "a table or its state is a view"
    return tensors


def _on_device(state: RowState, *numbers: float) -> Tensor:
    """Return numbers as float64; as arguments of a kernel they would be float32."""
    device = state.first_NV.device
    on_host = torch.tensor(numbers, dtype=torch.float64, pin_memory=device.type == "cuda")
    return on_host.to(device, non_blocking=True)


@jit
def mixed(x: tl.tensor) -> tl.tensor:
    """The hash of `memscale.kernels.rounding`, of uint32."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


@jit
def random_bits(row: tl.tensor, columns_C: tl.tensor, step: tl.tensor) -> tl.tensor:
    """Return uint32: those of `memscale.kernels.rounding`."""
    seed = mixed(mixed(step.to(tl.uint32)) ^ (row >> 32).to(tl.uint32))
    return mixed(mixed(seed ^ row.to(tl.uint32)) ^ columns_C.to(tl.uint32))


@jit
def put(
    weights_ptr: tl.tensor,
    row: tl.tensor,
    columns_C: tl.tensor,
    values_C: tl.tensor,
    step: tl.tensor,
    WIDTH: tl.constexpr,
    STOCHASTIC: tl.constexpr,
) -> None:
    """Write weights, rounded to their type."""
    if STOCHASTIC:
        bits_C = values_C.to(tl.uint32, bitcast=True)
        bits_C = (bits_C + (random_bits(row, columns_C, step) & 0xFFFF)) & 0xFFFF0000
        finite_C = tl.abs(values_C) < float("inf")
        values_C = tl.where(finite_C, bits_C.to(tl.float32, bitcast=True), values_C)
    tl.store(weights_ptr + row * WIDTH + columns_C, values_C.to(weights_ptr.dtype.element_ty), mask=columns_C < WIDTH)


@jit
def catch_up_kernel(
    slots_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    moments_step_ptr: tl.tensor,
    weights_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    numbers_ptr: tl.tensor,
    step: tl.tensor,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    SUM: tl.constexpr,
    STOCHASTIC: tl.constexpr,
    BY_ROW: tl.constexpr,
) -> None:
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    row = tl.load(slots_ptr + tl.program_id(0) // num_blocks)
    since = tl.load(weights_step_ptr + row)
    moved = tl.load(moments_step_ptr + row)
    owed_ptr = coefficients_ptr + since.to(tl.int64) * _NUM_COLUMNS
    log_decay = tl.load(coefficients_ptr + step.to(tl.int64) * _NUM_COLUMNS + _LOG_DECAY) - tl.load(
        owed_ptr + _LOG_DECAY
    )
    # A row that never had a gradient has no moments to read, and only weight decay moves it.
    if (since < step) & ((moved > 0) | (log_decay != 0.0)):
        columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
        at_C, real_C = row * WIDTH + columns_C, columns_C < WIDTH
        weights_C = tl.load(weights_ptr + at_C, mask=real_C, other=0.0).to(SUM)
        if moved > 0:
            first_C = tl.load(first_ptr + at_C, mask=real_C, other=0.0)
            second = tl.load(second_ptr + row) if BY_ROW else tl.load(second_ptr + at_C, mask=real_C, other=0.0)
            # Moments are of the step of the last gradient; by `since` they had decayed.
            waited_ptr = coefficients_ptr + (since - moved).to(tl.int64) * _NUM_COLUMNS
            first_C *= tl.load(waited_ptr + _BETA1_POWER).to(SUM)
            root = tl.sqrt(second) * tl.sqrt(tl.load(waited_ptr + _BETA2_POWER)).to(SUM)
            eps = tl.load(numbers_ptr).to(SUM)
            slope = tl.zeros_like(root)
            for i in tl.static_range(_NUM_NODES):
                factor, node = tl.load(owed_ptr + _FACTORS + i).to(SUM), tl.load(owed_ptr + _NODES + i).to(SUM)
                slope += factor / (node * root + eps)
            weights_C -= first_C * slope
        put(weights_ptr, row, columns_C, tl.exp(log_decay).to(SUM) * weights_C, step, WIDTH, STOCHASTIC)


@jit
def decay(
    row: tl.tensor,
    moments_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    beta_ptr: tl.tensor,
    step: tl.tensor,
    POWER: tl.constexpr,
    SUM: tl.constexpr,
) -> tl.tensor:
    """Return what is kept of a moment by this step, and what is added of the new."""
    waited = (step - 1 - tl.load(moments_step_ptr + row)).to(tl.int64)
    beta = tl.load(beta_ptr)
    return (beta * tl.load(coefficients_ptr + waited * _NUM_COLUMNS + POWER)).to(SUM), (1.0 - beta).to(SUM)


@jit
def stepped(
    weights_C: tl.tensor, first_C: tl.tensor, second: tl.tensor, numbers_ptr: tl.tensor, SUM: tl.constexpr
) -> tl.tensor:
    """Return weights after a step along the moments."""
    eps, kept = tl.load(numbers_ptr + 2).to(SUM), tl.load(numbers_ptr + 3).to(SUM)
    step_size, root_correction = tl.load(numbers_ptr + 4).to(SUM), tl.load(numbers_ptr + 5).to(SUM)
    return weights_C.to(SUM) * kept - step_size * first_C / (tl.sqrt(second) * root_correction + eps)


@jit
def update_kernel(
    slots_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    moments_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    numbers_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    step: tl.tensor,
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
    STOCHASTIC: tl.constexpr,
) -> None:
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    u = tl.program_id(0) // num_blocks
    row = tl.load(slots_ptr + u)
    columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
    at_C, real_C = row * WIDTH + columns_C, columns_C < WIDTH
    # Asked for before the reads, so that they are there when those are summed.
    weights_C = tl.load(weights_ptr + at_C, mask=real_C, other=0.0)
    first_C = tl.load(first_ptr + at_C, mask=real_C, other=0.0)
    second_C = tl.load(second_ptr + at_C, mask=real_C, other=0.0)
    sums_C = bag_sum(
        u, columns_C, offsets_ptr, indices_ptr, factors_ptr, rows_ptr, partial_ptr, WIDTH, LOOKUPS, COLUMNS, CHUNK, SUM
    )
    gradient_C = sums_C * tl.load(scale_ptr).to(SUM)
    kept, new = decay(row, moments_step_ptr, coefficients_ptr, numbers_ptr, step, _BETA1_POWER, SUM)
    first_C = first_C * kept + new * gradient_C
    kept, new = decay(row, moments_step_ptr, coefficients_ptr, numbers_ptr + 1, step, _BETA2_POWER, SUM)
    second_C = second_C * kept + new * (gradient_C * gradient_C)
    tl.store(first_ptr + at_C, first_C, mask=real_C)
    tl.store(second_ptr + at_C, second_C, mask=real_C)
    put(weights_ptr, row, columns_C, stepped(weights_C, first_C, second_C, numbers_ptr, SUM), step, WIDTH, STOCHASTIC)


@jit
def update_by_row_kernel(
    slots_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    moments_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    numbers_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    step: tl.tensor,
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
    STOCHASTIC: tl.constexpr,
) -> None:
    u = tl.program_id(0)
    row = tl.load(slots_ptr + u)
    squares_C = tl.zeros([COLUMNS], SUM)
    for column in range(0, WIDTH, COLUMNS):
        columns_C = column + tl.arange(0, COLUMNS)
        sums_C = bag_sum(
            u,
            columns_C,
            offsets_ptr,
            indices_ptr,
            factors_ptr,
            rows_ptr,
            partial_ptr,
            WIDTH,
            LOOKUPS,
            COLUMNS,
            CHUNK,
            SUM,
        )
        gradient_C = sums_C * tl.load(scale_ptr).to(SUM)
        squares_C += gradient_C * gradient_C
        kept, new = decay(row, moments_step_ptr, coefficients_ptr, numbers_ptr, step, _BETA1_POWER, SUM)
        first_C = tl.load(first_ptr + row * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0)
        first_C = first_C * kept + new * gradient_C
        tl.store(first_ptr + row * WIDTH + columns_C, first_C, mask=columns_C < WIDTH)
    kept, new = decay(row, moments_step_ptr, coefficients_ptr, numbers_ptr + 1, step, _BETA2_POWER, SUM)
    second = tl.load(second_ptr + row) * kept + new * (tl.sum(squares_C, 0) / WIDTH)
    # All threads have read the old second moment, and may read what others wrote of the first.
    tl.debug_barrier()
    tl.store(second_ptr + row, second)
    for column in range(0, WIDTH, COLUMNS):
        columns_C = column + tl.arange(0, COLUMNS)
        weights_C = tl.load(weights_ptr + row * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0)
        first_C = tl.load(first_ptr + row * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0)
        weights_C = stepped(weights_C, first_C, second, numbers_ptr, SUM)
        put(weights_ptr, row, columns_C, weights_C, step, WIDTH, STOCHASTIC)
