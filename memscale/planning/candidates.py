"""The candidates of one family: pairs of an outer and an inner width, with their mismatch against the dense model.

At one outer width o (number of experts; half keys per set) every quantity is affine in the inner width w,
A(o) + B(o) w, so the widths that meet a criterion within a tolerance form an interval whose ends have a closed form.
All outer widths are handled at once as arrays.

Shapes: N outer widths, C criteria (quantities shared with the dense model), P candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memscale.planning.cost_model import MAX_ROUNDING, CostModel, Floats, Ints

SLACK = 1e-9
"""Relative. Bounds are widened by it; the candidates let in are then measured against the exact bounds."""
MAX_WIDTH = 1 << 24
BLOCK = 64
"""Outer widths per block of the coarse search (`memscale.planning.outer_widths`)."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The quantity in row `row` of the cost model must lie within [low, high]."""

    row: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CandidateSet:
    """Candidates of one family, sorted by the quantity that the sparse models share; every array is [P]."""

    outer: Ints
    inner: Ints
    mismatch: Floats
    """The largest absolute relative mismatch against the dense model over all criteria."""
    shared: Floats
    """The quantity that the sparse models share."""
    total: Floats
    """Total parameters."""

    def __len__(self) -> int:
        return len(self.outer)

    def take(self, kept: Ints) -> CandidateSet:
        """Return the candidates at the indices `kept`, in that order."""
        return CandidateSet(
            outer=self.outer[kept],
            inner=self.inner[kept],
            mismatch=self.mismatch[kept],
            shared=self.shared[kept],
            total=self.total[kept],
        )


