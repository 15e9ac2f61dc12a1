"""Looped models: the published counts, the layers that are chosen, and matching beside dense and sparse families."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memscale.config.architecture import Architecture
from memscale.config.family import DenseFamily, Family, LoopedFamily, MemoryPlusFamily, MoEFamily
from memscale.config.loop import INJECTIONS, Loop
from memscale.config.matching import Free, Matching, MultipleOf
from memscale.errors import ConfigError, PlanError
from memscale.planning.accounting import components, count
from memscale.planning.identity import canonical
from memscale.planning.loops import loop_of, recurrent_params
from memscale.planning.match_targets import Matched
from memscale.planning.matching import match
from memscale.planning.quantities import measure
from tests.planning.architectures import architectures

SEQUENCE = 64
LOOPED = LoopedFamily(name="looped")


def dense(num_layers: int = 6, d_model: int = 48, **changes: Any) -> Architecture:
    shapes: dict[str, Any] = {"num_heads": 6, "num_kv_heads": 6, "head_width": 8, "ffn_hidden": 128, "vocab_size": 300}
    return Architecture(family="dense", d_model=d_model, num_layers=num_layers, **{**shapes, **changes})


def solve(*families: Family, beside: Architecture | None = None, **terms: Any) -> dict[str, Matched]:
    return match(beside or dense(), {one.name: one for one in families}, Matching(**terms), SEQUENCE)


@pytest.mark.parametrize("r", [1, 2, 4, 8, 16])
def test_the_counts_of_the_law_are_those_of_its_models(r: int) -> None:
    """arXiv 2604.21106: prelude 2, coda 2, 16 / r recurrent layers of 12 d^2, injection 2 d^2."""
    d = 768
    wide = dense(20, d, num_heads=12, num_kv_heads=12, head_width=64, ffn_hidden=2048)
    loop = loop_of(LoopedFamily(name="looped", prelude=2, coda=2, recurrences=r), wide.num_layers)
    assert (loop.recurrent, loop.depth) == (16 // r, 20)
    looped = replace(wide, family="looped", num_layers=loop.stored_layers, loop=loop)
    parts = {part.name: part for part in components(looped, 1024)}
    assert sum(parts[name].params for name in ("attention", "ffn", "injection")) == (48 + 192 / r + 2) * d**2
    # What every recurrence uses, and what is used once; norms are not in the law's counts.
    recurrent = recurrent_params(looped)
    assert recurrent is not None
    assert recurrent - 2 * loop.recurrent * d == (192 / r + 2) * d**2
    # As deep as the dense model: its FLOPs, and those of r injections.
    more = count(looped, 1024).flops_per_token_forward - count(wide, 1024).flops_per_token_forward
    assert more == 2 * 2 * d**2 * r == parts["injection"].flops


@settings(max_examples=200, deadline=None)
@given(architectures("looped"))
def test_recurrent_parameters_are_what_other_models_store_less(a: Architecture) -> None:
    assert a.loop is not None
    one = replace(a.loop, recurrences=1)
    unrolled = replace(
        a,
        loop=replace(one, recurrent=a.loop.recurrent * a.loop.recurrences),
        num_layers=a.loop.depth,
    )
    recurrent = recurrent_params(a)
    assert recurrent is not None
    injection = 2 * a.d_model**2 if a.loop.injection == "concatenate" else 0
    more = count(unrolled, 9).params_total - count(a, 9).params_total
    assert more == (recurrent - injection) * (a.loop.recurrences - 1)
    assert recurrent_params(dense()) is None


@settings(max_examples=300, deadline=None)
@given(
    depth=st.integers(1, 40),
    times=st.integers(1, 12),
    prelude=st.none() | st.integers(0, 6),
    coda=st.none() | st.integers(0, 6),
    recurrent=st.none() | st.integers(1, 6),
)
def test_layers_that_are_null_are_chosen_and_all_others_kept(
    depth: int, times: int, prelude: int | None, coda: int | None, recurrent: int | None
) -> None:
    family = LoopedFamily(name="looped", prelude=prelude, recurrent=recurrent, coda=coda, recurrences=times)
    possible = [
        (p, q, c)
        for q in range(1, depth + 1)
        for p in range(depth - q * times + 1)
        for c in (depth - q * times - p,)
        if prelude in (None, p) and recurrent in (None, q) and coda in (None, c)
    ]
    if None not in (prelude, coda, recurrent):
        loop = loop_of(family, depth)
        assert (loop.prelude, loop.recurrent, loop.coda) == (prelude, recurrent, coda)
    elif not possible:
        with pytest.raises(PlanError, match=f"as many layers as the budget's dense model has, {depth}"):
            loop_of(family, depth)
    else:
        loop = loop_of(family, depth)
        assert (loop.prelude, loop.recurrent, loop.coda) in possible
        # The most recurrent layers that leave a layer for each end that is null, if there are such.
        roomy = [q for p, q, c in possible if (prelude is not None or p > 0) and (coda is not None or c > 0)]
        assert loop.recurrent == max(roomy, default=loop.recurrent)
        if prelude is coda is None:
            assert loop.prelude - loop.coda in (0, 1)


@pytest.mark.parametrize(
    "changes, said",
    [
        (
            {"prelude": 2, "coda": 2, "recurrences": 3},
            r"prelude 2 and coda 2 leave 4.* in 3 recurrences; .*divide: 1, 2, 4",
        ),
        ({"recurrent": 3, "recurrences": 3}, r"3 recurrent and 0 other layers need more in 3 recurrences"),
        (
            {"prelude": 7, "recurrences": 2},
            r"1 recurrent and 7 other layers need more .*; recurrences that divide: 1\.",
        ),
        ({"prelude": 4000, "recurrent": 4000, "coda": 0, "recurrences": 2}, r"families\.looped: .*12,000 layers"),
    ],
)
def test_layers_that_do_not_divide_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        loop_of(replace(LOOPED, **changes), depth=8)


def test_a_loop_and_its_architecture_agree() -> None:
    loop = Loop(prelude=1, recurrent=2, coda=1, recurrences=2)
    looped = replace(dense(4), family="looped", loop=loop)
    assert looped.applied_layers == (0, 1, 2, 1, 2, 3)
    assert looped.depth == 6 == len(looped.applied_layers)
    with pytest.raises(ConfigError, match="num_layers is 6, but the loop has 4 layers"):
        replace(dense(6), family="looped", loop=loop)
    with pytest.raises(ConfigError, match="'looped' and its part disagree: loop is missing"):
        replace(dense(4), family="looped")
    with pytest.raises(ConfigError, match="'dense' and its part disagree: loop is given"):
        replace(dense(4), loop=loop)
    assert "loop" not in canonical(dense(4))  # so that the ids of other families' runs stay
    assert '"recurrences":2' in canonical(looped)


@settings(max_examples=60, deadline=None)
@given(
    num_layers=st.integers(3, 12),
    ffn=st.integers(20, 200),
    recurrences=st.integers(1, 5),
    injection=st.sampled_from(INJECTIONS),
    step=st.sampled_from([1, 3]),
    criterion=st.sampled_from(["flops_per_token", "decode_bytes", "training_memory", "total_params"]),
)
def test_the_width_is_the_best_of_all(
    num_layers: int, ffn: int, recurrences: int, injection: str, step: int, criterion: str
) -> None:
    assume(recurrences <= num_layers)
    beside = dense(num_layers, ffn_hidden=ffn)
    family = replace(LOOPED, recurrences=recurrences, injection=injection)
    loop = loop_of(family, num_layers)
    wanted = measure(criterion, beside, SEQUENCE)

    def mismatch(hidden: int) -> float:
        built = replace(beside, family="looped", num_layers=loop.stored_layers, loop=loop, ffn_hidden=hidden)
        return abs(measure(criterion, built, SEQUENCE) - wanted) / wanted

    best = min(range(step, 3000, step), key=mismatch)
    terms = {
        "equal": (criterion, "tokens"), "multiple_of": (MultipleOf(width="ffn_hidden", value=step),), "tolerance": 0.02,
        "total_over_dense": None,
    }  # fmt: skip
    if mismatch(best) > 0.02:
        with pytest.raises(PlanError, match="ffn_hidden would have to be"):
            solve(family, beside=beside, **terms)
        return
    architecture = solve(family, beside=beside, **terms)["looped"].architecture
    assert mismatch(architecture.ffn_hidden) == pytest.approx(mismatch(best), abs=1e-12)
    assert architecture.loop == loop


def test_what_sparse_models_share_does_not_bind_a_looped_one() -> None:
    sparse = (MoEFamily(name="moe"), MemoryPlusFamily(name="plus", centred=2, knn=8))
    beside = dense(6, d_model=96)
    without = solve(DenseFamily(name="dense"), *sparse, beside=beside)
    found = solve(DenseFamily(name="dense"), *sparse, replace(LOOPED, recurrences=2), beside=beside)
    assert {name: one for name, one in found.items() if name != "looped"} == without
    looped = found["looped"]
    assert abs(dict(looped.mismatch)["flops_per_token"]) < 0.005
    assert count(looped.architecture, SEQUENCE).params_total < count(beside, SEQUENCE).params_total
    assert looped.architecture.ffn_hidden < beside.ffn_hidden  # the injection's FLOPs are taken from the layers
    # Beside a dense model alone there is nothing that sparse models could share.
    assert solve(LOOPED, beside=beside)["looped"] == looped
    # With a given width nothing is solved; with none free, it has to fit.
    given_width = solve(replace(LOOPED, ffn_hidden=120, injection="none"), tolerance=0.5)["looped"]
    assert given_width.architecture.ffn_hidden == 120
    with pytest.raises(PlanError, match=r"Name ffn_hidden in matching.free.looped"):
        solve(LOOPED, free=(Free(name="looped", widths=()),))
    with pytest.raises(ConfigError, match="names num_slots, but the family 'looped' has ffn_hidden"):
        solve(LOOPED, free=(Free(name="looped", widths=("num_slots",)),))


def test_an_injection_that_costs_more_than_the_layers_is_refused_with_what_to_do() -> None:
    narrow = dense(6, ffn_hidden=12)
    with pytest.raises(PlanError, match=r"cannot go below 1: set families\.looped\.injection to none, use fewer"):
        solve(replace(LOOPED, recurrences=6), beside=narrow)
    assert solve(replace(LOOPED, recurrences=6, injection="none"), beside=narrow)


CACHE = ("flops_per_token", "kv_cache_bytes", "tokens")


def test_the_cache_is_equal_at_equal_depth_and_nothing_else_moves_it() -> None:
    families = (
        DenseFamily(name="dense"),
        MoEFamily(name="moe"),
        MemoryPlusFamily(name="plus", centred=2, knn=8),
        LOOPED,
    )
    for one in solve(*families, beside=dense(6, d_model=96), equal=CACHE).values():
        assert dict(one.mismatch)["kv_cache_bytes"] == 0
        assert abs(dict(one.mismatch)["flops_per_token"]) < 0.01
    deeper = replace(LOOPED, prelude=2, recurrent=2, coda=2, recurrences=4)  # 12 layers instead of 6
    heads = solve(deeper, equal=("kv_cache_bytes", "tokens"))["looped"].architecture
    assert (heads.depth, heads.num_kv_heads, heads.ffn_hidden) == (12, 3, 128)  # half as many keys a layer
    with pytest.raises(
        PlanError,
        match=r"looped: its cache of keys and values is \+100 % off .* no width changes it: 12 layers .* leave num_kv",
    ):
        solve(replace(deeper, num_kv_heads=6), equal=("kv_cache_bytes", "tokens"))
    with pytest.raises(PlanError, match=r"is -16.7 % off .* as deep as the dense model; or take kv_cache_bytes out"):
        solve(replace(deeper, recurrences=3), equal=("kv_cache_bytes", "tokens"))  # 10 layers: 6 x 6 / 10 heads
    assert solve(deeper, equal=("tokens",))["looped"].architecture.num_kv_heads == 6


def test_one_size_follows_from_the_terms_with_or_without_the_cache_among_them() -> None:
    """A term that no width changes does not count as one of the two that a size and an inner width need."""
    moe = MoEFamily(name="moe")
    with pytest.raises(ConfigError, match="nothing gives moe its size"):
        solve(moe, equal=CACHE, sparse_equal=None, total_over_dense=None)
    both = {"sparse_equal": None, "total_over_dense": None, "tolerance": 0.05}
    plain = solve(moe, equal=("flops_per_token", "total_params", "tokens"), **both)["moe"]
    cached = solve(moe, equal=("flops_per_token", "total_params", "kv_cache_bytes", "tokens"), **both)["moe"]
    assert cached.architecture == plain.architecture


def test_equal_flops_and_parameters_are_refused_for_layers_that_are_shared() -> None:
    """What is equal in one is less in the other: sharing layers always costs more FLOPs for the same parameters."""
    with pytest.raises(PlanError, match=r"looped: no looped model is within 1 % .* in flops_per_token, non_embedding"):
        solve(LOOPED, equal=("flops_per_token", "non_embedding_params", "kv_cache_bytes", "tokens"))
    with pytest.raises(ConfigError, match=r"matching\.equal holds non_embedding_params equal .* total_over_dense"):
        solve(MoEFamily(name="moe"), equal=("flops_per_token", "non_embedding_params", "tokens"), sparse_equal=None)
