"""The solver against brute force: every candidate within the bounds is counted, every selection of candidates tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from memscale.config.architecture import Architecture
from memscale.config.family import (
    Family,
    MemoryPlusFamily,
    MoEFamily,
)
from memscale.config.matching import PER_TOKEN, SPARSE_EQUAL, Matching, MultipleOf
from memscale.errors import PlanError
from memscale.planning.candidates import Bound, Candidates
from memscale.planning.cost_model import CostModel
from memscale.planning.matching import match
from memscale.planning.outer_widths import feasible_candidates, outer_widths
from memscale.planning.quantities import measure
from memscale.planning.widths import template
from tests.planning.instances import (
    SEQUENCE,
    Instance,
    memory_plus,
    mixed,
    moe,
    ngram,
    own_table,
    small,
    token_rows,
)


@dataclass(frozen=True)
class Point:
    architecture: Architecture
    mismatch: float
    shared: float
    total: float


def brute_points(dense: Architecture, one: Instance, matching: Matching) -> list[Point]:
    """Every point within the tolerance and the window, on the side where the model grows."""
    criteria = matching.equal_per_token
    wanted = [measure(name, dense, SEQUENCE) for name in criteria]
    low = matching.total_over_dense * measure("total_params", dense, SEQUENCE)

    def values(outer: int, inner: int) -> list[float]:
        return [measure(name, one.build(dense, outer, inner), SEQUENCE) for name in criteria]

    def too_large(outer: int, inner: int) -> bool:
        return any((v - w) / w > matching.tolerance for v, w in zip(values(outer, inner), wanted, strict=True))

    sizes: list[float] = []
    points: list[list[Point]] = []
    for outer in itertools.count(one.least[0], one.step[0]):
        narrow = one.build(dense, outer, one.least[1])
        if measure("total_params", narrow, SEQUENCE) > low * 1.1:
            break
        if too_large(outer, one.least[1]):
            if one.monotone:
                break
            continue
        first, second = values(outer, one.least[1]), values(outer, one.least[1] + one.step[1])
        slopes = [(b - a) / one.step[1] for a, b in zip(first, second, strict=True)]
        exact = min(one.least[1] + (w - a) / s for w, a, s in zip(wanted, first, slopes, strict=True) if s > 0)
        totals = [
            measure("total_params", one.build(dense, outer, one.least[1] + i * one.step[1]), SEQUENCE) for i in (0, 1)
        ]
        sizes.append(totals[0] + (totals[1] - totals[0]) / one.step[1] * (exact - one.least[1]))
        points.append(list(_within(dense, one, matching, outer, wanted, low)))
    if not sizes:
        return []
    largest = int(np.argmax(sizes))
    return [point for here in points[: largest + 1] for point in here]


def _within(
    dense: Architecture, one: Instance, matching: Matching, outer: int, wanted: list[float], low: float
) -> Iterator[Point]:
    for inner in itertools.count(one.least[1], one.step[1]):
        built = one.build(dense, outer, inner)
        mismatches = [measure(n, built, SEQUENCE) - w for n, w in zip(matching.equal_per_token, wanted, strict=True)]
        mismatches = [difference / w for difference, w in zip(mismatches, wanted, strict=True)]
        if max(mismatches) > matching.tolerance:
            return
        total = measure("total_params", built, SEQUENCE)
        mismatch = max(abs(value) for value in mismatches)
        if mismatch <= matching.tolerance and low <= total <= low * 1.1:
            shared = measure(matching.sparse_equal or "total_params", built, SEQUENCE)
            yield Point(built, mismatch, shared, total)


def brute_best(sets: list[list[Point]]) -> tuple[float, list[list[float]]] | None:
    """The least worst mismatch over every choice, and what each choice that reaches it shares."""
    if not all(sets):
        return None
    shared = np.meshgrid(*[[point.shared for point in candidates] for candidates in sets], indexing="ij")
    mismatches = np.meshgrid(*[[point.mismatch for point in candidates] for candidates in sets], indexing="ij")
    gap = np.max(shared, axis=0) / np.min(shared, axis=0) - 1
    worst = np.maximum(gap, np.max(mismatches, axis=0))
    best = float(worst.min())
    at = np.argwhere(worst <= best * (1 + 1e-12) + 1e-15)
    return best, [[candidates[i].shared for candidates, i in zip(sets, row, strict=True)] for row in at]


def instances(root_step: int, expert_step: int) -> st.SearchStrategy[list[Instance]]:
    moes = st.builds(
        moe,
        st.integers(1, 2),
        st.integers(0, 1),
        st.sampled_from(["token_choice", "expert_choice", "hash"]),
        st.just(expert_step),
    )
    pluses = st.builds(
        memory_plus,
        st.sampled_from(["ffn_hidden", "key_width", "value_width"]),
        root_step=st.just(root_step),
        num_heads=st.sampled_from([1, 2, 5]),
        place=st.sampled_from(["replace", "beside"]),
    )
    pluses |= st.builds(
        memory_plus,
        st.sampled_from(["ffn_hidden", "key_width", "value_width"]),
        gated=st.just(False),
        projection=st.just(True),
        core_rank=st.sampled_from([None, 2]),
        expansion=st.sampled_from([None, 4]),
        query_conv=st.sampled_from([None, 4]),
        root_step=st.just(root_step),
    )
    others = st.one_of(
        st.builds(own_table, st.sampled_from(["pkm", "memory", "peer"]), st.just(root_step)),
        st.builds(ngram, st.integers(1, 2), st.sampled_from([0, 3])),
        st.builds(token_rows),
        st.builds(
            mixed,
            st.integers(2, 5),
            st.sampled_from(["ngram", "memory"] if root_step == 1 else ["ngram"]),
            st.just(expert_step),
        ),
    )
    return st.tuples(moes, pluses, others).flatmap(
        lambda three: st.sets(st.integers(0, 2), min_size=1).map(lambda at: [three[i] for i in sorted(at)])
    )


CRITERIA = st.sampled_from(
    [
        ("flops_per_token",),
        ("active_params",),
        ("decode_bytes",),
        ("training_memory",),
        ("flops_per_token", "active_params"),
        ("kv_cache_bytes", "flops_per_token"),  # which no width changes
    ]
)
SHARED = st.sampled_from(["total_params", "total_params", "non_embedding_params", "decode_bytes", "active_params"])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Instance], Matching]:
    root_step, expert_step = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3]))
    drawn = draw(instances(root_step, expert_step))
    return drawn, Matching(
        equal=(*draw(CRITERIA), "tokens"),
        sparse_equal=draw(SHARED),
        tolerance=draw(st.sampled_from([0.01, 0.03, 0.08])),
        total_over_dense=draw(st.floats(1.2, 4.0)),
        free=tuple(one.free for one in drawn if one.free is not None),
        multiple_of=(
            MultipleOf(width="num_slots", value=root_step),
            MultipleOf(width="expert_hidden", value=expert_step),
        ),
    )


@given(dense=st.builds(small, st.sampled_from([4, 6, 8]), st.integers(12, 40)), problem=problems())
@example(
    dense=small(4, 12),
    problem=([ngram(2, 0)], Matching(equal=("active_params", "tokens"), tolerance=0.01, total_over_dense=2.0)),
)
@settings(max_examples=60, deadline=None)
def test_nothing_within_the_bounds_is_better(dense: Architecture, problem: tuple[list[Instance], Matching]) -> None:
    instances, matching = problem
    sets = [brute_points(dense, one, matching) for one in instances]
    assume(np.prod([len(candidates) for candidates in sets]) < 3e6)
    best = brute_best(sets)
    families = {one.family.name: one.family for one in instances}
    if best is None or best[0] > matching.tolerance:
        with pytest.raises(PlanError):
            match(dense, families, matching, SEQUENCE)
        return
    assert matching.sparse_equal is not None
    found = match(dense, families, matching, SEQUENCE)
    architectures = [found[one.family.name].architecture for one in instances]
    sizes = [measure(matching.sparse_equal, one, SEQUENCE) for one in architectures]
    mismatches = [abs(mismatch) for one in found.values() for _, mismatch in one.mismatch]
    assert max(*mismatches, max(sizes) / min(sizes) - 1) == pytest.approx(best[0], rel=1e-9, abs=1e-12)
    # Of equally good choices, the one whose models are all smallest; it exists, for the gap is the same from its start.
    assert sizes == pytest.approx([min(column) for column in zip(*best[1], strict=True)])
    for one, architecture, candidates in zip(instances, architectures, sets, strict=True):
        assert architecture in [point.architecture for point in candidates], one.family


@given(
    dense=st.builds(small, st.sampled_from([4, 6, 8]), st.integers(16, 40)),
    num_experts=st.integers(4, 16),
    other=st.sampled_from(["pkm", "memory", "peer"]).map(own_table),
    tolerance=st.sampled_from([0.02, 0.05]),
)
@settings(max_examples=40, deadline=None)
def test_a_given_size_is_the_others_aim(
    dense: Architecture, num_experts: int, other: Instance, tolerance: float
) -> None:
    fixed = moe(1, 0, "token_choice")
    wanted = measure("flops_per_token", dense, SEQUENCE)

    def within(one: Instance, outer: int) -> Iterator[tuple[float, float]]:
        for inner in range(one.least[1], 3 * dense.ffn_hidden):
            built = one.build(dense, outer, inner)
            mismatch = abs(measure("flops_per_token", built, SEQUENCE) - wanted) / wanted
            if mismatch <= tolerance:
                yield mismatch, measure("total_params", built, SEQUENCE)

    experts = list(within(fixed, num_experts))
    others = [pair for outer in range(other.least[0], 90) for pair in within(other, outer)]
    pairs = [max(a, b, max(n, m) / min(n, m) - 1) for a, n in experts for b, m in others]
    families = {"moe": replace(fixed.family, num_experts=num_experts), "other": other.family}
    matching = Matching(tolerance=tolerance)
    if not pairs or min(pairs) > tolerance:
        with pytest.raises(PlanError):
            match(dense, families, matching, SEQUENCE)
        return
    found = match(dense, families, matching, SEQUENCE)
    totals = [measure("total_params", one.architecture, SEQUENCE) for one in found.values()]
    mismatches = [abs(one.mismatch[0][1]) for one in found.values()]
    assert max(*mismatches, max(totals) / min(totals) - 1) == pytest.approx(min(pairs), rel=1e-9, abs=1e-12)


QUANTITIES = tuple(name for name in dict.fromkeys((*PER_TOKEN, *SPARSE_EQUAL)) if name != "seconds_per_token")


@given(
    dense=st.builds(small, st.sampled_from([4, 6, 32]), st.integers(12, 90)),
    one=instances(1, 1).map(lambda drawn: drawn[0]),
    outer=st.integers(0, 3000),
    inner=st.integers(0, 5000),
    s=st.sampled_from([48, 100, 1024]),
)
@example(dense=small(6, 12), one=moe(1, 0, "expert_choice"), outer=2612, inner=0, s=100)
@settings(max_examples=150, deadline=None)
def test_the_nodes_tell_every_point(dense: Architecture, one: Instance, outer: int, inner: int, s: int) -> None:
    matching = Matching(free=() if one.free is None else (one.free,))
    model = CostModel(template("it", one.family, dense, matching), QUANTITIES, s)
    at = one.least[0] + one.step[0] * outer, one.least[1] + one.step[1] * inner
    constant, slope = model.coefficients(np.array([at[0]]))
    counted = [measure(name, one.build(dense, *at), s) for name in QUANTITIES]
    # Expert choice rounds its active parameters to whole ones.
    assert list(constant[:, 0] + slope[:, 0] * at[1]) == pytest.approx(counted, rel=1e-12, abs=0 if one.monotone else 2)
    if one.monotone:
        exact = [QUANTITIES.index(name) for name in ("flops_per_token", "total_params", "active_params")]
        assert [constant[i, 0] + slope[i, 0] * at[1] for i in exact] == [counted[i] for i in exact]


@given(
    share=st.one_of(st.floats(0.01, 0.9), st.floats(0.9, 1.02)),
    k=st.integers(1, 3),
    tolerance=st.sampled_from([0.001, 0.01, 0.1]),
)
@settings(max_examples=60, deadline=None)
def test_blocks_leave_out_nothing(share: float, k: int, tolerance: float) -> None:
    """Thousands of numbers of experts are looked at in blocks first; without them it must come out the same.

    With k experts per token the largest model (1,499 experts) has about 556 / k times the dense model's parameters.
    """
    dense = small(256, 1000)
    family = MoEFamily(name="moe", experts_per_token=k)
    model = CostModel(template("moe", family, dense, Matching()), ("flops_per_token", "total_params"), SEQUENCE)
    wanted = [measure("flops_per_token", dense, SEQUENCE)]
    low = share * 556 / k * measure("total_params", dense, SEQUENCE)
    bounds = (Bound(row=1, low=low, high=1.1 * low),)
    everything = outer_widths(model, wanted, bounds, tolerance)
    assert len(everything) > 1024
    alone = Candidates(model, wanted, np.arange(k, 3100))
    assert alone.outer[alone.largest_model(1, tolerance)] == pytest.approx(1500, abs=5)
    plain = Candidates(model, wanted, everything).up_to_largest_model(1, tolerance).select(tolerance, bounds, 1, 1)
    blocked = feasible_candidates(model, wanted, bounds, tolerance, 1).select(tolerance, bounds, 1, 1)
    for name in ("outer", "inner", "mismatch", "shared"):
        assert (getattr(blocked, name) == getattr(plain, name)).all()


def test_a_quantity_that_the_nodes_do_not_tell_is_counted_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kink that the planner does not know of: the answer's own count gives it away."""
    families: dict[str, Family] = {
        "moe": MoEFamily(name="moe"),
        "plus": MemoryPlusFamily(name="plus", centred=1, knn=8),
    }
    dense, terms = small(16, 80), (Matching(total_over_dense=3), SEQUENCE)
    right = match(dense, families, *terms)
    fit = CostModel._fit

    def fit_wrongly(self: CostModel) -> None:
        fit(self)
        for slopes, constants in zip(self._slope, self._constant, strict=True):
            slopes[0] *= 1.001
            constants[0] *= 1.001
        self._slope_QF *= 1.001
        self._constant_QF *= 1.001

    monkeypatch.setattr(CostModel, "_fit", fit_wrongly)
    again = Matching(total_over_dense=3, tolerance=0.0099)  # other terms, so that it is not the kept answer
    assert match(dense, families, again, SEQUENCE) == right
