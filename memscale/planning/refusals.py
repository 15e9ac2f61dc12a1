"""Why no lattice point meets the terms: what came nearest, by how much, and which width would have to move to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memscale.config.matching import Matching
from memscale.errors import PlanError
from memscale.planning.lattice import Floats, Ints, Lattice
from memscale.planning.points import Bound, Points, Pool, outer_widths
from memscale.planning.selection import Choice
from memscale.planning.widths import Open


def unreachable(
    lattice: Lattice,
    criteria: Sequence[str],
    dense: Sequence[float],
    bounds: Sequence[Bound],
    matching: Matching,
    fixed: Ints | None,
) -> PlanError:
    """No point of this family is within the tolerance of the dense model, and of the size asked for.

    `dense` holds the dense model's quantities; `fixed` its one outer width, where that is not free.
    """
    one = lattice.template
    size = "" if one.outer is None or fixed is None else f" with {_size(lattice, int(fixed[0]))}"
    start = (
        f"{one.series}: no {one.family.family} model{size} is within {percent(matching.tolerance)} of the dense model "
        f"in {', '.join(criteria)}"
    )
    if fixed is not None:
        return PlanError(f"{start}; {_nearest(Points(lattice, dense, fixed), criteria)}")
    total = lattice.names.index("total_params")
    allowed = outer_widths(lattice, dense, (), matching.tolerance) if dense else outer_widths(lattice, (), bounds, 0)
    points = Points(lattice, dense, allowed).rising(total, matching.tolerance)
    if not len(points.outer):
        assert one.outer is not None
        least = Points(lattice, dense, np.array([one.outer.least], dtype=np.int64))
        return PlanError(f"{start}; {_nearest(least, criteria)}")
    inner, off = points.nearest()
    values = points.constant + points.slope * inner
    within = np.ones(len(inner), dtype=np.bool_)
    for bound in bounds:
        within &= (values[bound.row] >= bound.low) & (values[bound.row] <= bound.high)
    if within.any():
        inside = np.flatnonzero(within)
        best = inside[np.argmin(off[inside])]
        at = Points(lattice, dense, points.outer[best : best + 1])
        return PlanError(f"{start} and of the size asked for; {_nearest(at, criteria)}")
    return PlanError(f"{start} and of the size asked for: {_no_size(points, values, inner, bounds)}")


def _no_size(points: Points, values: Floats, inner: Ints, bounds: Sequence[Bound]) -> str:
    """Between which sizes the one asked for lies, or that it is larger than all."""
    lattice, bound = points.lattice, bounds[0]
    shared = lattice.names[bound.row]
    below, above = np.flatnonzero(values[bound.row] < bound.low), np.flatnonzero(values[bound.row] > bound.high)

    def told(n: int) -> str:
        width = "" if lattice.template.inner is None else f", {lattice.template.inner.name} {inner[n]}"
        return f"{_size(lattice, int(points.outer[n]))}{width} has {values[bound.row, n]:,.0f}"

    asked = f"asked for are {bound.low:,.0f} to {bound.high:,.0f} {shared}"
    if not len(above):
        largest = int(np.argmax(values[bound.row]))
        return f"{asked}, and the largest that the dense model leaves room for, {told(largest)}: {_smaller(lattice)}"
    sizes = [told(int(below[np.argmax(values[bound.row, below])]))] if len(below) else []
    sizes.append(told(int(above[np.argmin(values[bound.row, above])])))
    outer = lattice.template.outer
    assert outer is not None
    coarse = f", matching.multiple_of.{outer.name} ({outer.step})" if outer.step > 1 else ""
    return f"{asked}, but {' and '.join(sizes)}. Change matching.total_over_dense{coarse} or the sizes that are given"


def too_far_apart(
    lattices: Sequence[Lattice], pools: Sequence[Pool], choice: Choice | None, matching: Matching
) -> PlanError:
    """Each family has points, but no choice of them agrees in what the sparse models share."""
    told = []
    if choice is not None:
        for lattice, pool, (outer, inner) in zip(lattices, pools, choice.points, strict=True):
            at = int(np.argmax((pool.outer == outer) & (pool.inner == inner)))
            told.append(f"{lattice.template.series} {pool.shared[at]:,.0f} ({_point(lattice, pool, at)})")
    by = f" The nearest, {percent(choice.worst)} off: {'; '.join(told)}." if choice is not None else ""
    given = [one.template.series for one in lattices if not one.template.outer_is_free]
    if len(given) > 1:
        advice = (
            f"The sizes of {', '.join(given)} are given or not free: let all but one be solved, or set "
            "matching.sparse_equal to null"
        )
    else:
        advice = (
            "Raise matching.tolerance, let another width move (matching.free), lower matching.multiple_of, or ask for "
            "another matching.total_over_dense"
        )
    return PlanError(
        f"no sparse models agree within {percent(matching.tolerance)} in {matching.sparse_equal}.{by} {advice}"
    )


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _nearest(points: Points, criteria: Sequence[str]) -> str:
    """What comes nearest at the only outer width of `points`, and which width would have to move."""
    lattice = points.lattice
    one, outer, inner = lattice.template, int(points.outer[0]), int(points.nearest()[0][0])
    offs = _offs(points, inner, criteria)
    worst = max(criteria, key=lambda name: abs(offs[name]))
    widths = [] if one.outer is None else [_size(lattice, outer)]
    if one.inner is not None:
        widths.append(f"{one.inner.name} {inner}")
    where = f" ({', '.join(widths)})" if widths else ""
    return f"the nearest{where} is {signed(offs[worst])} off in {worst}. {_inner_advice(points, criteria)}"


def _offs(points: Points, inner: int, criteria: Sequence[str]) -> dict[str, float]:
    real = points.lattice.real(points.lattice.template.build(int(points.outer[0]), inner))
    return {name: real[c] / points.dense[c] - 1 for c, name in enumerate(criteria)}


def _inner_advice(points: Points, criteria: Sequence[str]) -> str:
    one = points.lattice.template
    inner = one.inner
    if inner is None:
        return _closed(points, criteria)
    wanted = {name: points.continuous(c, 0) for c, name in enumerate(criteria)}
    least = min(wanted.values())
    if least < inner.least:
        return (
            f"{inner.name} would have to be {least:.1f}, and cannot go below {inner.least}: {_smaller(points.lattice)}"
        )
    if max(wanted.values()) - least > inner.step:
        told = ", ".join(f"{width:.1f} for {name}" for name, width in wanted.items())
        return (
            f"No {inner.name} meets all at once, for it would have to be {told}. Take one out of matching.equal, or "
            f"change a width under families.{one.family.name}"
        )
    floor = int(least // inner.step) * inner.step
    allowed = []
    for width in (floor, floor + inner.step):
        offs = _offs(points, width, criteria)
        allowed.append(f"{width} ({signed(max(offs.values(), key=abs))})")
    multiples = f"multiples of {inner.step} allowed" if inner.step > 1 else "whole numbers"
    finer = f", lower matching.multiple_of.{inner.name}" if inner.step > 1 else ""
    return (
        f"{inner.name} would have to be {least:.1f}; the nearest {multiples} are {' and '.join(allowed)}. Raise "
        f"matching.tolerance{finer}, or use a larger shape"
    )


def _closed(points: Points, criteria: Sequence[str]) -> str:
    """No inner width is open: name one that would do, and what it would have to be."""
    one = points.lattice.template
    where = f"matching.free.{one.family.name}"
    names = ["expert_hidden"] if one.family.family == "moe" else ["ffn_hidden"]
    reason = "None of its inner widths is free"
    if one.layers == one.whole["num_layers"] and names == ["ffn_hidden"]:
        reason = "No dense layer is left whose ffn_hidden could move"
        names = ["value_width", "key_width"] if one.part.get("gated") else ["key_width"]
    opened = replace(one, inner=Open(name=names[0], step=1, least=1 if names[0] != "key_width" else 2))
    # The outer width may be open, and then is fixed at this one.
    at = Points(points.lattice.reopened(opened), points.dense, points.outer)
    told = ", ".join(f"{at.continuous(c, 0):.1f} for {name}" for c, name in enumerate(criteria))
    present = {**one.whole, **one.part}[names[0]]
    return (
        f"{reason}: {names[0]} is {present} and would have to be {told}. Name {' or '.join(names)} in {where}, and "
        f"leave it null in families.{one.family.name}"
    )


def _smaller(lattice: Lattice) -> str:
    family = lattice.template.family
    if family.family == "moe":
        return (
            f"use fewer experts per token (families.{family.name}.experts_per_token) or shared experts, a smaller "
            "matching.total_over_dense or num_experts, or a larger shape"
        )
    return (
        f"use fewer memory layers (families.{family.name}.centred or layers), fewer heads, narrower keys, a smaller "
        "matching.total_over_dense or num_slots, or a larger shape"
    )


def _size(lattice: Lattice, outer: int) -> str:
    name = lattice.template.outer.name if lattice.template.outer is not None else ""
    return f"num_slots {outer}^2" if name == "num_slots" else f"{name} {outer}"


def _point(lattice: Lattice, pool: Pool, at: int) -> str:
    told = [] if lattice.template.outer is None else [_size(lattice, int(pool.outer[at]))]
    if lattice.template.inner is not None:
        told.append(f"{lattice.template.inner.name} {pool.inner[at]}")
    return ", ".join([*told, f"{percent(pool.off[at])} off the dense model"])


def signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{percent(abs(value))}"
