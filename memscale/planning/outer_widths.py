"""Which outer widths of a family can hold a feasible candidate, found without measuring every candidate.

The search rests on one property: no quantity falls when a width grows. (The capacity of expert choice is rounded, so
there a quantity may fall; `CostModel.can_fall` turns the shortcuts off.)

1. The end: with the narrowest inner width, the outer width at which the first upper limit is passed.
2. The start: with the widest inner width that the criteria allow, the outer width at which every lower limit is met.
3. Thousands of outer widths between the two are first taken in blocks of 64, and blocks that cannot reach the bounds
   are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memscale.errors import ConfigError
from memscale.planning.candidates import BLOCK, MAX_WIDTH, SLACK, Bound, Candidates
from memscale.planning.cost_model import CostModel, Ints

_ROUNDING = 1e-6
"""Absolute error of an outer width that solves a quadratic equation."""


def feasible_candidates(
    model: CostModel, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float, total: int
) -> Candidates:
    """Return the candidates of every outer width that can have one within `bounds` and `tolerance`.

    Outer widths beyond the largest model are left out (`Candidates.up_to_largest_model`). `dense_C` holds the dense
    model's value of each criterion, `total` is the row of total parameters. Raises ConfigError where nothing limits
    the outer width.
    """
    outer = outer_widths(model, dense_C, bounds, tolerance)
    if len(outer) > 16 * BLOCK and model.template.inner is not None and not model.can_fall:
        outer = outer[_feasible_blocks(model, dense_C, bounds, tolerance, outer)]
    return Candidates(model, dense_C, outer).up_to_largest_model(total, tolerance).drop_infeasible(tolerance, bounds)


def _feasible_blocks(
    model: CostModel, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float, outer: Ints
) -> NDArray[np.bool_]:
    """Return which of `outer` lie in a block that can reach the bounds; [N].

    Within a block no quantity is below its value at the first outer and the smallest inner width, or above its value
    at the last outer and the largest inner width. Where the block of the largest model is itself left out, being above
    the bounds, the sizes after it start above the bounds and fall; `Candidates.up_to_largest_model` still drops them.
    """
    ends = np.append(np.arange(0, len(outer) - 1, BLOCK), len(outer) - 1)
    candidates = Candidates(model, dense_C, outer[ends])
    low, high = candidates.feasible_interval(tolerance)
    smallest, largest = np.maximum(low[1:], candidates.min_steps), np.maximum(high[:-1], candidates.min_steps)
    keep = high[:-1] >= candidates.min_steps
    for bound in bounds:
        constant = candidates.constant[bound.row]
        slope = np.broadcast_to(candidates.slope[bound.row], ends.shape) * candidates.step
        slack = SLACK * bound.high
        keep &= constant[:-1] + slope[:-1] * smallest <= bound.high + slack
        keep &= constant[1:] + slope[1:] * largest >= bound.low - slack
    kept = np.repeat(keep, np.diff(ends))
    return np.append(kept, keep[-1])


def outer_widths(model: CostModel, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float) -> Ints:
    """Return every outer width that can have a candidate within `bounds` and `tolerance`, and perhaps some more.

    `tolerance` is the largest relative mismatch of each criterion of `dense_C`. Raises ConfigError where nothing
    limits the outer width.
    """
    outer, inner = model.template.outer, model.template.inner
    assert outer is not None
    narrow = 0 if inner is None else inner.least
    ends = [model.outer_limit(bound.row, narrow, bound.high) for bound in bounds]
    ends += [model.outer_limit(c, narrow, value * (1 + tolerance)) for c, value in enumerate(dense_C)]
    end = min(ends, default=math.inf)
    if end == math.inf:
        end = _doubling_search(model, dense_C, bounds, tolerance, narrow)
    start = _start(model, dense_C, bounds, tolerance)
    # From one step at or below the start, so that a size which falls from there on is seen to fall.
    first = max(outer.least, math.floor((start - _ROUNDING) / outer.step) * outer.step)
    last = math.floor((max(end, 0.0) + _ROUNDING) / outer.step) * outer.step
    return np.arange(first, last + 1, outer.step, dtype=np.int64)


def _start(model: CostModel, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float) -> float:
    """Return an outer width below which every candidate misses the lower end of some bound."""
    outer, inner = model.template.outer, model.template.inner
    assert outer is not None
    if model.can_fall:
        return 0.0
    wide = 0.0
    if inner is not None:
        constant, slope = model.coefficients(np.array([outer.least], dtype=np.int64))
        limits = [
            (value * (1 + tolerance) - constant[c, 0]) / slope[c, 0]
            for c, value in enumerate(dense_C)
            if slope[c, 0] > 0
        ]
        if not limits:
            return 0.0
        wide = max(min(limits), inner.least)
    starts = [model.outer_limit(bound.row, math.ceil(wide), bound.low) for bound in bounds]
    return max([start for start in starts if math.isfinite(start)], default=0.0)


def _doubling_search(
    model: CostModel, dense_C: Sequence[float], bounds: Sequence[Bound], tolerance: float, narrow: int
) -> float:
    """Double the outer width until some upper limit is passed; for quantities whose limit has no closed form."""
    limits = [(bound.row, bound.high) for bound in bounds]
    limits += [(c, value * (1 + tolerance)) for c, value in enumerate(dense_C)]
    outer = 64
    while outer < MAX_WIDTH:
        constant, slope = model.coefficients(np.array([outer], dtype=np.int64))
        if any(constant[row, 0] + slope[row, 0] * narrow > limit for row, limit in limits):
            return float(outer)
        outer *= 2
    open_width = model.template.outer
    assert open_width is not None
    name = model.template.family.name
    raise ConfigError(
        f"nothing that matching holds equal limits families.{name}.{open_width.name}: it does not change "
        f"{', '.join(model.names[row] for row, _ in limits) or 'any of it'}. Give families.{name}.{open_width.name}, "
        "or name total_params in matching.sparse_equal"
    )
