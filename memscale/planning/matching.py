"""Solves the widths of the sparse models so that each budget is a fair comparison.

1. The dense model of a budget fixes the criteria: what every model shares with it per token (`matching.equal`).
2. The sparse models share a size with each other (`matching.sparse_equal`). It is
   - between `total_over_dense` times the dense model's total parameters and a tenth more, or
   - where families give their own size, within the tolerance of all given sizes.
   A looped model has no size: it is matched to the dense model alone, and has fewer parameters by its recurrences.
3. An open width may be any multiple of its step. A candidate is one pair of widths
   (`candidates`); its costs come from a polynomial that is exact at every point (`cost_model`).
4. A family grows at most to its largest model: beyond a number of experts (slots) the router (key scoring) takes more
   parameters and FLOPs than the inner width can give back (`Candidates.up_to_largest_model`).
5. The answer has the least worst mismatch of all candidates within these bounds (`selection`). The search starts with
   a threshold and keeps every candidate whose own mismatch is at most that; once a selection is no worse than the
   threshold, no candidate left out can be better.

Refuses where the answer misses the tolerance, and names the width that would have to move, and to what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from memscale.config.architecture import Architecture
from memscale.config.family import DenseFamily, Family, MixtureFamily
from memscale.config.matching import Matching
from memscale.errors import ConfigError
from memscale.planning.candidates import Bound, Candidates, CandidateSet
from memscale.planning.cost_model import RELATIVE_ROUNDING, CostModel, Ints
from memscale.planning.match_targets import Matched, MatchTargets
from memscale.planning.outer_widths import feasible_candidates, outer_widths
from memscale.planning.refusals import too_far_apart
from memscale.planning.selection import drop_unpaired, select
from memscale.planning.widths import Template

_MAX_OVERSIZE = 1.1
"""Total parameters may exceed those required by `total_over_dense` by this factor."""
_FIRST_THRESHOLD = 1 / 16
"""Fraction of the tolerance."""
_PAIRING_FACTOR = 4
"""Candidates are paired up to this many thresholds apart. Pairs farther apart than one threshold cannot win, but they
bound the answer where none lies within it."""


def match(
    dense: Architecture, families: Mapping[str, Family], matching: Matching, sequence_length: int
) -> dict[str, Matched]:
    """Solve the open widths of every family beside `dense`.

    On a tie the smaller models win: by the shared quantity, then by total parameters. Results are cached, so budgets
    that differ only in their number of tokens are solved once.

    Args:
        dense: The dense model of the budget.
        families: Label of each series -> its family, dense ones included.
        matching: What is held equal, which widths are free, and the tolerance.
        sequence_length: Tokens per training sequence.

    Returns:
        The matched model of each label, in the order of `families`.

    Raises:
        ConfigError: The terms of `matching` contradict each other or leave a size undetermined.
        PlanError: No candidate is within the tolerance.

    Example:
        >>> from memscale.config.family import MemoryPlusFamily, MoEFamily
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> families = {"moe": MoEFamily(name="moe"), "memory_plus": MemoryPlusFamily(name="memory_plus", centred=2)}
        >>> found = match(dense, families, Matching(total_over_dense=4), sequence_length=128)
        >>> found["moe"].architecture.moe.num_experts, found["memory_plus"].architecture.num_slots
        (18, 16641)
        >>> {label: f"{dict(one.mismatch)['flops_per_token']:+.2%}" for label, one in found.items()}
        {'moe': '+0.00%', 'memory_plus': '-0.04%'}
    """
    return dict(_match(dense, tuple(families.items()), matching, sequence_length))


@lru_cache(maxsize=1024)
def _match(
    dense: Architecture, series: tuple[tuple[str, Family], ...], matching: Matching, sequence_length: int
) -> tuple[tuple[str, Matched], ...]:
    families = dict(series)
    targets = MatchTargets(dense, families, matching, sequence_length)
    solved = _solve(targets, families)
    mixed = [label for label, one in families.items() if isinstance(one, MixtureFamily) and one.share is not None]
    if mixed:
        # A share is one of the total, and depends on what the other parts cost: both are known now.
        solved = _solve(targets, families, {label: solved[label].architecture for label in mixed})
    return tuple((label, solved[label]) for label in families)


def _solve(
    targets: MatchTargets, families: Mapping[str, Family], mixtures: Mapping[str, Architecture] | None = None
) -> dict[str, Matched]:
    """Return every family's model. `mixtures`: those found before, for which shares are taken anew."""
    before = mixtures or {}
    matching = targets.matching
    solved = {label: targets.dense(label, one) for label, one in families.items() if isinstance(one, DenseFamily)}
    sparse = {label: one for label, one in families.items() if not isinstance(one, DenseFamily)}
    models = [targets.cost_model(targets.template(label, one, before.get(label))) for label, one in sparse.items()]
    while models:
        together = [one for one in models if matching.sparse_equal is not None and one.template.has_size]
        joint = dict(zip(map(id, together), _match_jointly(targets, together) if together else [], strict=True))
        widths = [joint.get(id(one)) or _match_alone(targets, one) for one in models]
        built = [model.template.build(*at) for model, at in zip(models, widths, strict=True)]
        counted = [model.count_exactly(one) for model, one in zip(models, built, strict=True)]
        verified = [model.verify(*at, exact) for model, at, exact in zip(models, widths, counted, strict=True)]
        if not all(verified):
            continue  # a polynomial does not hold at its answer: solve again with counts in its place
        for model, architecture, exact in zip(models, built, counted, strict=True):
            solved[model.template.series] = Matched(architecture=architecture, mismatch=targets.mismatch(exact))
        break
    return solved


