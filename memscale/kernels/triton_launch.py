"""How the Triton kernels are compiled and launched: their compile-time constants, and the blocks of a row.

A kernel is compiled once per type and width, and not again for another number of bags or lookups.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

CHUNK = 256
"""Lookups of a bag that one program sums."""
LOOKUPS_AT_ONCE = 16
BLOCK_BYTES = 1024
"""Bytes of a row that one program works on: 32 for each of its 32 threads."""
WEIGHT_GRADS_AT_ONCE = 4
SPLIT = 4
"""Programs that share the lookups of one bag in `per_sample_weight_grad`."""
_RUNTIME = ("num_bags", "step")
"""Integers that differ from call to call; kernels are not specialised on them."""


def jit(function: Callable[..., Any]) -> Any:
    """Compile a Triton kernel, or a part of one, when it is first called."""
    plain = [name for name in inspect.signature(function).parameters if name in _RUNTIME]
    return triton.jit(function, do_not_specialize=plain)


def tile(width: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return the compile-time constants of kernels on rows of this width and type."""
    return {
        "WIDTH": width,
        "LOOKUPS": LOOKUPS_AT_ONCE,
        "COLUMNS": min(triton.next_power_of_2(width), BLOCK_BYTES // dtype.itemsize),
        "CHUNK": CHUNK,
        "SPLIT": SPLIT,
        "SUM": tl.float64 if dtype == torch.float64 else tl.float32,
        "num_warps": 1,
        "enable_fp_fusion": True,  # explicit, because Triton's default is about to change
    }


def weight_grad_tile(width: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return the constants of `per_sample_weight_grad_kernel`, which holds sums of every lookup."""
    return {**tile(width, dtype), "LOOKUPS": WEIGHT_GRADS_AT_ONCE}


def launch(kernel: Any, num_programs: int, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
    """Launch a kernel on the device of its arguments, with those of the constants that it takes."""
    known = {name: value for name, value in constants.items() if name.islower() or name in kernel.arg_names}
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[(num_programs,)](*arguments, **known)


def num_blocks_of(constants: dict[str, Any]) -> int:
    """Return the number of blocks of columns in a row."""
    return int(triton.cdiv(constants["WIDTH"], constants["COLUMNS"]))
