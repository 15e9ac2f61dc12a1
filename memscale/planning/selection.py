"""One point of each pool so that all mismatches are least at the worst: exact, by bisection over thresholds.

f(t) is the least gap, largest over smallest less one, of a choice among the points whose own mismatch is at most t. It
falls as t grows, so that the least max(t, f(t)) lies where they cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memscale.planning.lattice import Floats, Ints
from memscale.planning.points import Pool

_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The worst mismatch, and of each pool the outer and inner width of the chosen point."""

    worst: float
    points: list[tuple[int, int]]


def choose(pools: Sequence[Pool], failed: float = -1.0) -> Choice | None:
    """The choice with the least worst mismatch; on a tie the one of the smallest models. None where a pool is empty.

    Where even the points with the largest mismatches leave a larger gap, that choice is best, and nothing is searched.
    `failed` is a threshold at which that was so before, for pools which these contain. On a tie the least shared
    quantity wins, then the least total parameters, then the smallest outer width.
    """
    if any(len(pool) == 0 for pool in pools):
        return None
    merged = _Merged(pools)
    thresholds = np.unique(merged.off)
    # f(t) > t up to the index `low`, and f(t) <= t from `high` on.
    low, high = int(np.searchsorted(thresholds, failed, side="right")) - 1, len(thresholds) - 1
    best = merged.gap(float(thresholds[high]))
    if best > thresholds[high]:
        return Choice(worst=best, points=merged.smallest(best))
    best = float(thresholds[high])
    while high - low > 1:
        middle = (low + high) // 2
        threshold = float(thresholds[middle])
        gap = merged.gap(threshold)
        if gap <= threshold:
            high, best = middle, min(best, threshold)
        else:
            low, best = middle, min(best, gap)
            # Thresholds above the best choice so far cannot win.
            high = min(high, max(low + 1, int(np.searchsorted(thresholds, best, side="right"))))
    return Choice(worst=best, points=merged.smallest(best))


def partners(pools: Sequence[Pool], reach: float) -> list[Pool]:
    """Each pool without the points that have no partner in the smallest one within a gap of `reach`."""
    few = min(pools, key=len)
    if len(few) == 0 or len(pools) == 1:
        return list(pools)
    kept = []
    for pool in pools:
        if pool is not few:
            low = np.searchsorted(few.shared, pool.shared / (1 + reach) * (1 - _ROUNDING))
            high = np.searchsorted(few.shared, pool.shared * (1 + reach) * (1 + _ROUNDING), side="right")
            pool = pool.take(np.flatnonzero(high > low))
        kept.append(pool)
    return kept


class _Merged:
    """All points of the pools, sorted by what is shared."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        shared = np.concatenate([pool.shared for pool in pools])
        label: Ints = np.repeat(np.arange(len(pools)), [len(pool) for pool in pools])
        order = np.argsort(shared, kind="stable")
        self.shared = shared[order]
        self.off = np.concatenate([pool.off for pool in pools])[order]
        # Pools x points: the shared quantity where the point belongs to the pool.
        own = label[order][None, :] == np.arange(len(pools))[:, None]
        self._values = np.where(own, self.shared[None, :], np.inf)

    def _gaps(self, threshold: float) -> tuple[Floats, Floats]:
        """Of every point within `threshold`: its shared quantity, and the gap of the best choice that starts there."""
        within = self.off <= threshold
        values = self._values[:, within]
        # The next point of each pool from here on.
        following = np.minimum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
        least = self.shared[within]
        return least, (following.max(axis=0) - least) / least

    def gap(self, threshold: float) -> float:
        _, gaps = self._gaps(threshold)
        return float(gaps.min()) if len(gaps) else np.inf

    def smallest(self, worst: float) -> list[tuple[int, int]]:
        """Of the choices whose worst mismatch is `worst`, that of the smallest models."""
        least, gaps = self._gaps(worst)
        start = least[int(np.argmax(gaps <= worst))]
        at = [int(np.argmax((pool.shared >= start) & (pool.off <= worst))) for pool in self._pools]
        return [(int(pool.outer[n]), int(pool.inner[n])) for pool, n in zip(self._pools, at, strict=True)]
