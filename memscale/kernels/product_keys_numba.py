"""Product-key selection on the CPU, compiled by Numba for float32 and float64.

Selection is by counting: the rank of an element is the number of elements that go before it. That takes more
comparisons than a heap, but no branches, so that it is vectorised. Lists of half scores are first thinned by a bound
that at least `knn` elements reach. If a half score is not finite, all scores of its token and head are NaN, so that the
loss shows it. Gradients are summed in the order of the tokens, each half query's and each list of half keys' by one
thread: the same bits for any number of threads.

Shape suffixes: T tokens, H heads, N half keys per set, K slots selected, C candidate pairs, W width of a half key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memscale.kernels.numba_jit import numba_jit
from memscale.kernels.threads import parallel_for, parallel_ranges

Floats = NDArray[Any]
Integers = NDArray[np.int64]
Counts = NDArray[np.int32]
_LANES = 32
"""Loops run in multiples of this, so that none has a scalar remainder."""


def topk_pairs(halves_2HTN: Tensor, knn: int) -> tuple[Tensor, Tensor]:
    """Return slots and scores, both [T, H, K], best first."""
    _, num_heads, num_tokens, _ = halves_2HTN.shape
    slots_THK = torch.empty(num_tokens, num_heads, knn, dtype=torch.int64)
    scores_THK = torch.empty(num_tokens, num_heads, knn, dtype=halves_2HTN.dtype)
    halves = halves_2HTN.detach().contiguous().numpy()
    parallel_for(_select, num_tokens, halves, slots_THK.numpy(), scores_THK.numpy())
    return slots_THK, scores_THK


def gradients(slots_THK: Tensor, gradient_THK: Tensor, query_T2HW: Tensor, keys_2HNW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of queries and keys from those of the selected slots' scores; all contiguous."""
    for_query, for_keys = torch.empty_like(query_T2HW), torch.zeros_like(keys_2HNW)
    slots, gradient = slots_THK.numpy(), gradient_THK.detach().numpy()
    query, keys = query_T2HW.detach().numpy(), keys_2HNW.detach().numpy()
    parallel_for(_query_gradient, len(slots), slots, gradient, keys, for_query.numpy())
    lists = range(2 * keys.shape[1] + 1)
    bounds = lists if torch.get_num_threads() > 1 else (0, lists[-1])
    parallel_ranges(_key_gradient, bounds, slots, gradient, query, for_keys.numpy())
    return for_query, for_keys


def _rank_loop(values: Floats, size: int, ranks: Counts, order: Integers) -> None:
    """Put the positions of the largest of values[:size] into order[:-1], best first, ties by lower position.

    `values` has room up to the next multiple of _LANES, which is filled with NaN: it compares greater than nothing.
    order[-1] collects the positions that are not asked for.
    """
    whole, num_ranked = (size + _LANES - 1) // _LANES * _LANES, order.shape[0] - 1
    for i in range(size, whole):
        values[i] = np.nan
    for i in range(whole):
        ranks[i] = 0
    for j in range(0, size, 4):  # four at a time, so that the ranks are read and written a quarter as often
        a, b, c, d = values[j], values[j + 1], values[j + 2], values[j + 3]
        for i in range(whole):
            value = values[i]
            ranks[i] += (a > value) + (b > value) + ((c > value) + (d > value))
    for rank in range(num_ranked):
        order[rank] = -1
    for i in range(size - 1, -1, -1):  # backwards: of equal values, which share a rank, the first one remains
        order[min(ranks[i], num_ranked)] = i
    tied = False
    for rank in range(num_ranked):
        tied |= order[rank] < 0
    if tied:  # a rank is empty: equal values after the first one move into it
        for i in range(size):
            rank = ranks[i]
            for j in range(i):
                rank += values[j] == values[i]
            order[min(rank, num_ranked)] = i


def _top_half_loop(
    scores: Floats, top: Floats, positions: Integers, kept: Integers, values: Floats, ranks: Counts, order: Integers
) -> bool:
    """Put the largest scores and their positions into `top` and `positions`, best first, ties by lower position.

    `kept`, `values`, `ranks` and `order` are work space. Returns False, and the first scores, if one is not finite.
    """
    size, knn = scores.shape[0], positions.shape[0]
    groups = min(size, 2 * knn)
    for i in range(groups):
        values[i] = scores[i]
    for first in range(groups, size, groups):
        for i in range(min(groups, size - first)):
            score = scores[first + i]
            values[i] = score if score > values[i] else values[i]
    spread = scores[0] - scores[0]  # NaN as soon as one score is not finite
    for i in range(size):
        spread += scores[i] - scores[i]
    if spread != 0.0:
        for i in range(knn):
            top[i], positions[i] = scores[i], i
        return False
    # The knn-th largest of the groups' maxima: at least knn scores reach it, and few more do.
    _rank(values, groups, ranks, order)
    bound = values[order[knn - 1]]
    num_kept = 0
    for i in range(size):
        kept[num_kept] = i
        num_kept += scores[i] >= bound
    for i in range(num_kept):
        values[i] = scores[kept[i]]
    _rank(values, num_kept, ranks, order)
    for i in range(knn):
        top[i], positions[i] = values[order[i]], kept[order[i]]
    return True


