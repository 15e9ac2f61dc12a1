"""AdamW on rows on a GPU, compiled by Triton for float16, bfloat16, float32 and float64 weights.

The functions are those of `memscale.kernels.rows_torch`, with its formulas: per-row quantities in float64, elements in
the moments' type. One program updates one row over one block of columns; the row's gradient is summed where it is
consumed, and never written. With one second moment per row the whole row is needed before any of it can be updated, so
one program updates a whole row. The step numbers of rows are written after the kernel, because every block of a row
reads them. Nothing waits for the GPU. bfloat16 weights are rounded with the random bits of `memscale.kernels.rounding`.

Shape suffixes: U rows, V width of a row, N slots; within a program C columns at once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from memscale.kernels import lazy_decay
from memscale.kernels.bags_triton import bag_sum, long_bags
from memscale.kernels.rounding_triton import put
from memscale.kernels.row_gradient import GroupedLookups
from memscale.kernels.row_state import AdamWStep, RowState
from memscale.kernels.triton_launch import jit, launch, num_blocks_of, tile

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
    """As `memscale.kernels.rows_torch.catch_up`."""
    if not len(rows_U):
        return
    step, constants = len(coefficients) - 1, constants_of(state)
    arguments = (rows_U.contiguous(), *_tensors(state), coefficients, _on_device(state, eps), step)
    launch(catch_up_kernel, len(rows_U) * num_blocks_of(constants), arguments, constants)
    state.weights_step_N.index_fill_(0, rows_U, step)


def update(
    state: RowState, lookups: GroupedLookups, scale: Tensor | float, coefficients: Tensor, adamw_step: AdamWStep
) -> None:
    """As `memscale.kernels.rows_torch.update`."""
    if not len(lookups.rows_U):
        return
    n, constants = adamw_step, constants_of(state)
    kept = 1.0 - n.learning_rate * n.weight_decay
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
    """Return the compile-time constants of kernels on these rows."""
    return {
        **rows_tile(state.first_NV.shape[1], state.first_NV.dtype),
        "STOCHASTIC": state.weights_NV.dtype == torch.bfloat16,
        "BY_ROW": state.by_row,
    }


def rows_tile(width: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return the compile-time constants of kernels on rows of this width, with moments of this type."""
    columns = min(triton.next_power_of_2(width), BLOCK_BYTES // dtype.itemsize)
    return {
        **tile(width, dtype),
        "LOOKUPS": LOOKUPS_AT_ONCE,
        "COLUMNS": columns,
        "num_warps": max(1, columns * dtype.itemsize // _WARP_BYTES),
    }


def _tensors(state: RowState) -> tuple[Tensor, ...]:
    tensors = (state.weights_NV.detach(), state.first_NV, state.second_NV, state.moments_step_N, state.weights_step_N)
    assert all(tensor.is_contiguous() for tensor in tensors), "a table or its state is a view"
    return tensors


def _on_device(state: RowState, *constants: float) -> Tensor:
    """Return numbers as a float64 tensor; as arguments of a kernel they would be float32."""
    device = state.first_NV.device
    on_host = torch.tensor(constants, dtype=torch.float64, pin_memory=device.type == "cuda")
    return on_host.to(device, non_blocking=True)


@jit
def catch_up_kernel(
    slots_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    moments_step_ptr: tl.tensor,
    weights_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    constants_ptr: tl.tensor,
    step: tl.tensor,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    SUM: tl.constexpr,
    STOCHASTIC: tl.constexpr,
    BY_ROW: tl.constexpr,
) -> None:
    """Apply the pending update of one row over one block of columns."""
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    row = tl.load(slots_ptr + tl.program_id(0) // num_blocks)
    since = tl.load(weights_step_ptr + row)
    moved = tl.load(moments_step_ptr + row)
    since_ptr = coefficients_ptr + since.to(tl.int64) * _NUM_COLUMNS
    log_decay = tl.load(coefficients_ptr + step.to(tl.int64) * _NUM_COLUMNS + _LOG_DECAY) - tl.load(
        since_ptr + _LOG_DECAY
    )
    # A row that never had a gradient has moments of zero, and only weight decay changes it.
    if (since < step) & ((moved > 0) | (log_decay != 0.0)):
        columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
        at_C, real_C = row * WIDTH + columns_C, columns_C < WIDTH
        weights_C = tl.load(weights_ptr + at_C, mask=real_C, other=0.0).to(SUM)
        if moved > 0:
            first_C = tl.load(first_ptr + at_C, mask=real_C, other=0.0)
            second = tl.load(second_ptr + row) if BY_ROW else tl.load(second_ptr + at_C, mask=real_C, other=0.0)
            # Moments are those of the last gradient's step; by step `since` they had decayed.
            missed_ptr = coefficients_ptr + (since - moved).to(tl.int64) * _NUM_COLUMNS
            first_C *= tl.load(missed_ptr + _BETA1_POWER).to(SUM)
            root = tl.sqrt(second) * tl.sqrt(tl.load(missed_ptr + _BETA2_POWER)).to(SUM)
            eps = tl.load(constants_ptr).to(SUM)
            slope = tl.zeros_like(root)
            for i in tl.static_range(_NUM_NODES):
                factor, node = tl.load(since_ptr + _FACTORS + i).to(SUM), tl.load(since_ptr + _NODES + i).to(SUM)
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
    """Return the factor on a moment in this step, and the factor on the new gradient."""
    missed = (step - 1 - tl.load(moments_step_ptr + row)).to(tl.int64)
    beta = tl.load(beta_ptr)
    return (beta * tl.load(coefficients_ptr + missed * _NUM_COLUMNS + POWER)).to(SUM), (1.0 - beta).to(SUM)


@jit
def stepped(
    weights_C: tl.tensor, first_C: tl.tensor, second: tl.tensor, constants_ptr: tl.tensor, SUM: tl.constexpr
) -> tl.tensor:
    """Return the weights after a step along the moments."""
    eps, kept = tl.load(constants_ptr + 2).to(SUM), tl.load(constants_ptr + 3).to(SUM)
    step_size, root_correction = tl.load(constants_ptr + 4).to(SUM), tl.load(constants_ptr + 5).to(SUM)
    return weights_C.to(SUM) * kept - step_size * first_C / (tl.sqrt(second) * root_correction + eps)


@jit
def update_kernel(
    slots_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    moments_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    constants_ptr: tl.tensor,
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
    """Take one AdamW step on one row over one block of columns."""
    num_blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    u = tl.program_id(0) // num_blocks
    row = tl.load(slots_ptr + u)
    columns_C = tl.program_id(0) % num_blocks * COLUMNS + tl.arange(0, COLUMNS)
    at_C, real_C = row * WIDTH + columns_C, columns_C < WIDTH
    # Loaded before the lookups are summed, so that they have arrived by then.
    weights_C = tl.load(weights_ptr + at_C, mask=real_C, other=0.0)
    first_C = tl.load(first_ptr + at_C, mask=real_C, other=0.0)
    second_C = tl.load(second_ptr + at_C, mask=real_C, other=0.0)
    sums_C = bag_sum(
        u, columns_C, offsets_ptr, indices_ptr, factors_ptr, rows_ptr, partial_ptr, WIDTH, LOOKUPS, COLUMNS, CHUNK, SUM
    )
    gradient_C = sums_C * tl.load(scale_ptr).to(SUM)
    kept, new = decay(row, moments_step_ptr, coefficients_ptr, constants_ptr, step, _BETA1_POWER, SUM)
    first_C = first_C * kept + new * gradient_C
    kept, new = decay(row, moments_step_ptr, coefficients_ptr, constants_ptr + 1, step, _BETA2_POWER, SUM)
    second_C = second_C * kept + new * (gradient_C * gradient_C)
    tl.store(first_ptr + at_C, first_C, mask=real_C)
    tl.store(second_ptr + at_C, second_C, mask=real_C)
    put(weights_ptr, row, columns_C, stepped(weights_C, first_C, second_C, constants_ptr, SUM), step, WIDTH, STOCHASTIC)


@jit
def update_by_row_kernel(
    slots_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    moments_step_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    constants_ptr: tl.tensor,
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
    """Take one step on one whole row with one second moment per row."""
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
        kept, new = decay(row, moments_step_ptr, coefficients_ptr, constants_ptr, step, _BETA1_POWER, SUM)
        first_C = tl.load(first_ptr + row * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0)
        first_C = first_C * kept + new * gradient_C
        tl.store(first_ptr + row * WIDTH + columns_C, first_C, mask=columns_C < WIDTH)
    kept, new = decay(row, moments_step_ptr, coefficients_ptr, constants_ptr + 1, step, _BETA2_POWER, SUM)
    second = tl.load(second_ptr + row) * kept + new * (tl.sum(squares_C, 0) / WIDTH)
    # A barrier: all threads have read the old second moment, and see the first moments that others wrote.
    tl.debug_barrier()
    tl.store(second_ptr + row, second)
    for column in range(0, WIDTH, COLUMNS):
        columns_C = column + tl.arange(0, COLUMNS)
        weights_C = tl.load(weights_ptr + row * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0)
        first_C = tl.load(first_ptr + row * WIDTH + columns_C, mask=columns_C < WIDTH, other=0.0)
        weights_C = stepped(weights_C, first_C, second, constants_ptr, SUM)
        put(weights_ptr, row, columns_C, weights_C, step, WIDTH, STOCHASTIC)