def _match_alone(targets: MatchTargets, model: CostModel) -> tuple[int, int]:
    """Return the best widths of a family that shares nothing with the other sparse ones. Raises PlanError."""
    one, matching = model.template, targets.matching
    num_open, num_terms = (one.outer is not None) + (one.inner is not None), len(matching.equal_by_width)
    # With nothing else to fix the size, the criteria can, if there is one for each open width.
    if one.outer_is_free and matching.total_over_dense is None and 0 < num_open <= num_terms:
        candidates = feasible_candidates(model, targets.dense_values, (), matching.tolerance, targets.total)
        size = None
    else:
        size = _fixed_size(targets, model)
        candidates = Candidates(model, targets.dense_values, size)
    if not len(candidates.outer):
        raise targets.infeasible(model, (), size)
    inner, mismatch = candidates.best_inner()
    best = int(np.lexsort((candidates.values_at(inner, targets.total), mismatch))[0])
    if mismatch[best] > matching.tolerance:
        raise targets.infeasible(model, (), candidates.outer[best : best + 1])
    return int(candidates.outer[best]), int(inner[best])


def _fixed_size(targets: MatchTargets, model: CostModel) -> Ints:
    """Return the outer width, [1], of a family whose size is given or follows from `total_over_dense`."""
    if model.template.outer is None:
        return np.zeros(1, dtype=np.int64)
    bound = Bound(row=targets.total, low=_min_total(targets, model.template), high=np.inf)
    outer = outer_widths(model, (), (replace(bound, high=bound.low),), targets.matching.tolerance)
    # The last of these may still be too small by a rounding error.
    outer = np.append(outer, outer[-1] + model.template.outer.step) if len(outer) else _smallest_outer(model)
    candidates = Candidates(model, targets.dense_values, outer)
    inner, _ = candidates.best_inner()
    total = candidates.values_at(inner, targets.total)
    large_enough = np.flatnonzero(total >= bound.low * (1 - RELATIVE_ROUNDING))
    at = int(large_enough[0]) if len(large_enough) else len(outer) - 1
    return outer[at : at + 1]


def _smallest_outer(model: CostModel) -> Ints:
    assert model.template.outer is not None
    return np.array([model.template.outer.least], dtype=np.int64)


