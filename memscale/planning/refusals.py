"""Explains why no candidate meets the terms: the nearest one, its mismatch, and the width that would have to move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memscale.config.matching import Matching
from memscale.errors import ConfigError, PlanError
from memscale.planning.candidates import Bound, Candidates, CandidateSet
from memscale.planning.cost_model import CostModel, Floats, Ints
from memscale.planning.outer_widths import outer_widths
from memscale.planning.selection import Selection
from memscale.planning.widths import OpenWidth


def infeasible(
    model: CostModel,
    criteria: Sequence[str],
    dense: Sequence[float],
    bounds: Sequence[Bound],
    matching: Matching,
    fixed: Ints | None,
) -> PlanError:
    """Return the error for a family without a candidate within the tolerance and of the requested size.

    `dense` holds the dense model's value of each criterion; `fixed` is the family's only outer width, [1], where its
    size is not free.
    """
    one = model.template
    size = "" if one.outer is None or fixed is None else f" with {_size(model, int(fixed[0]))}"
    start = (
        f"{one.series}: no {one.family.family} model{size} is within {percent(matching.tolerance)} of the dense model "
        f"in {', '.join(criteria)}"
    )
    if fixed is not None:
        return PlanError(f"{start}; {_nearest(Candidates(model, dense, fixed), criteria)}")
    total = model.names.index("total_params")
    allowed = _sizes_to_name(model, dense, bounds, matching.tolerance)
    candidates = Candidates(model, dense, allowed).up_to_largest_model(total, matching.tolerance)
    if not len(candidates.outer):
        assert one.outer is not None
        least = Candidates(model, dense, np.array([one.outer.least], dtype=np.int64))
        return PlanError(f"{start}; {_nearest(least, criteria)}")
    inner, mismatch = candidates.best_inner()
    values = candidates.constant + candidates.slope * inner
    within = np.ones(len(inner), dtype=np.bool_)
    for bound in bounds:
        within &= (values[bound.row] >= bound.low) & (values[bound.row] <= bound.high)
    if within.any():
        inside = np.flatnonzero(within)
        best = inside[np.argmin(mismatch[inside])]
        at = Candidates(model, dense, candidates.outer[best : best + 1])
        return PlanError(f"{start} and of the size asked for; {_nearest(at, criteria)}")
    return PlanError(f"{start} and of the size asked for: {_no_size(candidates, values, inner, bounds)}")


def _sizes_to_name(model: CostModel, dense: Sequence[float], bounds: Sequence[Bound], tolerance: float) -> Ints:
    """Return the outer widths that the dense model leaves room for; where it limits none, those of the size asked for.

    Without a router another expert costs no token anything, nor does another row of an n-gram table: then sizes up to
    twice what is asked for are returned.
    """
    if not dense:
        return outer_widths(model, (), bounds, 0)
    try:
        return outer_widths(model, dense, (), tolerance)
    except ConfigError:
        if not bounds:
            raise
        return outer_widths(model, (), [replace(bound, low=0.0, high=2 * bound.high) for bound in bounds], 0)


def _no_size(candidates: Candidates, values: Floats, inner: Ints, bounds: Sequence[Bound]) -> str:
    """Name the two sizes around the requested size, or the largest size where it exceeds all."""
    model, bound = candidates.model, bounds[0]
    shared = model.names[bound.row]
    below, above = np.flatnonzero(values[bound.row] < bound.low), np.flatnonzero(values[bound.row] > bound.high)

    def describe(n: int) -> str:
        width = "" if model.template.inner is None else f", {model.template.inner.name} {inner[n]}"
        return f"{_size(model, int(candidates.outer[n]))}{width} has {values[bound.row, n]:,.0f}"

    asked = f"asked for are {bound.low:,.0f} to {bound.high:,.0f} {shared}"
    if not len(above):
        largest = int(np.argmax(values[bound.row]))
        return f"{asked}, and the largest that the dense model leaves room for, {describe(largest)}: {_smaller(model)}"
    sizes = [describe(int(below[np.argmax(values[bound.row, below])]))] if len(below) else []
    sizes.append(describe(int(above[np.argmin(values[bound.row, above])])))
    outer = model.template.outer
    assert outer is not None
    coarse = f", matching.multiple_of.{outer.name} ({outer.step})" if outer.step > 1 else ""
    return f"{asked}, but {' and '.join(sizes)}. Change matching.total_over_dense{coarse} or the sizes that are given"


def too_far_apart(
    models: Sequence[CostModel], sets: Sequence[CandidateSet], selection: Selection | None, matching: Matching
) -> PlanError:
    """Return the error for families that each have candidates, but none that agree in what the sparse models share."""
    parts = []
    if selection is not None:
        for model, one, (outer, inner) in zip(models, sets, selection.widths, strict=True):
            at = int(np.argmax((one.outer == outer) & (one.inner == inner)))
            parts.append(f"{model.template.series} {one.shared[at]:,.0f} ({_describe(model, one, at)})")
    by = f" The nearest, {percent(selection.worst)} off: {'; '.join(parts)}." if selection is not None else ""
    given = [one.template.series for one in models if not one.template.outer_is_free]
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
    """Return a fraction as a percentage with three significant digits."""
    return f"{100 * value:.3g} %"


def _nearest(candidates: Candidates, criteria: Sequence[str]) -> str:
    """Describe the nearest candidate at the only outer width, and which width would have to move."""
    model = candidates.model
    one, outer, inner = model.template, int(candidates.outer[0]), int(candidates.best_inner()[0][0])
    mismatches = _mismatches(candidates, inner, criteria)
    worst = max(criteria, key=lambda name: abs(mismatches[name]))
    widths = [] if one.outer is None else [_size(model, outer)]
    if one.inner is not None:
        widths.append(f"{one.inner.name} {inner}")
    where = f" ({', '.join(widths)})" if widths else ""
    return f"the nearest{where} is {signed(mismatches[worst])} off in {worst}. {_inner_advice(candidates, criteria)}"


def _mismatches(candidates: Candidates, inner: int, criteria: Sequence[str]) -> dict[str, float]:
    counted = candidates.model.count_exactly(candidates.model.template.build(int(candidates.outer[0]), inner))
    return {name: counted[c] / candidates.dense[c] - 1 for c, name in enumerate(criteria)}


def _inner_advice(candidates: Candidates, criteria: Sequence[str]) -> str:
    one = candidates.model.template
    inner = one.inner
    if inner is None:
        return _closed(candidates, criteria)
    wanted = _wanted(candidates, criteria)
    least = min(wanted.values())
    if least < inner.least:
        smaller = _smaller(candidates.model)
        return f"{inner.name} would have to be {least:.1f}, and cannot go below {inner.least}: {smaller}"
    if max(wanted.values()) - least > inner.step:
        parts = ", ".join(f"{width:.1f} for {name}" for name, width in wanted.items())
        return (
            f"No {inner.name} meets all at once, for it would have to be {parts}. Take one out of matching.equal, or "
            f"change a width under families.{one.family.name}"
        )
    floor = int(least // inner.step) * inner.step
    allowed = []
    for width in (floor, floor + inner.step):
        mismatches = _mismatches(candidates, width, criteria)
        allowed.append(f"{width} ({signed(max(mismatches.values(), key=abs))})")
    multiples = f"multiples of {inner.step} allowed" if inner.step > 1 else "whole numbers"
    finer = f", lower matching.multiple_of.{inner.name}" if inner.step > 1 else ""
    return (
        f"{inner.name} would have to be {least:.1f}; the nearest {multiples} are {' and '.join(allowed)}. Raise "
        f"matching.tolerance{finer}, or use a larger shape"
    )


def _wanted(candidates: Candidates, criteria: Sequence[str]) -> dict[str, float]:
    """Return the inner width that would meet each criterion exactly, of those that it changes."""
    exact = {name: candidates.exact_inner(c, 0) for c, name in enumerate(criteria)}
    return {name: width for name, width in exact.items() if not math.isnan(width)}


def _closed(candidates: Candidates, criteria: Sequence[str]) -> str:
    """Where no inner width is open, name one that could be freed, and the value it would need."""
    one = candidates.model.template
    where = f"matching.free.{one.family.name}"
    names = ["expert_hidden"] if "moe" in one.parts else ["ffn_hidden"]
    reason = "None of its inner widths is free"
    if not one.has_dense_layers and names == ["ffn_hidden"]:
        reason = "No dense layer is left whose ffn_hidden could move"
        names = ["value_width", "key_width"] if one.part.get("gated") or one.part.get("projection") else ["key_width"]
    opened = replace(one, inner=OpenWidth(name=names[0], step=1, least=1 if names[0] != "key_width" else 2))
    # The outer width may be open, and then is fixed at this one.
    at = Candidates(candidates.model.with_template(opened), candidates.dense, candidates.outer)
    parts = ", ".join(f"{width:.1f} for {name}" for name, width in _wanted(at, criteria).items())
    present = {**one.base, **one.parts.get("moe", one.part)}[names[0]]
    return (
        f"{reason}: {names[0]} is {present} and would have to be {parts}. Name {' or '.join(names)} in {where}, and "
        f"leave it null in families.{one.family.name}"
    )


def _smaller(model: CostModel) -> str:
    family = model.template.family
    if not model.template.has_size:
        where = f"families.{family.name}"
        return f"set {where}.injection to none, use fewer recurrences ({where}.recurrences), or a larger shape"
    lists = {
        "moe": f"fewer experts per token (families.{family.name}.experts_per_token) or shared experts, a smaller "
        "matching.total_over_dense or num_experts",
        "ngram": f"fewer layers (families.{family.name}.layers), narrower rows or fewer heads, a smaller "
        "matching.total_over_dense or rows_per_head",
        "token_table": f"fewer layers (families.{family.name}.layers), a smaller matching.total_over_dense",
        "mixture": f"fewer layers or experts per token in its parts (families.{family.name}.parts), a smaller "
        "matching.total_over_dense",
    }
    memory = (
        f"fewer memory layers (families.{family.name}.centred or layers), fewer heads, narrower keys, a smaller "
        "matching.total_over_dense or num_slots"
    )
    return f"use {lists.get(family.family, memory)}, or a larger shape"


def _size(model: CostModel, outer: int) -> str:
    name = model.template.outer.name if model.template.outer is not None else ""
    return f"num_slots {outer}^2" if name == "num_slots" else f"{name} {outer}"


def _describe(model: CostModel, one: CandidateSet, at: int) -> str:
    parts = [] if model.template.outer is None else [_size(model, int(one.outer[at]))]
    if model.template.inner is not None:
        parts.append(f"{model.template.inner.name} {one.inner[at]}")
    return ", ".join([*parts, f"{percent(one.mismatch[at])} off the dense model"])


def signed(value: float) -> str:
    """Return a fraction as a percentage with its sign."""
    return f"{'+' if value >= 0 else '-'}{percent(abs(value))}"
