"""Stochastic rounding to bfloat16 inside Triton kernels, with the random bits of `memscale.kernels.rounding`.

Within a program C columns at once.
"""

from __future__ import annotations

import triton.language as tl

from memscale.kernels.triton_launch import jit


@jit
def mixed(x: tl.tensor) -> tl.tensor:
    """MurmurHash3's 32-bit finaliser on uint32, as in `memscale.kernels.rounding`."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


@jit
def random_bits(row: tl.tensor, columns_C: tl.tensor, step: tl.tensor) -> tl.tensor:
    """Return the random bits of `memscale.kernels.rounding` as uint32."""
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
