"""Dense baselines: explicit budgets, ladders, isoFLOP grids, and the batch."""

from __future__ import annotations

import math

import pytest

from memscale.config.sweep import Sweep
from memscale.errors import ConfigError, PlanError
from memscale.planning.accounting import TRAINING_PASSES, count
from memscale.planning.budgets import DenseBaseline, dense_baselines
from tests.planning.shipped import shipped

SHAPE = "d_model: 64, num_layers: 4, num_heads: 4"
SHAPES = "shapes: {head_width: 8, width_per_layer: 16, least_layers: 2}"


def flops(baseline: DenseBaseline, sweep: Sweep) -> float:
    counts = count(baseline.dense, sweep.scale.sequence_length)
    return TRAINING_PASSES * counts.flops_per_token_forward * baseline.tokens


def test_a_budget_in_flops_tokens_or_tokens_per_parameter_is_met_to_half_a_batch() -> None:
    sweep = shipped(
        "memory_vs_moe",
        f"scale.budgets=[{{flops: 4e11, {SHAPE}}}, {{tokens: 2e5, {SHAPE}}}, {{tokens_per_parameter: 3, {SHAPE}}}]",
    )
    by_flops, by_tokens, by_ratio = sorted(
        dense_baselines(sweep).baselines, key=lambda one: "tpp" in one.name or "tok" in one.name
    )
    by_tokens, by_ratio = sorted((by_tokens, by_ratio), key=lambda one: "tpp" in one.name)
    batch = sweep.scale.batch_tokens
    assert abs(flops(by_flops, sweep) - 4e11) <= flops(by_flops, sweep) / by_flops.tokens * batch / 2
    assert abs(by_tokens.tokens - 2e5) <= batch / 2
    params = count(by_ratio.dense, sweep.scale.sequence_length).params_non_embedding
    assert abs(by_ratio.tokens - 3 * params) <= batch / 2
    assert (by_flops.name, by_tokens.name, by_ratio.name) == ("4e11", "2e5tok-d64-L4", "3tpp-d64-L4")
    assert by_tokens.flops == flops(by_tokens, sweep)
    assert all(one.tokens % batch == 0 for one in (by_flops, by_tokens, by_ratio))


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (f"{{flops: -1, {SHAPE}}}", r"flops.* is -1.*greater than zero"),
        (f"{{flops: 0, {SHAPE}}}", r"greater than zero"),
        (f"{{tokens: 0, {SHAPE}}}", r"greater than zero"),
        (f"{{{SHAPE}}}", r"nothing given for how long.*exactly one of flops, tokens, tokens_per_parameter"),
        (f"{{flops: 1e11, tokens: 1e5, {SHAPE}}}", r"flops and tokens given"),
        ("{flops: 1e11, d_model: 60, num_layers: 4, num_heads: 4}", r"does not divide into 4 heads of even width"),
        (f"{{flops: 1e6, {SHAPE}}}", r"less than one batch of 512 tokens.*Raise the budget"),
        (f"{{flops: 1e11, {SHAPE}}}, {{flops: 1e11, {SHAPE}}}", r"two budgets are called 1e11-d64-L4"),
    ],
)
def test_budgets_that_cannot_be_are_refused(budget: str, words: str) -> None:
    with pytest.raises((ConfigError, PlanError), match=words):
        dense_baselines(shipped("memory_vs_moe", f"scale.budgets=[{budget}]"))


def test_two_shapes_at_one_budget_have_names_of_their_own() -> None:
    other = "d_model: 96, num_layers: 4, num_heads: 6"
    sweep = shipped("memory_vs_moe", f"scale.budgets=[{{flops: 4e11, {SHAPE}}}, {{flops: 4e11, {other}}}]")
    assert [one.name for one in dense_baselines(sweep).baselines] == ["4e11-d64-L4", "4e11-d96-L4"]


def test_a_ladder_has_its_sizes_in_order_each_trained_by_the_rule() -> None:
    sweep = shipped(
        "memory_vs_moe",
        "scale.budgets=[]",
        f"scale.ladders=[{{d_models: [32, 64, 96], tokens_per_parameter: 20, {SHAPES}}}]",
    )
    found = dense_baselines(sweep).baselines
    assert [(one.dense.d_model, one.dense.num_layers, one.dense.num_heads) for one in found] == [
        (32, 2, 4), (64, 4, 8), (96, 6, 12),
    ]  # fmt: skip
    for one in found:
        params = count(one.dense, sweep.scale.sequence_length).params_non_embedding
        assert one.tokens == pytest.approx(20 * params, abs=sweep.scale.batch_tokens / 2)
    with pytest.raises(ConfigError, match=r"names 60, which does not divide into heads of width 8"):
        shipped("memory_vs_moe", f"scale.ladders=[{{d_models: [60], flops: 1e11, {SHAPES}}}]")