class Candidates:
    """Every inner width at some outer widths of `model`, whose first rows are the criteria of `dense_C`."""

    def __init__(self, model: CostModel, dense_C: Sequence[float], outer_N: Ints) -> None:
        self.model = model
        self.dense = dense_C
        inner = model.template.inner
        self.step = 1 if inner is None else inner.step
        self.min_steps = 0 if inner is None else inner.least // inner.step
        """The smallest inner width, in steps; the inner width itself is steps x `step`."""
        self._fill(outer_N, *model.coefficients(outer_N))

    def _fill(self, outer_N: Ints, constant: Floats, slope: Floats) -> None:
        self.outer, self.constant, self.slope = outer_N, constant, slope
        criteria = range(len(self.dense) if self.model.template.inner is not None else 0)
        rising = [c for c in criteria if slope.shape[1] and slope[c].min() > 0]
        # Criterion c is met exactly at `centre` steps; one unit of relative mismatch is `scale` steps.
        self._scales = [self.dense[c] / (slope[c] * self.step) for c in rising]
        self._centres = [(self.dense[c] - constant[c]) / (slope[c] * self.step) for c in rising]

    def _keep(self, keep_N: NDArray[np.bool_]) -> None:
        slope = self.slope[:, keep_N] if self.slope.shape[1] == len(keep_N) else self.slope
        self.outer, self.constant, self.slope = self.outer[keep_N], self.constant[:, keep_N], slope
        self._centres = [centre[keep_N] for centre in self._centres]
        self._scales = [scale[keep_N] if len(scale) == len(keep_N) else scale for scale in self._scales]

    def up_to_largest_model(self, total: int, tolerance: float) -> Candidates:
        """Drop the outer widths beyond that of the largest model; `total` is the row of total parameters.

        Beyond it another expert (or slot) costs more in the router (in key scoring) than the inner width can still
        give back, so total parameters fall again: hundreds of experts, each a few values wide.
        """
        largest = self.largest_model(total, tolerance)
        if largest < len(self.outer) - 1:
            self._keep(np.arange(len(self.outer)) <= largest)
        return self

    def largest_model(self, total: int, tolerance: float) -> int:
        """Index of the outer width with the largest model.

        The inner width is the one that meets the tightest criterion exactly. Only outer widths with a feasible inner
        width count.
        """
        if not self._centres or not len(self.outer):
            return len(self.outer) - 1
        centre = self._centres[0]
        for other in self._centres[1:]:
            centre = np.minimum(centre, other)
        size = self.constant[total] + self.slope[total] * (centre * self.step)
        feasible = self.feasible_interval(tolerance)[1] >= self.min_steps
        return int(np.argmax(np.where(feasible, size, -np.inf))) if feasible.any() else len(self.outer) - 1

    def drop_infeasible(self, tolerance: float, bounds: Sequence[Bound]) -> Candidates:
        """Drop the outer widths that have no candidate within `tolerance` and `bounds`."""
        if self._centres and len(self.outer) > BLOCK:
            low, high = self.feasible_interval(tolerance)
            keep = high >= low
            for bound in bounds:
                constant, slope = self.constant[bound.row], self.slope[bound.row] * self.step
                slack = SLACK * bound.high
                keep &= (constant + slope * low <= bound.high + slack) & (constant + slope * high >= bound.low - slack)
            self._keep(keep)
        return self

    def select(self, threshold: float, bounds: Sequence[Bound], shared: int, total: int) -> CandidateSet:
        """Return all candidates with a mismatch of at most `threshold` and within `bounds`.

        `shared` and `total` are the rows of the quantity that the sparse models share and of total parameters.
        """
        rounded = self.model.rounded_rows
        slack = max((MAX_ROUNDING / self.dense[row] for row in rounded if row < len(self.dense)), default=0.0)
        index, steps = self._feasible_steps(threshold + slack)
        inner = steps * self.step
        per_outer = self.slope.shape[1] > 1
        values = self.constant[:, index] + (self.slope[:, index] if per_outer else self.slope) * inner
        if rounded:
            self.model.count_rounded(values, self.outer[index], inner)
        mismatch = self._worst_mismatch(values)
        keep = mismatch <= threshold
        for bound in bounds:
            keep &= (values[bound.row] >= bound.low) & (values[bound.row] <= bound.high)
        kept = np.flatnonzero(keep)
        if len(kept) > 1:
            kept = kept[np.lexsort((values[total, kept], values[shared, kept]))]
        return CandidateSet(
            outer=self.outer[index[kept]],
            inner=inner[kept],
            mismatch=mismatch[kept],
            shared=values[shared, kept],
            total=values[total, kept],
        )

    def best_inner(self) -> tuple[Ints, Floats]:
        """Return the inner width of least mismatch at every outer width, and that mismatch; [N] each.

        1. The mismatch of criterion c is |x - centre_c| / scale_c, with x the inner width in steps.
        2. The largest of several such functions is convex in x and piecewise linear, so its minimum lies at a zero of
           one of them or where two are equal.
        3. The best whole step is therefore one of the two next to such a point. On a tie the smaller width wins.
        """
        count = len(self.outer)
        steps = [np.full(count, self.min_steps, dtype=np.int64)]
        for i, (centre, scale) in enumerate(zip(self._centres, self._scales, strict=True)):
            kinks = [centre]
            for other, width in zip(self._centres[:i], self._scales[:i], strict=True):
                # (x - centre) / scale equals plus or minus (x - other) / width.
                kinks.append((centre * width + other * scale) / (width + scale))
                apart = np.where(width == scale, np.inf, width - scale)
                kinks.append(np.where(width == scale, centre, (centre * width - other * scale) / apart))
            for kink in kinks:
                floor = np.clip(np.floor(kink), self.min_steps, float(MAX_WIDTH) * 64).astype(np.int64)
                steps += [np.broadcast_to(floor, count), np.broadcast_to(floor + 1, count)]
        tried = np.stack([np.broadcast_to(one, count) for one in steps])
        mismatch = np.stack([self._worst_mismatch(self.constant + self.slope * (one * self.step)) for one in tried])
        order = np.lexsort((tried, mismatch), axis=0)[0]
        columns = np.arange(count)
        return tried[order, columns] * self.step, mismatch[order, columns]

    def values_at(self, inner_N: Ints, row: int) -> Floats:
        """Return quantity `row` at one inner width for every outer width, [N]."""
        values: Floats = self.constant[row] + self.slope[row] * inner_N
        return values

    def exact_inner(self, criterion: int, n: int) -> float:
        """Return the inner width, not rounded, that meets `criterion` exactly at the n-th outer width."""
        slope = float(self.slope[criterion, n if self.slope.shape[1] > 1 else 0])
        return float(self.dense[criterion] - self.constant[criterion, n]) / slope if slope > 0 else math.nan

    def feasible_interval(self, threshold: float) -> tuple[Floats, Floats]:
        """Return the first and last inner width, in steps, within `threshold`, [N] each; first > last where none is."""
        low, high = self._criterion_interval(0, threshold)
        for c in range(1, len(self._centres)):
            other_low, other_high = self._criterion_interval(c, threshold)
            low, high = np.maximum(low, other_low), np.minimum(high, other_high)
        return np.maximum(low, self.min_steps), high

    def _feasible_steps(self, threshold: float) -> tuple[Ints, Ints]:
        """Return, for every candidate within `threshold`, the index of its outer width and its inner width in steps."""
        if not self._centres:
            return np.arange(len(self.outer)), np.full(len(self.outer), self.min_steps, dtype=np.int64)
        low, high = self.feasible_interval(threshold)
        counts = high - low + 1
        index = np.flatnonzero(counts > 0)
        number: Ints = counts[index].astype(np.int64)
        first: Ints = low[index].astype(np.int64)
        if len(index) == 0 or number.max() == 1:
            return index, first
        ends = np.cumsum(number)
        steps: Ints = np.arange(ends[-1]) + np.repeat(first - (ends - number), number)
        return np.repeat(index, number), steps

    def _criterion_interval(self, c: int, threshold: float) -> tuple[Floats, Floats]:
        half_width = threshold * self._scales[c] + SLACK
        return np.ceil(self._centres[c] - half_width), np.floor(self._centres[c] + half_width)

    def _worst_mismatch(self, values: Floats) -> Floats:
        if not self.dense:
            return np.zeros(values.shape[1])
        # Not |value / dense - 1|: equal distances above and below would differ by rounding, and be no tie.
        worst: Floats = np.abs(values[0] - self.dense[0]) / self.dense[0]
        for c in range(1, len(self.dense)):
            worst = np.maximum(worst, np.abs(values[c] - self.dense[c]) / self.dense[c])
        return worst
