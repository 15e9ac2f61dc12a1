"""The options of memory and PEER layers: which contradict each other, and that unset ones leave no trace."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from memscale.config.architecture import Architecture
from memscale.config.codec import from_plain, to_plain
from memscale.config.family import FAMILY_CLASSES, Family, MemoryFamily, MemoryPlusFamily, PeerFamily
from memscale.config.layers import Memory, MoE, Peer
from memscale.errors import ConfigError
from memscale.planning.identity import canonical

KEYS: dict[str, Any] = {"layers": (1,), "num_keys": 8, "num_heads": 2, "knn": 4, "key_width": 8}
OPTIONS: dict[str, Any] = {
    "place": "beside", "skip": 1, "core_rank": 2, "core_penalty": 0.0, "query_conv": 4, "weights": "none",
}  # fmt: skip
VALUES: dict[str, Any] = {"projection": True, "expansion": 4}


def built(memory: Memory | None, num_layers: int = 4, family: str = "memory_plus", **parts: Any) -> Architecture:
    return Architecture(
        family=family,
        d_model=16,
        num_layers=num_layers,
        num_heads=2,
        num_kv_heads=2,
        head_width=8,
        ffn_hidden=32,
        vocab_size=64,
        memory=memory,
        **parts,
    )


@pytest.mark.parametrize(
    "options, said",
    [
        ({"place": "besides"}, r"place is 'besides'; valid: replace, beside\. Did you mean 'beside'\?"),
        (
            {"skip": 1},
            "skip is 1, but place is 'replace': the block would have no feed-forward layer; set place to 'be",
        ),
        ({"skip": 0, "place": "beside"}, "skip is 0; it must be at least 1"),
        ({"core_rank": 0}, "core_rank is 0; it must be at least 1"),
        ({"core_penalty": 0.1}, "core_penalty is 0.1, but there is no core without core_rank; leave it null"),
        ({"query_conv": 1}, "query_conv is 1; it must be at least 2"),
        ({"weights": "sum"}, "weights is 'sum'; valid: softmax, relu, none"),
        ({"projection": True}, "projection is true, but a gated output is projected by its W2 already"),
        ({"expansion": 2}, "expansion is 2; it must be at least 4"),
        ({"expansion": 8}, "expansion is 8, but product keys span a square number of slots"),
        ({"expansion": 4, "gated": False}, "expansion is 4, but each virtual table needs its projection"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Memory(**KEYS, value_width=8, **options)


def test_a_skip_beyond_the_last_block_is_refused() -> None:
    memory = Memory(**KEYS, value_width=8, place="beside", skip=2)
    assert built(memory).beside_end(1) == 3
    with pytest.raises(
        ConfigError, match=r"layer 1 adds its output 2 blocks later \(skip\), but the last block is 2; name earlier"
    ):
        built(memory, num_layers=3)


def test_what_stands_in_a_block() -> None:
    replaced, beside = (built(Memory(**KEYS, value_width=8, place=place)) for place in ("replace", "beside"))
    assert [replaced.feed_forward_kind(layer) for layer in (0, 1)] == ["dense", "memory"]
    assert [beside.feed_forward_kind(layer) for layer in (0, 1)] == ["dense", "dense"]
    assert [one.beside_kind(1) for one in (replaced, beside)] == [None, "memory"]
    assert beside.beside_kind(0) is None
    assert (replaced.num_dense_layers, beside.num_dense_layers) == (3, 4)


def test_in_a_mixture_a_part_stands_beside_experts_and_two_not_beside_one_layer() -> None:
    memory = Memory(**KEYS, value_width=8, place="beside", skip=2)
    experts = MoE(layers=(1,), num_experts=2, experts_per_token=1, expert_hidden=3, renormalise=False)
    peer = Peer(**{**KEYS, "layers": (0, 2)}, place="beside", skip=1)
    mixed = built(memory, family="mixture", moe=experts, peer=peer)
    assert [mixed.feed_forward_kind(layer) for layer in range(4)] == ["dense", "moe", "dense", "dense"]
    assert [mixed.beside_kind(layer) for layer in range(4)] == ["peer", "memory", "peer", None]
    assert [mixed.beside_end(layer) for layer in range(4)] == [1, 3, 3, 3]
    assert mixed.num_dense_layers == 3
    with pytest.raises(ConfigError, match=r"layers \[1\] are listed by memory and by peer, both with place 'beside'"):
        built(memory, family="mixture", peer=Peer(**KEYS, place="beside"))


def test_virtual_slots_and_matrices_are_counted() -> None:
    plain = Memory(**KEYS, value_width=8)
    expanded = dataclasses.replace(plain, expansion=9)
    projected = dataclasses.replace(plain, gated=False, projection=True)
    assert [one.num_slots for one in (plain, expanded)] == [64, 64]
    assert [one.num_half_keys for one in (plain, expanded)] == [8, 24]
    assert [one.num_output_matrices for one in (plain, expanded, projected)] == [2, 10, 1]


@pytest.mark.parametrize("cls", [Memory, Peer])
def test_unset_options_are_not_part_of_an_identity_and_set_ones_are(cls: type) -> None:
    given = {**KEYS, **({"value_width": 8, "gated": False} if cls is Memory else {})}
    options = {**OPTIONS, **(VALUES if cls is Memory else {})}
    assert not set(to_plain(cls(**given))) & set(options)
    whole = cls(**given, **options)
    assert options.items() <= to_plain(whole).items()
    assert from_plain(cls, json.loads(canonical(whole))) == whole


@pytest.mark.parametrize("cls", [MemoryFamily, MemoryPlusFamily, PeerFamily])
def test_families_have_the_options_of_their_layers(cls: type) -> None:
    options = {**OPTIONS, **({} if cls is PeerFamily else {"expansion": 4})}
    family = from_plain(Family, {"name": cls.family, **options})
    assert options.items() <= to_plain(family).items()
    assert not set(to_plain(cls(name=cls.family))) & {*options, "projection"}


def test_a_field_of_a_layer_means_the_same_in_every_family() -> None:
    for cls in FAMILY_CLASSES:
        for field in dataclasses.fields(cls):
            if field.name in OPTIONS:
                assert field.default == {one.name: one.default for one in dataclasses.fields(Memory)}[field.name]
                assert "added_later" in field.metadata
