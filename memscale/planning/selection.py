"""Chooses one candidate of each family so that the worst mismatch is least: exact, by bisection over thresholds.

1. A choice has two kinds of mismatch: each candidate's own against the dense model, and the gap in what the sparse
   models share, (largest - smallest) / smallest.
2. f(t) is the least gap of a choice among the candidates whose own mismatch is at most t.
3. f falls as t grows, so the least max(t, f(t)) lies where the two cross; bisection over the candidates' own
   mismatches finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memscale.planning.candidates import CandidateSet
from memscale.planning.cost_model import Floats, Ints

_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One candidate of each family."""

    worst: float
    """The largest mismatch, relative: against the dense model or between the sparse models."""
    widths: list[tuple[int, int]]
    """(outer width, inner width) of each family."""


def select(sets: Sequence[CandidateSet], failed: float = -1.0) -> Selection | None:
    """Return the selection with the least worst mismatch, or None where a set is empty.

    On a tie the least shared quantity wins, then the least total parameters, then the smallest outer width. Where
    even all candidates together leave a gap above every own mismatch, the selection of least gap is best, and nothing
    is searched. `failed` is a threshold at which that was so in an earlier call with subsets of these sets.
    """
    if any(len(one) == 0 for one in sets):
        return None
    merged = _Merged(sets)
    thresholds = np.unique(merged.mismatch)
    # f(t) > t up to the index `low`, and f(t) <= t from `high` on.
    low, high = int(np.searchsorted(thresholds, failed, side="right")) - 1, len(thresholds) - 1
    best = merged.least_gap(float(thresholds[high]))
    if best > thresholds[high]:
        return Selection(worst=best, widths=merged.smallest_models(best))
    best = float(thresholds[high])
    while high - low > 1:
        middle = (low + high) // 2
        threshold = float(thresholds[middle])
        gap = merged.least_gap(threshold)
        if gap <= threshold:
            high, best = middle, min(best, threshold)
        else:
            low, best = middle, min(best, gap)
            # Thresholds above the best selection so far cannot win.
            high = min(high, max(low + 1, int(np.searchsorted(thresholds, best, side="right"))))
    return Selection(worst=best, widths=merged.smallest_models(best))


def drop_unpaired(sets: Sequence[CandidateSet], max_gap: float) -> list[CandidateSet]:
    """Return each set without the candidates that have none within a gap of `max_gap` in the smallest set."""
    smallest = min(sets, key=len)
    if len(smallest) == 0 or len(sets) == 1:
        return list(sets)
    kept = []
    for one in sets:
        if one is not smallest:
            low = np.searchsorted(smallest.shared, one.shared / (1 + max_gap) * (1 - _ROUNDING))
            high = np.searchsorted(smallest.shared, one.shared * (1 + max_gap) * (1 + _ROUNDING), side="right")
            one = one.take(np.flatnonzero(high > low))
        kept.append(one)
    return kept


class _Merged:
    """All candidates of all families, sorted by the shared quantity."""

    def __init__(self, sets: Sequence[CandidateSet]) -> None:
        self._sets = sets
        shared = np.concatenate([one.shared for one in sets])
        owner: Ints = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
        order = np.argsort(shared, kind="stable")
        self.shared = shared[order]
        self.mismatch = np.concatenate([one.mismatch for one in sets])[order]
        # [families, candidates]: the shared quantity where the candidate belongs to the family, else infinity.
        own = owner[order][None, :] == np.arange(len(sets))[:, None]
        self._values = np.where(own, self.shared[None, :], np.inf)

    def _gaps(self, threshold: float) -> tuple[Floats, Floats]:
        """Return, for every candidate within `threshold`, its shared quantity and the least gap that starts there."""
        within = self.mismatch <= threshold
        values = self._values[:, within]
        # The next candidate of each family from here on.
        following = np.minimum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
        smallest = self.shared[within]
        return smallest, (following.max(axis=0) - smallest) / smallest

    def least_gap(self, threshold: float) -> float:
        _, gaps = self._gaps(threshold)
        return float(gaps.min()) if len(gaps) else np.inf

    def smallest_models(self, worst: float) -> list[tuple[int, int]]:
        """Return the widths of the smallest models whose worst mismatch is `worst`."""
        smallest, gaps = self._gaps(worst)
        start = smallest[int(np.argmax(gaps <= worst))]
        at = [int(np.argmax((one.shared >= start) & (one.mismatch <= worst))) for one in self._sets]
        return [(int(one.outer[n]), int(one.inner[n])) for one, n in zip(self._sets, at, strict=True)]
