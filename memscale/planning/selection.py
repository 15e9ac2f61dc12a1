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


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The worst mismatch, and the position of the chosen point in each pool."""

    worst: float
    positions: tuple[int, ...]


def choose(pools: Sequence[Pool]) -> Choice | None:
    """The choice with the least worst mismatch; on a tie the one of the smallest models. None where a pool is empty.

    On a tie the least shared quantity wins, then the least total parameters, then the smallest outer width.
    """
    if any(len(pool) == 0 for pool in pools):
        return None
    merged = _Merged(pools)
    thresholds = np.unique(np.concatenate([pool.off for pool in pools]))
    # f(t) > t below `low`; f(t) <= t from `high` on, or high is behind the last one.
    low, high = -1, len(thresholds)
    best = np.inf
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
    if not np.isfinite(best):
        return None
    return Choice(worst=best, positions=merged.smallest(best))


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
        return least, following.max(axis=0) / least - 1

    def gap(self, threshold: float) -> float:
        _, gaps = self._gaps(threshold)
        return float(gaps.min()) if len(gaps) else np.inf

    def smallest(self, worst: float) -> tuple[int, ...]:
        """Of the choices whose worst mismatch is `worst`, that of the smallest models."""
        least, gaps = self._gaps(worst)
        start = least[int(np.argmax(gaps <= worst))]
        return tuple(int(np.argmax((pool.shared >= start) & (pool.off <= worst))) for pool in self._pools)
