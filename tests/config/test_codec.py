"""The strict translation between dataclasses and plain values."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.config.architecture import Architecture, Memory, MoE
from memscale.config.codec import from_plain, to_plain
from memscale.config.data import Data, Facts, TextFiles
from memscale.config.sweep import Budget, MoEFamily
from memscale.errors import ConfigError

DENSE = Architecture(
    family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=2, head_width=16, ffn_hidden=171, vocab_size=512
)


@given(
    experts=st.integers(1, 64), hidden=st.integers(1, 4096), weight=st.floats(0, 10), keys=st.integers(16, 1024)
)  # fmt: skip
def test_what_goes_through_json_comes_back_the_same(experts: int, hidden: int, weight: float, keys: int) -> None:
    moe = MoE(layers=(0, 2), num_experts=experts, experts_per_token=1, expert_hidden=hidden, balance_weight=weight)
    memory = Memory(layers=(1, 3), num_keys=keys, num_heads=4, knn=16, key_width=32, value_width=64)
    for architecture in (
        DENSE,
        dataclasses.replace(DENSE, family="moe", moe=moe),
        dataclasses.replace(DENSE, family="memory_plus", memory=memory),
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
        ("flops", None, "a number"),
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
    with pytest.raises(ConfigError, match=r"valid: facts, python_stdlib, text_files, hf.*Did you mean 'facts'"):
        from_plain(Data, {"name": "mix", "sources": {"a": {"kind": "fact"}}})


def test_a_type_without_a_plain_form_is_refused() -> None:
    with pytest.raises(TypeError):
        to_plain({1, 2})
    assert to_plain(MoEFamily())["family"] == "moe"