def _min_total(targets: MatchTargets, one: Template) -> float:
    """Return the total parameters required by `total_over_dense`. Raises ConfigError."""
    assert one.outer is not None
    if targets.matching.total_over_dense is None:
        name = one.family.name
        raise ConfigError(
            f"nothing gives {one.series} its size: set matching.total_over_dense, or families.{name}.{one.outer.name}"
        )
    held = [name for name in ("total_params", "non_embedding_params") if name in targets.criteria]
    if held:
        raise ConfigError(
            f"matching.equal holds {held[0]} equal to the dense model's, and matching.total_over_dense asks for "
            f"{targets.matching.total_over_dense:g} times as many; set total_over_dense to null"
        )
    return targets.matching.total_over_dense * targets.dense_total


def _match_jointly(targets: MatchTargets, models: Sequence[CostModel]) -> list[tuple[int, int]]:
    """Return the best widths of several families that share a size. Raises ConfigError and PlanError."""
    for model in models:
        if targets.matching.sparse_equal == "table_params" and list(model.template.parts) == ["moe"]:
            raise ConfigError(
                f"matching.sparse_equal is table_params, but {model.template.series} has no table; name total_params"
            )
    fixed = {model.template.series: _fixed_size(targets, model) for model in models if not model.template.outer_is_free}
    tolerance = targets.matching.tolerance
    candidates: list[Candidates] = []
    bounds: list[tuple[Bound, ...]] = []
    size_bounds = _size_bounds(targets, models, fixed)
    for model in models:
        size = fixed.get(model.template.series)
        bounds.append(size_bounds if size is None else ())
        if size is None:
            candidates.append(feasible_candidates(model, targets.dense_values, size_bounds, tolerance, targets.total))
        else:
            candidates.append(Candidates(model, targets.dense_values, size))

    def within(threshold: float) -> list[CandidateSet]:
        return [
            one.select(threshold, bound, targets.shared, targets.total)
            for one, bound in zip(candidates, bounds, strict=True)
        ]

    threshold, failed = tolerance * _FIRST_THRESHOLD, -1.0
    while True:
        sets = within(threshold)
        selection = select(drop_unpaired(sets, _PAIRING_FACTOR * threshold), failed)
        if selection is not None and selection.worst <= threshold:
            return selection.widths
        if threshold >= tolerance:
            for model, one, bound in zip(models, sets, bounds, strict=True):
                if len(one) == 0:
                    raise targets.infeasible(model, bound, fixed.get(model.template.series))
            raise too_far_apart(models, sets, select(sets), targets.matching)
        # With every candidate up to the worst mismatch of a selection, the best selection is among them.
        failed = threshold if selection is not None else failed
        threshold = min(tolerance, 4 * threshold if selection is None else selection.worst)


def _size_bounds(targets: MatchTargets, models: Sequence[CostModel], fixed: Mapping[str, Ints]) -> tuple[Bound, ...]:
    """Return where the sparse models' size may lie. Raises PlanError where the given sizes exclude each other."""
    tolerance = targets.matching.tolerance
    if not fixed and targets.matching.total_over_dense is None and targets.size_is_equal:
        return ()
    if not fixed:
        low = _min_total(targets, models[0].template)
        return (Bound(row=targets.total, low=low, high=low * _MAX_OVERSIZE),)
    low, high = 0.0, np.inf
    for model in models:
        size = fixed.get(model.template.series)
        if size is None:
            continue
        given = Candidates(model, targets.dense_values, size).select(tolerance, (), targets.shared, targets.total)
        if len(given) == 0:
            raise targets.infeasible(model, (), size)
        slack = 1 + RELATIVE_ROUNDING
        low = max(low, float(given.shared[0]) / (1 + tolerance) / slack)
        high = min(high, float(given.shared[-1]) * (1 + tolerance) * slack)
    return (Bound(row=targets.shared, low=low, high=high),)
