"""Named rules: the worked figures of REFERENCE section 4, their ranges, and the message for an unknown name."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.errors import ConfigError
from memscale.planning import rules
from memscale.planning.rule_inputs import RuleInputs
from memscale.planning.rules import BATCH_RULES, LEARNING_RATE_RULES, Rule

# N 85M, D 1.7B, C = 6ND; nanochat's d12 has width 768, and marin's batch is 8 sequences of 4096.
WORKED = RuleInputs(
    flops=6 * 85e6 * 1.7e9,
    params_non_embedding=85e6,
    tokens=1.7e9,
    batch_tokens=8 * 4096,
    sequence_length=4096,
    d_model=768,
)
ALL = [*LEARNING_RATE_RULES.values(), *BATCH_RULES.values()]


def ids(rule: Rule) -> str:
    return f"{rule.name}-{rule.units.split()[0]}"


@pytest.mark.parametrize(
    ("name", "figure"),
    # REFERENCE prints 2.6e-3 for olmo_ladder: its formula gives 2.545e-3, which is 2.6e-3 only rounded twice.
    [("deepseek", 1.8e-3), ("steplaw", 2.7e-3), ("olmo_ladder", 2.55e-3), ("marin", 1.2e-3)],
)
def test_learning_rates_are_those_worked_out_by_hand(name: str, figure: float) -> None:
    assert rules.learning_rate(name, WORKED) == pytest.approx(figure, rel=0.02)


@pytest.mark.parametrize(
    ("name", "figure"), [("deepseek", 215e3), ("steplaw", 108e3), ("olmo_ladder", 279e3), ("nanochat", 524288)]
)
def test_batches_are_those_worked_out_by_hand(name: str, figure: float) -> None:
    assert rules.batch_tokens(name, WORKED) == pytest.approx(figure, rel=0.005)


def test_the_joint_moe_rate_falls_with_experts_as_its_formula_says() -> None:
    dense = rules.learning_rate("joint_moe", WORKED)
    assert math.log(dense) == pytest.approx(8.39 - 0.81 * math.log(85e6))
    sixteen = rules.learning_rate("joint_moe", replace(WORKED, num_experts=16))
    assert sixteen / dense == pytest.approx(1 / 2), "16^-0.25"


@pytest.mark.parametrize(("tokens", "batch"), [(1.156e9, 2**19), (9.6e9, 2**20)])
def test_nanochat_gives_the_batches_that_were_measured_at_d12_and_d26(tokens: float, batch: int) -> None:
    assert rules.batch_tokens("nanochat", replace(WORKED, tokens=tokens)) == batch


@pytest.mark.parametrize("rule", ALL, ids=ids)
def test_a_rule_reads_exactly_what_it_says(rule: Rule) -> None:
    for field in fields(RuleInputs):
        other = replace(WORKED, **{field.name: getattr(WORKED, field.name) * 16})
        assert (rule.value(other) != rule.value(WORKED)) == (field.name in rule.reads), field.name


@pytest.mark.parametrize("rule", ALL, ids=ids)
def test_every_rule_names_its_source_and_its_ranges_have_a_basis(rule: Rule) -> None:
    assert all([rule.source, rule.formula, rule.units])
    for known in rule.ranges or ():
        assert known.low < known.high
        assert known.basis
        assert known.reads in {field.name for field in fields(RuleInputs)}


@given(
    rule=st.sampled_from(ALL),
    exponent=st.floats(-7, 14),
    data=st.data(),
)
def test_outside_names_what_lies_outside_and_only_that(rule: Rule, exponent: float, data: st.DataObject) -> None:
    inside = replace(WORKED, **{known.reads: math.sqrt(known.low * known.high) for known in rule.ranges or ()})
    assert rules.outside(rule, inside) is None
    known = data.draw(st.sampled_from(rule.ranges or ()))
    value = math.sqrt(known.low * known.high) * 10**exponent
    said = rules.outside(rule, replace(inside, **{known.reads: value}))
    if known.low <= value <= known.high:
        assert said is None
    else:
        symbol = rules.SYMBOLS[known.reads][0]
        assert said is not None
        assert said.startswith(f"{rule.name} was fitted for {symbol} between ")
        assert float(said.rsplit("= ", 1)[1]) == pytest.approx(value, rel=0.01)


def test_the_sentence_of_a_laptop_run() -> None:
    said = rules.outside(LEARNING_RATE_RULES["deepseek"], replace(WORKED, flops=4e11))
    assert said == "deepseek was fitted for C between 1e+17 and 2e+19 FLOPs; here C = 4e+11"


def test_several_things_outside_are_all_said() -> None:
    said = rules.outside(LEARNING_RATE_RULES["steplaw"], replace(WORKED, params_non_embedding=1e6, tokens=1e7))
    assert said is not None
    assert "N = 1e+06" in said
    assert "D = 1e+07" in said


def test_a_misspelt_rule_is_told_the_valid_names_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"deepsek.*valid: tuned, fixed, deepseek, .*Did you mean 'deepseek'\?"):
        rules.learning_rate("deepsek", WORKED)
    with pytest.raises(ConfigError, match=r"valid: fixed, deepseek, .*nanochat.*Did you mean 'nanochat'\?"):
        rules.batch_tokens("nano_chat", WORKED)


def test_a_rule_of_the_other_kind_is_named_as_such() -> None:
    with pytest.raises(ConfigError, match="'marin' gives no batch"):
        rules.batch_tokens("marin", WORKED)
    with pytest.raises(ConfigError, match="'nanochat' gives no learning rate"):
        rules.learning_rate("nanochat", WORKED)


@pytest.mark.parametrize("name", ["flops", "tokens", "d_model", "batch_tokens"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_inputs_that_are_not_positive_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(WORKED, **{name: value})


def test_marin_says_that_it_needs_the_batch() -> None:
    with pytest.raises(ConfigError, match="batch_tokens is not given"):
        rules.learning_rate("marin", replace(WORKED, batch_tokens=None))
