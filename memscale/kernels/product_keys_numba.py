"""The selection's loops for the CPU, compiled by Numba for float32 and kept on disk between processes.

Everything is done by counting: an element's rank is the number of elements that go before it. That costs more
comparisons than a heap and no branches, so vector lanes do it. Half lists are thinned first by a bound that at least
`knn` elements reach. Where a half score is not finite all scores are NaN, so that the loss shows it.

T tokens, H heads, N half keys per set, K slots selected, C candidate pairs.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from memscale.kernels.threads import run_in_parts

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Counts = NDArray[np.int32]
_LANES = 32
"""Work is done in whole multiples of this, so that no loop ends in single steps."""


def select(halves_2HTN: Floats, knn: int) -> tuple[Integers, Floats]:
    """Return slots and scores, both [T, H, K], best first."""
    _, num_heads, num_tokens, _ = halves_2HTN.shape
    slots_THK = np.empty((num_tokens, num_heads, knn), np.int64)
    scores_THK = np.empty((num_tokens, num_heads, knn), np.float32)
    run_in_parts(_select, num_tokens, halves_2HTN, slots_THK, scores_THK)
    return slots_THK, scores_THK


def spread_gradient(slots_THK: Integers, gradient_THK: Floats, num_keys: int) -> Floats:
    """Return [2, H, T, N]: the gradient of every selected slot, added to its two half keys' scores."""
    num_tokens, num_heads, _ = slots_THK.shape
    sums_2HTN = np.zeros((2, num_heads, num_tokens, num_keys), np.float32)
    run_in_parts(_spread_gradient, num_tokens, slots_THK, gradient_THK, sums_2HTN)
    return sums_2HTN


def _rank_loop(values: Floats, size: int, ranks: Counts, order: Integers) -> None:
    """Put the positions of the largest of values[:size] into order[:-1], best first, ties by lower position.

    `values` has room up to the next multiple of _LANES, which is filled with NaN: it goes before nothing.
    order[-1] collects the positions that are not asked for.
    """
    whole, num_ranked = (size + _LANES - 1) // _LANES * _LANES, order.shape[0] - 1
    for i in range(size, whole):
        values[i] = np.nan
    for i in range(whole):
        ranks[i] = 0
    for j in range(size):
        value = values[j]
        for i in range(whole):
            ranks[i] += value > values[i]
    for rank in range(num_ranked):
        order[rank] = -1
    for i in range(size - 1, -1, -1):  # backwards: of equal values, which share a rank, the first one stays
        order[min(ranks[i], num_ranked)] = i
    tied = False
    for rank in range(num_ranked):
        tied |= order[rank] < 0
    if tied:  # a rank is empty: those behind the first of equal values move back into it
        for i in range(size):
            rank = ranks[i]
            for j in range(i):
                rank += values[j] == values[i]
            order[min(rank, num_ranked)] = i


def _top_half_loop(
    scores: Floats, top: Floats, positions: Integers, kept: Integers, values: Floats, ranks: Counts, order: Integers
) -> bool:
    """Put the largest scores and their positions into `top` and `positions`, best first, ties by lower position.

    `kept`, `values`, `ranks` and `order` are work space. Returns False, and the first scores, where one is not finite.
    """
    size, knn = scores.shape[0], positions.shape[0]
    groups = min(size, 2 * knn)
    for i in range(groups):
        values[i] = scores[i]
    for first in range(groups, size, groups):
        for i in range(min(groups, size - first)):
            score = scores[first + i]
            values[i] = score if score > values[i] else values[i]
    num_finite = 0
    for i in range(size):
        num_finite += scores[i] - scores[i] == 0.0
    if num_finite < size:
        for i in range(knn):
            top[i], positions[i] = scores[i], i
        return False
    # The knn-th largest of the groups' maxima: at least knn scores reach it, and few more do.
    _rank(values, groups, ranks, order)
    bound = values[order[knn - 1]]
    num_kept = 0
    for i in range(size):
        kept[num_kept] = i
        values[num_kept] = scores[i]
        num_kept += scores[i] >= bound
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

    Only the limits[i] = knn // (i + 1) first j are looked at: every other pair has knn pairs that go before it.
    """
    knn = firsts.shape[0]
    # For any i, i + 1 rows of ceil(knn / (i + 1)) pairs are at least knn pairs that reach the last one's sum.
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
    room = max(num_keys, knn * knn) + _LANES  # generous: at most knn * (ln knn + 1) pairs are looked at
    kept, values, ranks = np.empty(room, np.int64), np.empty(room, np.float32), np.empty(room, np.int32)
    order = np.empty(knn + 1, np.int64)
    limits = np.array([knn // (i + 1) for i in range(knn)])
    tops, positions = np.empty((2, knn), np.float32), np.empty((2, knn), np.int64)
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


def _spread_gradient_loop(start: int, stop: int, slots_THK: Integers, gradient_THK: Floats, sums_2HTN: Floats) -> None:
    num_keys = sums_2HTN.shape[3]
    for h in range(slots_THK.shape[1]):
        for t in range(start, stop):
            for k in range(slots_THK.shape[2]):
                slot = slots_THK[t, h, k]
                first = slot // num_keys
                sums_2HTN[0, h, t, first] += gradient_THK[t, h, k]
                sums_2HTN[1, h, t, slot - first * num_keys] += gradient_THK[t, h, k]


# 'reassoc' lets the counts use vector lanes; counts of whole numbers are exact in any order. Sums of two scores have
# but one order.
_compile = numba.njit(cache=True, nogil=True, fastmath={"reassoc"})
_rank = _compile(_rank_loop)
_top_half = _compile(_top_half_loop)
_top_pairs = _compile(_top_pairs_loop)
_select = _compile(_select_loop)
_spread_gradient = _compile(_spread_gradient_loop)
