"""The lattice points of one family that could win: its outer widths within the window, each with its inner widths.

Shapes: N outer widths, C criteria (quantities shared with the dense model), P points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memscale.errors import ConfigError
from memscale.planning.lattice import ROUNDED, Floats, Ints, Lattice

_SLACK = 1e-9
"""Of a lattice step: bounds are widened by it, and what they let in is then measured against the terms themselves."""
_ROUNDING = 1e-6
"""Of an outer width that solves a quadratic equation."""
_MOST = 1 << 24
_FEW = 64
"""Outer widths that are not worth sorting out beforehand."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The quantity in `row` must lie within [low, high]."""

    row: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Points, each with its mismatch against the dense model, sorted by what the sparse models share."""

    outer: Ints
    inner: Ints
    off: Floats
    """The worst over all criteria, as an absolute value."""
    shared: Floats
    total: Floats

    def __len__(self) -> int:
        return len(self.outer)

    def take(self, kept: Ints) -> Pool:
        return Pool(
            outer=self.outer[kept],
            inner=self.inner[kept],
            off=self.off[kept],
            shared=self.shared[kept],
            total=self.total[kept],
        )


class Points:
    """Every inner width of some outer widths of `lattice`, whose first rows are the criteria `dense_C`."""

    def __init__(self, lattice: Lattice, dense_C: Sequence[float], outer_N: Ints) -> None:
        self.lattice = lattice
        self.dense = dense_C
        inner = lattice.template.inner
        self.step = 1 if inner is None else inner.step
        self.least = 0 if inner is None else inner.least // inner.step
        self._fill(outer_N, *lattice.at(outer_N))

    def _fill(self, outer_N: Ints, constant: Floats, slope: Floats) -> None:
        self.outer, self.constant, self.slope = outer_N, constant, slope
        criteria = range(len(self.dense) if self.lattice.template.inner is not None else 0)
        pinning = [c for c in criteria if slope.shape[1] and slope[c].min() > 0]
        self._half = [self.dense[c] / (slope[c] * self.step) for c in pinning]
        self._centre = [(self.dense[c] - constant[c]) / (slope[c] * self.step) for c in pinning]

    def _keep(self, keep_N: NDArray[np.bool_]) -> None:
        slope = self.slope[:, keep_N] if self.slope.shape[1] == len(keep_N) else self.slope
        self.outer, self.constant, self.slope = self.outer[keep_N], self.constant[:, keep_N], slope
        self._centre = [centre[keep_N] for centre in self._centre]
        self._half = [half[keep_N] if len(half) == len(keep_N) else half for half in self._half]

    def rising(self, total: int, tolerance: float) -> Points:
        """Drop the outer widths beyond the largest model that the criteria allow; `total` is the row of its size.

        There another expert (or slot) costs more in the router (in key scoring) than the widths can still give, so
        that the model gets smaller: hundreds of experts a few values wide.
        """
        largest = self.largest(total, tolerance)
        if largest < len(self.outer) - 1:
            self._keep(np.arange(len(self.outer)) <= largest)
        return self

    def largest(self, total: int, tolerance: float) -> int:
        """Index of the outer width whose model is largest where the tightest criterion is met exactly, among those
        whose narrowest model is within the tolerance."""
        if not self._centre or not len(self.outer):
            return len(self.outer) - 1
        centre = self._centre[0]
        for other in self._centre[1:]:
            centre = np.minimum(centre, other)
        size = self.constant[total] + self.slope[total] * (centre * self.step)
        room = self.ends(tolerance)[1] >= self.least
        return int(np.argmax(np.where(room, size, -np.inf))) if room.any() else len(self.outer) - 1

    def narrow(self, tolerance: float, bounds: Sequence[Bound]) -> Points:
        """Drop the outer widths that have no point within `tolerance` and `bounds`."""
        if self._centre and len(self.outer) > _FEW:
            low, high = self.ends(tolerance)
            keep = high >= low
            for bound in bounds:
                constant, slope = self.constant[bound.row], self.slope[bound.row] * self.step
                slack = _SLACK * bound.high
                keep &= (constant + slope * low <= bound.high + slack) & (constant + slope * high >= bound.low - slack)
            self._keep(keep)
        return self

    def pool(self, threshold: float, bounds: Sequence[Bound], shared: int, total: int) -> Pool:
        """All points within `threshold` of the dense model and within `bounds`; `shared` and `total` are rows."""
        rounded = self.lattice.rounded
        slack = max((ROUNDED / self.dense[row] for row in rounded if row < len(self.dense)), default=0.0)
        index, steps = self._within(threshold + slack)
        inner = steps * self.step
        wide = self.slope.shape[1] > 1
        values = self.constant[:, index] + (self.slope[:, index] if wide else self.slope) * inner
        if rounded:
            self.lattice.count_rounded(values, self.outer[index], inner)
        off = self._off(values)
        keep = off <= threshold
        for bound in bounds:
            keep &= (values[bound.row] >= bound.low) & (values[bound.row] <= bound.high)
        kept = np.flatnonzero(keep)
        if len(kept) > 1:
            kept = kept[np.lexsort((values[total, kept], values[shared, kept]))]
        return Pool(
            outer=self.outer[index[kept]],
            inner=inner[kept],
            off=off[kept],
            shared=values[shared, kept],
            total=values[total, kept],
        )

    def nearest(self) -> tuple[Ints, Floats]:
        """The best inner width at every outer one, the smaller on a tie, and its mismatch; [N] each.

        The worst of several affine mismatches is convex in the inner width, and least at a kink or a zero of it: the
        best whole step is next to one of those.
        """
        count = len(self.outer)
        steps = [np.full(count, self.least, dtype=np.int64)]
        for i, (centre, half) in enumerate(zip(self._centre, self._half, strict=True)):
            kinks = [centre]
            for other, width in zip(self._centre[:i], self._half[:i], strict=True):
                # (x - centre) / half equals plus or minus (x - other) / width.
                kinks.append((centre * width + other * half) / (width + half))
                apart = np.where(width == half, np.inf, width - half)
                kinks.append(np.where(width == half, centre, (centre * width - other * half) / apart))
            for kink in kinks:
                floor = np.clip(np.floor(kink), self.least, float(_MOST) * 64).astype(np.int64)
                steps += [np.broadcast_to(floor, count), np.broadcast_to(floor + 1, count)]
        tried = np.stack([np.broadcast_to(one, count) for one in steps])
        off = np.stack([self._off(self.constant + self.slope * (one * self.step)) for one in tried])
        order = np.lexsort((tried, off), axis=0)[0]
        columns = np.arange(count)
        return tried[order, columns] * self.step, off[order, columns]

    def totals(self, inner_N: Ints, row: int) -> Floats:
        """Quantity `row` at an inner width for every outer one, [N]."""
        values: Floats = self.constant[row] + self.slope[row] * inner_N
        return values

    def continuous(self, criterion: int, n: int) -> float:
        """The inner width, not rounded, at which criterion `criterion` is met exactly at the n-th outer width."""
        slope = float(self.slope[criterion, n if self.slope.shape[1] > 1 else 0])
        return float(self.dense[criterion] - self.constant[criterion, n]) / slope if slope > 0 else math.nan

    def _within(self, threshold: float) -> tuple[Ints, Ints]:
        """Indices of outer widths and whole steps of the inner width that may lie within `threshold`."""
        if not self._centre:
            return np.arange(len(self.outer)), np.full(len(self.outer), self.least, dtype=np.int64)
        low, high = self.ends(threshold)
        counts = high - low + 1
        index = np.flatnonzero(counts > 0)
        number: Ints = counts[index].astype(np.int64)
        first: Ints = low[index].astype(np.int64)
        if len(index) == 0 or number.max() == 1:
            return index, first
        ends = np.cumsum(number)
        steps: Ints = np.arange(ends[-1]) + np.repeat(first - (ends - number), number)
        return np.repeat(index, number), steps

    def ends(self, threshold: float) -> tuple[Floats, Floats]:
        """The first and last whole step that may lie within `threshold`, [N] each; first > last where none may."""
        low, high = self._interval(0, threshold)
        for c in range(1, len(self._centre)):
            other_low, other_high = self._interval(c, threshold)
            low, high = np.maximum(low, other_low), np.minimum(high, other_high)
        return np.maximum(low, self.least), high

    def _interval(self, c: int, threshold: float) -> tuple[Floats, Floats]:
        reach = threshold * self._half[c] + _SLACK
        return np.ceil(self._centre[c] - reach), np.floor(self._centre[c] + reach)

    def _off(self, values: Floats) -> Floats:
        if not self.dense:
            return np.zeros(values.shape[1])
        # Not |value / dense - 1|: so much above and so much below would differ by rounding, and be no tie.
        worst: Floats = np.abs(values[0] - self.dense[0]) / self.dense[0]
        for c in range(1, len(self.dense)):
            worst = np.maximum(worst, np.abs(values[c] - self.dense[c]) / self.dense[c])
        return worst


def points_within(
    lattice: Lattice, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float, total: int
) -> Points:
    """Points of every outer width that can have one within `bounds` and `tolerance`, and belongs to the rising sizes.

    Thousands of outer widths are first taken in blocks. Quantities never fall when a width grows, so that within a
    block none is below that of its first outer and last inner widths, or above that of its last and first.
    """
    outer = outer_widths(lattice, dense_C, bounds, tolerance)
    if len(outer) > 16 * _FEW and lattice.template.inner is not None and not lattice.varies:
        outer = outer[_blocks(lattice, dense_C, bounds, tolerance, outer)]
    return Points(lattice, dense_C, outer).rising(total, tolerance).narrow(tolerance, bounds)


def _blocks(
    lattice: Lattice, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float, outer: Ints
) -> NDArray[np.bool_]:
    """Which of `outer` lie in a block that can reach the bounds; [N].

    Where the largest model is left out, the falling sizes begin above the bounds, and so still seem to fall.
    """
    ends = np.append(np.arange(0, len(outer) - 1, _FEW), len(outer) - 1)
    points = Points(lattice, dense_C, outer[ends])
    low, high = points.ends(tolerance)
    least, most = np.maximum(low[1:], points.least), np.maximum(high[:-1], points.least)
    keep = high[:-1] >= points.least
    for bound in bounds:
        constant, slope = points.constant[bound.row], np.broadcast_to(points.slope[bound.row], ends.shape) * points.step
        slack = _SLACK * bound.high
        keep &= constant[:-1] + slope[:-1] * least <= bound.high + slack
        keep &= constant[1:] + slope[1:] * most >= bound.low - slack
    kept = np.repeat(keep, np.diff(ends))
    return np.append(kept, keep[-1])


def outer_widths(lattice: Lattice, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float) -> Ints:
    """Every outer width that can have a point within `bounds` and, for criteria, `tolerance`; perhaps some more.

    No quantity falls when a width grows. So the widest inner width that the smallest size leaves room for is the widest
    of all, and with it the bounds' lower ends are reached first; with the narrowest inner width their upper ends are
    passed last. Raises ConfigError where nothing ends the search.
    """
    outer, inner = lattice.template.outer, lattice.template.inner
    assert outer is not None
    narrow = 0 if inner is None else inner.least
    ends = [lattice.largest(bound.row, narrow, bound.high) for bound in bounds]
    ends += [lattice.largest(c, narrow, value * (1 + tolerance)) for c, value in enumerate(dense_C)]
    end = min(ends, default=math.inf)
    if end == math.inf:
        end = _gallop(lattice, dense_C, bounds, tolerance, narrow)
    start = _start(lattice, dense_C, bounds, tolerance)
    # From one at or below the start, so that a size which falls from there on is seen to fall.
    first = max(outer.least, math.floor((start - _ROUNDING) / outer.step) * outer.step)
    last = math.floor((max(end, 0.0) + _ROUNDING) / outer.step) * outer.step
    return np.arange(first, last + 1, outer.step, dtype=np.int64)


def _start(lattice: Lattice, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float) -> float:
    outer, inner = lattice.template.outer, lattice.template.inner
    assert outer is not None
    if lattice.varies:
        return 0.0
    wide = 0.0
    if inner is not None:
        constant, slope = lattice.at(np.array([outer.least], dtype=np.int64))
        room = [
            (value * (1 + tolerance) - constant[c, 0]) / slope[c, 0]
            for c, value in enumerate(dense_C)
            if slope[c, 0] > 0
        ]
        if not room:
            return 0.0
        wide = max(min(room), inner.least)
    starts = [lattice.largest(bound.row, math.ceil(wide), bound.low) for bound in bounds]
    return max([start for start in starts if math.isfinite(start)], default=0.0)


def _gallop(
    lattice: Lattice, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float, narrow: int
) -> float:
    limits = [(bound.row, bound.high) for bound in bounds]
    limits += [(c, value * (1 + tolerance)) for c, value in enumerate(dense_C)]
    outer = 64
    while outer < _MOST:
        constant, slope = lattice.at(np.array([outer], dtype=np.int64))
        if any(constant[row, 0] + slope[row, 0] * narrow > limit for row, limit in limits):
            return float(outer)
        outer *= 2
    open_width = lattice.template.outer
    assert open_width is not None
    name = lattice.template.family.name
    raise ConfigError(
        f"nothing that matching holds equal limits families.{name}.{open_width.name}: it does not change "
        f"{', '.join(lattice.names[row] for row, _ in limits) or 'any of it'}. Give families.{name}.{open_width.name}, "
        "or name total_params in matching.sparse_equal"
    )
