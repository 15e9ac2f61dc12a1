"""Runs a compiled CPU kernel over parts of its work, as many at a time as torch has threads.

Kernels release the interpreter's lock, so plain threads do; Numba's own pools are not used, for they fall over when
forked or entered from two threads. What a part writes belongs to it alone, so results do not depend on their number.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import torch
from numpy.typing import NDArray

_LEAST_PART = 64
"""Fewer rows than this are not worth a thread."""
_PARTS_PER_THREAD = 4
"""Where parts cost what only the data tell, more of them than threads even out."""


def run_in_parts(kernel: Callable[..., None], size: int, *arguments: object) -> None:
    """Call `kernel(start, stop, *arguments)` over parts that cover range(size); return when all are done."""
    num_parts = max(1, min(torch.get_num_threads(), size // _LEAST_PART))
    run_between(kernel, [size * part // num_parts for part in range(num_parts + 1)], *arguments)


def run_over_bags(kernel: Callable[..., None], starts_B1: NDArray[np.int64], *arguments: object) -> None:
    """Call `kernel(start, stop, starts_B1, *arguments)` over parts of the bags, of about as many reads each.

    A bag itself counts as two reads: its row is to be fetched and written.
    """
    num_bags = len(starts_B1) - 1
    num_threads = torch.get_num_threads()
    num_parts = 1 if num_threads == 1 else max(1, min(_PARTS_PER_THREAD * num_threads, num_bags // _LEAST_PART))
    bounds = [0, num_bags]
    if num_parts > 1:
        costs = starts_B1 + 2 * np.arange(num_bags + 1)
        inner = np.searchsorted(costs, costs[-1] * np.arange(1, num_parts) / num_parts)
        bounds = sorted({0, *(int(bound) for bound in inner), num_bags})
    run_between(kernel, bounds, starts_B1, *arguments)


def run_between(kernel: Callable[..., None], bounds: Sequence[int], *arguments: object) -> None:
    """Call `kernel(start, stop, *arguments)` between neighbouring bounds; return when all are done.

    Each thread takes the next part that is left, the calling one too.
    """
    parts = deque(itertools.pairwise(bounds))

    def work() -> None:
        while True:
            try:
                start, stop = parts.popleft()
            except IndexError:
                return
            kernel(start, stop, *arguments)

    num_helpers = min(torch.get_num_threads(), len(parts)) - 1
    helpers = [_pool(num_helpers).submit(work) for _ in range(num_helpers)]
    try:
        work()
    finally:
        wait(helpers)
    for helper in helpers:
        helper.result()  # raises what its part raised


@functools.lru_cache(maxsize=4)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="memscale-kernel")