def _top_pairs_loop(
    firsts: Floats,
    seconds: Floats,
    limits: Integers,
    kept: Integers,
    values: Floats,
    ranks: Counts,
    order: Integers,
) -> None:
    """Leave the largest sums of two sorted lists in values[order[:-1]], and i << 32 | j in kept[order[:-1]].

    Only the first limits[i] = knn // (i + 1) elements j are considered (step 3 of `memscale.kernels.product_keys`).
    """
    knn = firsts.shape[0]
    # For any i, i + 1 rows of ceil(knn / (i + 1)) pairs are at least knn pairs, all with at least the last one's sum.
    bound = firsts[0] + seconds[knn - 1]
    for i in range(1, knn):
        reached = firsts[i] + seconds[limits[i] + (limits[i] * (i + 1) < knn) - 1]
        bound = reached if reached > bound else bound
    num_kept = 0
    for i in range(knn):
        for j in range(limits[i]):
            total = firsts[i] + seconds[j]
            kept[num_kept] = i << 32 | j
            values[num_kept] = total
            num_kept += total >= bound
    _rank(values, num_kept, ranks, order)


def _select_loop(start: int, stop: int, halves_2HTN: Floats, slots_THK: Integers, scores_THK: Floats) -> None:
    num_heads, num_keys, knn = halves_2HTN.shape[1], halves_2HTN.shape[3], slots_THK.shape[2]
    limits = np.array([knn // (i + 1) for i in range(knn)])
    room = max(num_keys, limits.sum()) + _LANES
    kept, values, ranks = np.empty(room, np.int64), np.empty(room, halves_2HTN.dtype), np.empty(room, np.int32)
    order = np.empty(knn + 1, np.int64)
    tops, positions = np.empty((2, knn), halves_2HTN.dtype), np.empty((2, knn), np.int64)
    for h in range(num_heads):
        for t in range(start, stop):
            clean = _top_half(halves_2HTN[0, h, t], tops[0], positions[0], kept, values, ranks, order)
            clean &= _top_half(halves_2HTN[1, h, t], tops[1], positions[1], kept, values, ranks, order)
            if not clean:
                for k in range(knn):
                    slots_THK[t, h, k] = k
                    scores_THK[t, h, k] = np.nan
                continue
            _top_pairs(tops[0], tops[1], limits, kept, values, ranks, order)
            for k in range(knn):
                i, j = kept[order[k]] >> 32, kept[order[k]] & 0xFFFFFFFF
                slots_THK[t, h, k] = positions[0, i] * num_keys + positions[1, j]
                scores_THK[t, h, k] = values[order[k]]


def _query_gradient_loop(
    start: int, stop: int, slots_THK: Integers, gradient_THK: Floats, keys_2HNW: Floats, sums_T2HW: Floats
) -> None:
    num_keys, width = keys_2HNW.shape[2], keys_2HNW.shape[3]
    for t in range(start, stop):
        for h in range(slots_THK.shape[1]):
            sums_a, sums_b = sums_T2HW[t, 0, h], sums_T2HW[t, 1, h]
            for w in range(width):
                sums_a[w], sums_b[w] = 0.0, 0.0
            for k in range(slots_THK.shape[2]):
                first = slots_THK[t, h, k] // num_keys
                second = slots_THK[t, h, k] - first * num_keys
                key_a, key_b = keys_2HNW[0, h, first], keys_2HNW[1, h, second]
                weight = gradient_THK[t, h, k]
                for w in range(width):
                    sums_a[w] += weight * key_a[w]
                    sums_b[w] += weight * key_b[w]


def _key_gradient_loop(
    start: int, stop: int, slots_THK: Integers, gradient_THK: Floats, query_T2HW: Floats, sums_2HNW: Floats
) -> None:
    """Sum the gradients of the lists start..stop of half keys, counted over both halves and all heads."""
    num_heads, num_keys, width = sums_2HNW.shape[1], sums_2HNW.shape[2], sums_2HNW.shape[3]
    for one in range(start, stop):
        half, h = one // num_heads, one % num_heads
        for t in range(slots_THK.shape[0]):
            query = query_T2HW[t, half, h]
            for k in range(slots_THK.shape[2]):
                first = slots_THK[t, h, k] // num_keys
                key = first if half == 0 else slots_THK[t, h, k] - first * num_keys
                weight, sums = gradient_THK[t, h, k], sums_2HNW[half, h, key]
                for w in range(width):
                    sums[w] += weight * query[w]


# 'reassoc' lets the counts use vector lanes; counts of whole numbers are exact in any order. Sums of two scores have
# but one order.
_compile = numba_jit("reassoc", "contract")
_rank = _compile(_rank_loop)
_top_half = _compile(_top_half_loop)
_top_pairs = _compile(_top_pairs_loop)
_select = _compile(_select_loop)
_query_gradient = _compile(_query_gradient_loop)
_key_gradient = _compile(_key_gradient_loop)
