"""Runs a compiled CPU kernel over parts of its work, on torch's own threads.

torch's operators leave its threads spinning for some milliseconds; threads of another pool would compete with them for
the cores. The threads are entered through `GOMP_parallel`, which every OpenMP runtime that torch is built with on Linux
offers; elsewhere a pool of plain threads does the same. Kernels release the interpreter's lock. Every part writes to
memory of its own, so results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_LEAST_PART = 64
"""Rows below which a thread of their own is not worth its start."""
_PARTS_PER_THREAD = 4
"""More parts than threads even out parts whose cost depends on the data."""


def parallel_for(kernel: Callable[..., None], size: int, *arguments: object) -> None:
    """Call `kernel(start, stop, *arguments)` over equal parts of range(size), in parallel; ret."""
    num_parts = max(1, min(torch.get_num_threads(), size // _LEAST_PART))
    parallel_ranges(kernel, [size * part // num_parts for part in range(num_parts + 1)], *arguments)


def parallel_for_bags(kernel: Callable[..., None], starts_B1: NDArray[np.int64], *arguments: object) -> None:
    """Call `kernel(start, stop, starts_B1, *arguments)` over parts of the bags with about equally many lookups each.

    A bag itself counts as two lookups: its own row is read and written.
    """
    num_bags = len(starts_B1) - 1
    num_threads = torch.get_num_threads()
    num_parts = 1 if num_threads == 1 else max(1, min(_PARTS_PER_THREAD * num_threads, num_bags // _LEAST_PART))
    bounds = [0, num_bags]
    if num_parts > 1:
        costs = starts_B1 + 2 * np.arange(num_bags + 1)
        inner = np.searchsorted(costs, costs[-1] * np.arange(1, num_parts) / num_parts)
        bounds = sorted({0, *(int(bound) for bound in inner), num_bags})
    parallel_ranges(kernel, bounds, starts_B1, *arguments)


def parallel_ranges(kernel: Callable[..., None], bounds: Sequence[int], *arguments: object) -> None:
    """Call `kernel(start, stop, *arguments)` for every pair of neighbouring bounds, in parallel.

    Each thread, the calling one included, takes the next part that is left.
    """
    parts = deque(itertools.pairwise(bounds))

    def work() -> None:
        while True:
            try:
                start, stop = parts.popleft()
            except IndexError:
                return
            kernel(start, stop, *arguments)

    num_threads = min(torch.get_num_threads(), len(parts))
    if num_threads <= 1:
        work()
    elif _openmp() is not None:
        _run_in_team(work, num_threads)
    else:
        _run_in_pool(work, num_threads)


def _run_in_team(work: Callable[[], None], num_threads: int) -> None:
    """Call `work` on each of torch's threads, this one included; raise the first exception."""
    failures: list[BaseException] = []

    def on_thread(_: object) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 (an exception must not pass through the runtime: it is raised below)
            failures.append(failure)

    _openmp().GOMP_parallel(_ON_THREAD(on_thread), None, num_threads, 0)
    if failures:
        raise failures[0]


_ON_THREAD = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> Any:
    """The OpenMP runtime that torch has loaded, or None."""
    loaded = ctypes.CDLL(None)
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info() or not hasattr(loaded, "GOMP_parallel"):
        return None
    loaded.GOMP_parallel.argtypes = [_ON_THREAD, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    loaded.GOMP_parallel.restype = None
    return loaded


def _run_in_pool(work: Callable[[], None], num_threads: int) -> None:
    """Call `work` on this thread and on those of a plain pool."""
    helpers = [_pool(num_threads - 1).submit(work) for _ in range(num_threads - 1)]
    try:
        work()
    finally:
        wait(helpers)
    for helper in helpers:
        helper.result()  # raises what its part raised


@functools.lru_cache(maxsize=4)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="memscale-kernel")
