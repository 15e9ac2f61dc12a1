"""Runs a compiled CPU kernel over parts of its work, as many as torch has threads.

Kernels release the interpreter's lock, so plain threads do; Numba's own pools are not used, for they fall over when
forked or entered from two threads. What a part writes belongs to it alone, so results do not depend on their number.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

_LEAST_PART = 64
"""Fewer rows than this are not worth a thread."""


def run_in_parts(kernel: Callable[..., None], size: int, *arguments: object) -> None:
    """Call `kernel(start, stop, *arguments)` over parts that cover range(size); return when all are done."""
    num_parts = max(1, min(torch.get_num_threads(), size // _LEAST_PART))
    if num_parts == 1:
        kernel(0, size, *arguments)
        return
    bounds = [size * part // num_parts for part in range(num_parts + 1)]
    pool = _pool(num_parts)
    parts = [pool.submit(kernel, start, stop, *arguments) for start, stop in itertools.pairwise(bounds)]
    wait(parts)
    for part in parts:
        part.result()  # raises what the part raised


@functools.lru_cache(maxsize=4)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="memscale-kernel")
