"""A mixture's share: met as nearly as whole sizes allow at equal FLOPs and equal total, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.config.architecture import Architecture
from memscale.config.family import (
    DenseFamily,
    Family,
    LoopedFamily,
    MemoryPlusFamily,
    MixtureFamily,
    MoEFamily,
    NGramFamily,
    PeerFamily,
)
from memscale.config.matching import Free, Matching
from memscale.errors import ConfigError, MemscaleError
from memscale.planning.accounting import count, unused_params
from memscale.planning.matching import match

SEQUENCE = 64
DENSE = Architecture(
    family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16, ffn_hidden=256, vocab_size=512
)


def mixture(share: float | None, first: Family, last: Family) -> MixtureFamily:
    return MixtureFamily(name="mixed", parts=(first, last), share=share)


def matched(family: Family, matching: Matching) -> Architecture:
    return match(DENSE, {"it": family}, matching, SEQUENCE)["it"].architecture


def shares(a: Architecture) -> dict[str, float]:
    counts = count(a, SEQUENCE)
    sparse = counts.params_total - counts.params_active
    return {name: unused_params(a, name, SEQUENCE) / sparse for name in a.parts}


@given(share=st.floats(0.1, 0.9), over=st.floats(2.0, 6.0), k=st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_a_share_of_experts_is_within_half_an_expert(share: float, over: float, k: int) -> None:
    experts = MoEFamily(name="e", experts_per_token=k)
    table = NGramFamily(name="n", num_heads=2)
    matching = Matching(tolerance=0.02, total_over_dense=over)
    found = matched(mixture(share, experts, table), matching)
    counts, dense = count(found, SEQUENCE), count(DENSE, SEQUENCE)
    assert counts.flops_per_token_forward == pytest.approx(dense.flops_per_token_forward, rel=0.02)
    assert over * dense.params_total <= counts.params_total <= 1.1 * over * dense.params_total
    assert found.moe is not None
    one = 3 * found.d_model * found.moe.expert_hidden * len(found.moe.layers)
    sparse = counts.params_total - counts.params_active
    assert sum(shares(found).values()) == pytest.approx(1.0, abs=1e-3)
    # Half an expert; and what one expert's width differs between two numbers of experts.
    assert abs(shares(found)["moe"] - share) <= 0.6 * one / sparse + 0.01


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_two_tables_share_too(share: float) -> None:
    memory = MemoryPlusFamily(name="m", centred=1, num_heads=2, knn=8)
    found = matched(mixture(share, memory, NGramFamily(name="n", num_heads=2)), Matching(total_over_dense=6))
    assert shares(found)["memory"] == pytest.approx(share, abs=0.02)


def test_experts_keep_the_layer_that_a_memory_stands_beside() -> None:
    """They leave it to one that replaces them; beside, all layers have experts and no dense layer is left."""
    memory = MemoryPlusFamily(name="m", layers=(1,), num_heads=2, knn=8, num_slots=4096, place="beside", skip=2)
    experts = MoEFamily(name="e", experts_per_token=1)
    found = matched(MixtureFamily(name="mixed", parts=(memory, experts)), Matching(total_over_dense=4))
    assert found.moe is not None
    assert found.memory is not None
    assert found.moe.layers == (0, 1, 2, 3)
    assert (found.memory.place, found.memory.skip) == ("beside", 2)
    assert found.num_dense_layers == 0
    flops = count(found, SEQUENCE).flops_per_token_forward
    assert flops == pytest.approx(count(DENSE, SEQUENCE).flops_per_token_forward, rel=0.02)


def test_of_two_parts_with_keys_the_last_ones_width_is_solved() -> None:
    peer = PeerFamily(name="p", layers=(0,), num_heads=2, knn=8, num_slots=256, key_width=10)
    memory = MemoryPlusFamily(name="m", layers=(2,), num_heads=2, knn=8, num_slots=256)
    terms = Matching(
        free=(Free(name="mixed", widths=("key_width",)),), equal=("tokens", "flops_per_token"), tolerance=0.05
    )
    found = matched(MixtureFamily(name="mixed", parts=(peer, memory)), terms)
    assert found.peer is not None
    assert found.memory is not None
    assert found.peer.key_width == 10
    assert found.memory.key_width != 32


def test_experts_leave_their_layer_to_a_memory_layer() -> None:
    memory = MemoryPlusFamily(name="m", centred=1, num_heads=2, knn=8)
    found = matched(mixture(0.5, MoEFamily(name="e"), memory), Matching(total_over_dense=6))
    assert [found.feed_forward_kind(layer) for layer in range(4)] == ["moe", "moe", "memory", "moe"]


@pytest.mark.parametrize(
    "family, matching, said",
    [
        (mixture(None, MoEFamily(name="e"), NGramFamily(name="n")), Matching(), r"parts.e has no size; give .*share"),
        (
            mixture(0.5, MoEFamily(name="e"), NGramFamily(name="n")),
            Matching(total_over_dense=None),
            "nothing says how many",
        ),
        (mixture(0.5, MoEFamily(name="e", num_experts=4), NGramFamily(name="n")), Matching(), "both a share"),
        (mixture(0.5, MoEFamily(name="e"), MoEFamily(name="f")), Matching(), "both a moe part"),
        (mixture(0.99, MoEFamily(name="e"), NGramFamily(name="n")), Matching(total_over_dense=900), "room for"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_reason(family: Family, matching: Matching, said: str) -> None:
    with pytest.raises(MemscaleError, match=said):
        matched(family, matching)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"parts": (MoEFamily(name="e"),)}, "two sparse parts or more"),
        ({"parts": (MoEFamily(name="e"), LoopedFamily(name="l"))}, "parts are moe, looped"),
        ({"parts": (MoEFamily(name="e"), DenseFamily(name="d"))}, "parts are moe, dense"),
        ({"share": 1.0}, "leaves nothing to the last part"),
        ({"parts": (MoEFamily(name="e", ffn_hidden=4), NGramFamily(name="n"))}, "belong to the whole model"),
    ],
)
def test_a_mixture_that_is_none_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(mixture(0.5, MoEFamily(name="e"), NGramFamily(name="n")), **changes)
