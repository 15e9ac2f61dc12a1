"""Why no lattice point meets the terms: what came nearest, by how much, and which width would have to move to what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memscale.config.matching import Matching
from memscale.errors import PlanError
from memscale.planning.lattice import Ints, Lattice
from memscale.planning.points import Bound, Points, Pool, outer_widths
from memscale.planning.selection import Choice


def unreachable(
    lattice: Lattice,
    criteria: Sequence[str],
    dense: Sequence[float],
    bounds: Sequence[Bound],
    matching: Matching,
    fixed: Ints | None,
) -> PlanError:
    """No point of this family is within the tolerance of the dense model, and of the size asked for.

    `dense` holds the dense model's quantities; `fixed` its one outer width, where that is not open.
    """
    template = lattice.template
    size = "" if template.outer is None or fixed is None else f" with {_size(lattice, int(fixed[0]))}"
    kind, tolerance = template.family.family, matching.tolerance
    start = f"{template.series}: no {kind} model{size} is within {tolerance:.2%} of the dense model"
    outer = outer_widths(lattice, (), bounds, matching.tolerance) if fixed is None else fixed
    points = Points(lattice, dense, outer).rising(lattice.names.index("total_params")) if len(outer) else None
    inside = _inside(points, bounds) if points is not None else None
    if points is None or inside is None or not len(inside):
        return PlanError(
            f"{start} and of the size asked for: no size lies there at all. {_other_size(lattice, matching)}"
        )
    inner, off = points.nearest()
    n = int(inside[np.argmin(off[inside])])
    real = lattice.real(template.build(int(outer[n]), int(inner[n])))
    offs = [value / wanted - 1 for value, wanted in zip(real, dense, strict=False)]
    worst = max(range(len(offs)), key=lambda c: abs(offs[c]))
    where = f" at {_size(lattice, int(outer[n]))}" if template.outer is not None else ""
    width = "" if template.inner is None else f", {template.inner.name} {inner[n]}"
    nearest = f"the nearest{where}{width} is {offs[worst]:+.2%} off in {criteria[worst]}"
    if abs(offs[worst]) <= matching.tolerance:
        return PlanError(f"{start} and of the size asked for; {nearest}. {_other_size(lattice, matching)}")
    return PlanError(f"{start} in {', '.join(criteria)}; {nearest}. {_inner_advice(points, n, criteria)}")


def too_far_apart(
    lattices: Sequence[Lattice], pools: Sequence[Pool], choice: Choice | None, matching: Matching
) -> PlanError:
    """Each family has points, but no choice of them agrees in what the sparse models share."""
    shared = matching.sparse_equal
    told = []
    if choice is not None:
        for lattice, pool, (outer, inner) in zip(lattices, pools, choice.points, strict=True):
            at = int(np.argmax((pool.outer == outer) & (pool.inner == inner)))
            told.append(f"{lattice.template.series} {pool.shared[at]:,.0f} ({_point(lattice, pool, at)})")
    by = f" The nearest, {choice.worst:.2%} off: {'; '.join(told)}." if choice is not None else ""
    given = [one.template.family.name for one in lattices if not one.template.outer_is_free]
    if len(given) > 1:
        advice = (
            f"The sizes of {', '.join(dict.fromkeys(given))} are given or not free; let all but one be solved, or set "
            "matching.sparse_equal to null"
        )
    else:
        advice = (
            "Raise matching.tolerance, let another width move (matching.free), lower matching.multiple_of, or ask for "
            "another matching.total_over_dense"
        )
    return PlanError(f"no sparse models agree within {matching.tolerance:.2%} in {shared}.{by} {advice}")


def _inside(points: Points, bounds: Sequence[Bound]) -> Ints:
    """Indices of the outer widths whose best inner width lies within the bounds; else of all."""
    inner, _ = points.nearest()
    values = points.constant + points.slope * inner
    keep = np.ones(len(points.outer), dtype=np.bool_)
    for bound in bounds:
        keep &= (values[bound.row] >= bound.low) & (values[bound.row] <= bound.high)
    return np.flatnonzero(keep) if keep.any() else np.arange(len(points.outer))


def _inner_advice(points: Points, n: int, criteria: Sequence[str]) -> str:
    template = points.lattice.template
    name, inner = template.family.name, template.inner
    if inner is None:
        return (
            f"None of its inner widths is free: put one into matching.free.{name}, and leave it out of families.{name}"
            f"{', which has no dense layer left' if template.layers == template.whole['num_layers'] else ''}"
        )
    wanted = {criterion: points.continuous(c, n) for c, criterion in enumerate(criteria)}
    least = min(wanted.values())
    if least < inner.least:
        return (
            f"{inner.name} would have to be {least:.1f}, and cannot go below {inner.least}: {_smaller(points.lattice)}"
        )
    if len(wanted) > 1 and max(wanted.values()) - least > inner.step:
        told = ", ".join(f"{criterion} by {width:.1f}" for criterion, width in wanted.items())
        return (
            f"No {inner.name} meets all at once: it would be met in {told}. Take one out of matching.equal, or change "
            f"a width under families.{name}"
        )
    allowed = []
    for steps in (int(least // inner.step), int(least // inner.step) + 1):
        width = max(steps * inner.step, inner.least)
        real = points.lattice.real(template.build(int(points.outer[n]), width))
        offs = [real[c] / points.dense[c] - 1 for c in range(len(criteria))]
        allowed.append(f"{width} ({max(offs, key=abs):+.2%})")
    multiples = f"multiples of {inner.step}" if inner.step > 1 else "whole numbers"
    lower = ", a smaller matching.multiple_of" if inner.step > 1 else ""
    return (
        f"{inner.name} would have to be {least:.1f}; the nearest {multiples} are {' and '.join(allowed)}. "
        f"Raise matching.tolerance, or use a larger shape{lower}"
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


def _other_size(lattice: Lattice, matching: Matching) -> str:
    outer = lattice.template.outer
    assert outer is not None
    coarse = f" or matching.multiple_of.{outer.name} ({outer.step})" if outer.step > 1 else ""
    asked = (
        "the others' size"
        if matching.total_over_dense is None
        else f"matching.total_over_dense ({matching.total_over_dense:g})"
    )
    return f"Change {asked}{coarse}, so that a {outer.name} fits"


def _size(lattice: Lattice, outer: int) -> str:
    name = lattice.template.outer.name if lattice.template.outer is not None else ""
    return f"num_slots {outer}^2" if name == "num_slots" else f"{name} {outer}"


def _point(lattice: Lattice, pool: Pool, at: int) -> str:
    told = [] if lattice.template.outer is None else [_size(lattice, int(pool.outer[at]))]
    if lattice.template.inner is not None:
        told.append(f"{lattice.template.inner.name} {pool.inner[at]}")
    return ", ".join([*told, f"{pool.off[at]:.2%} off the dense model"])