@pytest.mark.parametrize("optimum", ["tokens_per_parameter: 3", "optimum_coefficient: 0.4, optimum_exponent: 0.48"])
def test_an_isoflop_grid_is_symmetric_about_its_optimum_in_the_logarithm(optimum: str) -> None:
    grid = f"{{flops: [1e13, 4e13], points: 5, span: 4, {optimum}, {SHAPES}}}"
    sweep = shipped("memory_vs_moe", "scale.budgets=[]", f"scale.isoflops=[{grid}]")
    found = dense_baselines(sweep)
    assert not found.dropped
    for budget in (1e13, 4e13):
        best = math.sqrt(budget / 18) if "tokens" in optimum else 0.4 * budget**0.48
        here = [one for one in found.baselines if one.flops == budget]
        sizes = [count(one.dense, sweep.scale.sequence_length).params_non_embedding for one in here]
        wanted = [best * 4 ** (step / 2) for step in range(-2, 3)]
        # Widths move by one head: no other width would have been nearer.
        for size, want, one in zip(sizes, wanted, here, strict=True):
            heads = one.dense.num_heads
            step = ((heads + 1) / heads) ** 3
            assert abs(math.log(size / want)) <= math.log(step)
        assert all(flops(one, sweep) == pytest.approx(budget, rel=0.02) for one in here)


def test_isoflop_points_that_fall_together_are_dropped_and_said() -> None:
    grid = f"{{flops: [1e11], points: 9, span: 1.5, tokens_per_parameter: 3, {SHAPES}}}"
    found = dense_baselines(shipped("memory_vs_moe", "scale.budgets=[]", f"scale.isoflops=[{grid}]"))
    assert len(found.baselines) + len(found.dropped) == 9
    assert found.dropped
    assert all("the nearest shape is d_model" in one.reason for one in found.dropped)
    assert len({one.dense.d_model for one in found.baselines}) == len(found.baselines)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("points: 4, tokens_per_parameter: 3", r"points is 4; an odd number"),
        ("span: 1, tokens_per_parameter: 3", r"span is 1.*greater than 1"),
        ("points: 5", r"either tokens_per_parameter, or both"),
        ("tokens_per_parameter: 3, optimum_coefficient: 1, optimum_exponent: 0.5", r"either tokens_per_parameter"),
        ("optimum_coefficient: 1", r"either tokens_per_parameter"),
    ],
)
def test_isoflop_grids_without_a_clear_optimum_are_refused(keys: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        shipped("memory_vs_moe", f"scale.isoflops=[{{flops: [1e11], {keys}, {SHAPES}}}]")


def test_budgets_ladders_and_isoflop_grids_add_up() -> None:
    sweep = shipped(
        "memory_vs_moe",
        f"scale.budgets=[{{flops: 4e11, {SHAPE}}}]",
        f"scale.ladders=[{{d_models: [32], tokens: 1e5, {SHAPES}}}]",
        f"scale.isoflops=[{{flops: [1e13], points: 3, tokens_per_parameter: 3, {SHAPES}}}]",
    )
    assert len(dense_baselines(sweep).baselines) == 5


def test_a_batch_rule_gives_whole_sequences_and_its_range_is_kept() -> None:
    rule = ("recipe.batch.rule=steplaw",)
    with pytest.raises(PlanError, match=r"recipe.batch.*allow_outside=true"):
        dense_baselines(shipped("memory_vs_moe", *rule))
    sweep = shipped("memory_vs_moe", *rule, "recipe.batch.allow_outside=true")
    found = dense_baselines(sweep)
    assert any("batch rule outside its range" in note for note in found.notes)
    for one in found.baselines:
        params_free = 0.58 * (one.tokens**0.571)  # REFERENCE section 4: StepLaw's batch in tokens
        assert one.batch_tokens % sweep.scale.sequence_length == 0
        assert one.batch_tokens == pytest.approx(params_free, abs=sweep.scale.sequence_length)
        assert one.tokens % one.batch_tokens == 0
    with pytest.raises(ConfigError, match=r"Did you mean 'steplaw'"):
        dense_baselines(shipped("memory_vs_moe", "recipe.batch.rule=steplow"))
