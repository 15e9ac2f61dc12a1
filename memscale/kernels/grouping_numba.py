"""Lookups grouped by slot on the CPU, compiled by Numba.

The functions are those of `memscale.kernels.bags_torch`. Instead of sorting, a bitmap over all slots marks those that
are looked up, and the number of set bits before a slot is its rank among them. Lookups are counted by rank and then
placed where their row's begin (a counting sort), in up to four shares of the lookups, one per thread. The lookups of a
share go behind those of earlier shares, so their order does not depend on the number of threads.

Shape suffixes: A lookups, U distinct rows, P parts, C shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memscale.kernels.numba_jit import numba_jit
from memscale.kernels.threads import parallel_ranges

Integers = NDArray[np.int64]
Counts = NDArray[np.int32]
Words = NDArray[np.uint64]

_MOST_SHARES = 4
"""Every share counts the lookups of all rows: more shares would cost more than they save."""


def group_lookups(
    slots: Sequence[Tensor], weights: Sequence[Tensor], num_slots: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `memscale.kernels.bags_torch.group_lookups`."""
    slots_A, weights_A, shapes_P2 = _joined(slots), _joined(weights), np.array([part.shape for part in slots])
    bits, before = _marked(slots_A, num_slots)
    rows_U = _listed(bits, before)
    num_lookups, num_shares = len(slots_A), min(torch.get_num_threads(), _MOST_SHARES)
    bounds_C1 = np.array([num_lookups * share // num_shares for share in range(num_shares + 1)])
    shares = range(num_shares + 1)
    ranks_A, counts_CU = np.empty(num_lookups, np.int32), np.zeros((num_shares, len(rows_U)), np.int32)
    parallel_ranges(_rank, shares, bounds_C1, slots_A, bits, before, ranks_A, counts_CU)
    starts_U1, places_CU = np.empty(len(rows_U) + 1, np.int64), counts_CU
    _begin(counts_CU, starts_U1)
    tokens_A, ordered_A = np.empty(num_lookups, np.int64), np.empty_like(weights_A)
    parallel_ranges(_order, shares, bounds_C1, shapes_P2, ranks_A, weights_A, places_CU, tokens_A, ordered_A)
    rows, starts, tokens, ordered = map(torch.from_numpy, (rows_U, starts_U1, tokens_A, ordered_A))
    return rows, starts, tokens, ordered


def unique_slots(slots_A: Tensor, num_slots: int) -> Tensor:
    """As `memscale.kernels.bags_torch.unique_slots`."""
    return torch.from_numpy(_listed(*_marked(slots_A.contiguous().numpy(), num_slots)))


def _joined(parts: Sequence[Tensor]) -> NDArray[Any]:
    joined = parts[0].flatten() if len(parts) == 1 else torch.cat([part.flatten() for part in parts])
    return joined.detach().numpy()


def _marked(slots_A: Integers, num_slots: int) -> tuple[Words, Integers]:
    """Return a bitmap over the slots, 64 to a word, and the number of bits set before each word.

    The last entry of the counts is the number of bits set in all.
    """
    bits = np.zeros((num_slots + 63) // 64, np.uint64)
    before = np.empty(len(bits) + 1, np.int64)
    _mark(slots_A, bits, before)
    return bits, before


def _listed(bits: Words, before: Integers) -> Integers:
    """Return the slots whose bits are set, rising."""
    rows_U = np.empty(before[-1], np.int64)
    _list_rows(bits, rows_U)
    return rows_U


def _mark_loop(slots_A: Integers, bits: Words, before: Integers) -> None:
    for a in range(slots_A.shape[0]):
        bits[slots_A[a] >> 6] |= np.uint64(1) << np.uint64(slots_A[a] & 63)
    total = 0
    for word in range(bits.shape[0]):
        before[word] = total
        total += count_bits(bits[word])
    before[bits.shape[0]] = total


def _count_bits_loop(word: np.uint64) -> np.int64:
    """Population count of a word: in pairs, fours, eights, and then the sum of the eights."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


def _list_rows_loop(bits: Words, rows_U: Integers) -> None:
    u = 0
    for word in range(bits.shape[0]):
        left = bits[word]
        while left:
            lowest = left & (~left + np.uint64(1))
            rows_U[u] = word * 64 + count_bits(lowest - np.uint64(1))
            left ^= lowest
            u += 1


def _rank_loop(
    start: int,
    stop: int,
    bounds_C1: Integers,
    slots_A: Integers,
    bits: Words,
    before: Integers,
    ranks_A: Counts,
    counts_CU: Counts,
) -> None:
    """Find the rank of every lookup's slot, and count the lookups of each rank and share."""
    for c in range(start, stop):
        counts_U = counts_CU[c]
        for a in range(bounds_C1[c], bounds_C1[c + 1]):
            word, bit = slots_A[a] >> 6, np.uint64(1) << np.uint64(slots_A[a] & 63)
            rank = before[word] + count_bits(bits[word] & (bit - np.uint64(1)))
            ranks_A[a] = rank
            counts_U[rank] += 1


def _begin_loop(counts_CU: Counts, starts_U1: Integers) -> None:
    """Fill in where the lookups of each row begin; replace the counts by where those of each share begin."""
    num_shares, num_rows = counts_CU.shape
    total = 0
    for u in range(num_rows):
        starts_U1[u] = total
        for c in range(num_shares):
            count = counts_CU[c, u]
            counts_CU[c, u] = total
            total += count
    starts_U1[num_rows] = total


def _order_loop(
    start: int,
    stop: int,
    bounds_C1: Integers,
    shapes_P2: Integers,
    ranks_A: Counts,
    weights_A: NDArray[Any],
    places_CU: Counts,
    tokens_A: Integers,
    ordered_A: NDArray[Any],
) -> None:
    """Place each lookup's token and weight at its row's next position; tokens are counted through the parts."""
    for c in range(start, stop):
        indices_U = places_CU[c]
        first_read = first_token = 0
        for p in range(shapes_P2.shape[0]):
            num_tokens, num_slots = shapes_P2[p]
            last_read = first_read + num_tokens * num_slots
            begin, end = max(first_read, bounds_C1[c]), min(last_read, bounds_C1[c + 1])
            if begin < end:
                token = first_token + (begin - first_read) // num_slots
                left = num_slots - (begin - first_read) % num_slots
                for a in range(begin, end):
                    place = indices_U[ranks_A[a]]
                    indices_U[ranks_A[a]] = place + 1
                    tokens_A[place], ordered_A[place] = token, weights_A[a]
                    left -= 1
                    if left == 0:
                        token, left = token + 1, num_slots
            first_read, first_token = last_read, first_token + num_tokens


_compiled = numba_jit()
count_bits = _compiled(_count_bits_loop)
_mark = _compiled(_mark_loop)
_list_rows = _compiled(_list_rows_loop)
_rank = _compiled(_rank_loop)
_begin = _compiled(_begin_loop)
_order = _compiled(_order_loop)
