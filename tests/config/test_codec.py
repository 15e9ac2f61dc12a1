"""The strict translation between dataclasses and plain values."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.config.architecture import Architecture
from memscale.config.budget import Budget
from memscale.config.codec import changed, from_plain, to_plain
from memscale.config.data import Data, Facts, TextFiles
from memscale.config.family import Family, MemoryPlusFamily, MoEFamily
from memscale.config.grid import Block
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.matching import Free, Matching, MultipleOf
from memscale.errors import ConfigError

DENSE = Architecture(
    family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=2, head_width=16, ffn_hidden=171, vocab_size=512
)


@given(
    experts=st.integers(2, 64), hidden=st.integers(1, 4096), weight=st.floats(0, 10), keys=st.integers(16, 1024)
)  # fmt: skip
def test_what_goes_through_json_comes_back_the_same(experts: int, hidden: int, weight: float, keys: int) -> None:
    moe = MoE(layers=(0, 2), num_experts=experts, experts_per_token=2, expert_hidden=hidden, balance_weight=weight)
    memory = Memory(layers=(1, 3), num_keys=keys, num_heads=4, knn=16, key_width=32, value_width=64)
    peer = Peer(layers=(2,), num_keys=keys, num_heads=4, knn=16, key_width=32, query_norm="batch")
    for architecture in (
        DENSE,
        dataclasses.replace(DENSE, family="moe", moe=moe),
        dataclasses.replace(DENSE, family="memory_plus", memory=memory),
        dataclasses.replace(DENSE, family="peer", peer=peer),
        dataclasses.replace(DENSE, family="looped", loop=Loop(prelude=1, recurrent=2, coda=1, recurrences=experts)),
    ):
        assert from_plain(Architecture, json.loads(json.dumps(to_plain(architecture)))) == architecture


def test_sources_are_a_mapping_in_yaml_and_keep_their_kind() -> None:
    data = from_plain(
        Data,
        {
            "name": "mix",
            "sources": {"facts": {"kind": "facts", "weight": 3}, "mine": {"kind": "text_files", "files": "a/*.txt"}},
        },
    )
    facts, mine = data.sources
    assert isinstance(facts, Facts)
    assert (facts.name, facts.weight) == ("facts", 3.0)
    assert isinstance(mine, TextFiles)
    assert mine.files == ("a/*.txt",)
    assert from_plain(Data, to_plain(data)) == data


def test_a_number_that_yaml_reads_as_text_is_a_number() -> None:
    budget = from_plain(Budget, {"flops": "1e18", "d_model": 64.0, "num_layers": 4, "num_heads": 4})
    assert budget.flops == 1e18
    assert budget.d_model == 64
    assert type(budget.d_model) is int


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("d_model", 64.5, "a whole number"),
        ("d_model", True, "a whole number"),
        ("flops", "abc", "a number"),
        ("flops", float("nan"), "a number"),
        ("flops", None, "nothing given for how long to train; exactly one of flops, tokens"),
        ("flops", 0, "greater than zero"),
        ("flops", -1e18, "greater than zero"),
        ("num_heads", 5, "does not divide"),
        ("num_heds", 4, "Did you mean 'num_heads'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_key(key: str, value: object, said: str) -> None:
    plain = {"flops": 1e18, "d_model": 64, "num_layers": 4, "num_heads": 4, key: value}
    with pytest.raises(ConfigError) as caught:
        from_plain(Budget, plain, where="scale.budgets[0]")
    assert said in str(caught.value)
    assert "scale.budgets[0]" in str(caught.value)


def test_a_missing_key_and_an_unknown_word_name_what_is_valid() -> None:
    with pytest.raises(ConfigError, match=r"d_model is missing; it needs a whole number"):
        from_plain(Budget, {"flops": 1e18, "num_layers": 4, "num_heads": 4})
    with pytest.raises(
        ConfigError, match=r"valid: facts, dense_facts, python_stdlib, text_files, hf.*Did you mean 'facts'"
    ):
        from_plain(Data, {"name": "mix", "sources": {"a": {"kind": "fact"}}})


def test_a_type_without_a_plain_form_is_refused() -> None:
    with pytest.raises(TypeError):
        to_plain({1, 2})
    assert to_plain(MoEFamily(name="moe"))["family"] == "moe"


def test_families_are_a_mapping_and_their_key_is_their_kind_unless_they_say_another() -> None:
    assert from_plain(Family, {"name": "moe", "num_experts": 4}) == MoEFamily(name="moe", num_experts=4)
    fine = from_plain(Family, {"name": "fine", "family": "moe", "experts_per_token": 4})
    assert fine == MoEFamily(name="fine", experts_per_token=4)
    assert from_plain(Family, to_plain(fine)) == fine
    with pytest.raises(ConfigError, match=r"families.mo.family is None; valid: dense, moe"):
        from_plain(Family, {"name": "mo"}, where="families.mo")


def test_lists_of_named_values_are_mappings_in_yaml() -> None:
    plain = {"free": {"moe": "expert_hidden", "memory_plus": ["ffn_hidden"]}, "multiple_of": {"expert_hidden": 8}}
    matching = from_plain(Matching, plain)
    assert matching.free == (
        Free(name="moe", widths=("expert_hidden",)), Free(name="memory_plus", widths=("ffn_hidden",)),
    )  # fmt: skip
    assert matching.multiple_of == (MultipleOf(width="expert_hidden", value=8),)
    assert from_plain(Matching, to_plain(matching)) == matching
    with pytest.raises(ConfigError, match=r"'expert_hiden'.*Did you mean 'expert_hidden'"):
        from_plain(Matching, {"free": {"moe": ["expert_hiden"]}})
    block = from_plain(Block, {"families": "moe", "product": {"layers": [[1, 2], "middle"], "gated": [True]}})
    assert [(axis.key, axis.values) for axis in block.product] == [("layers", ((1, 2), "middle")), ("gated", (True,))]


def test_a_setting_is_changed_with_its_type_or_refused_with_its_place() -> None:
    family = MemoryPlusFamily(name="memory_plus")
    assert changed(family, {"num_slots": "4096", "layers": [1, 2]}, "grid[0]").num_slots == 4096
    assert changed(family, {"layers": "middle"}, "grid[0]").layers == "middle"
    for changes, said in (
        ({"num_slot": 4}, "grid[0]: 'num_slot' is not a key of MemoryPlusFamily"),
        ({"num_slots": 4.5}, "grid[0].num_slots is 4.5; it needs a whole number"),
        ({"num_slots": 5}, "grid[0]: num_slots is 5"),
        ({"layers": "midle"}, "Did you mean 'middle'"),
    ):
        with pytest.raises(ConfigError) as caught:
            changed(family, changes, "grid[0]")
        assert said in str(caught.value)
