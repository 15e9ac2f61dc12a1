"""From a recipe to a run: tuned rates at another width, and what is for tables alone."""

from __future__ import annotations

import pytest

from memscale.config.recipe import Recipe, Tune
from memscale.errors import ConfigError
from memscale.planning.plan import Plan
from memscale.planning.recipes import at_width, optimizer
from memscale.planning.tuning import Rates
from tests.planning.shipped import planned

RECIPE = Recipe(name="r", tune=Tune(learning_rates=(1e-2, 2e-3, 5e-3), table_factors=(4.0, 1.0)))


def test_rates_fall_with_width_as_the_recipe_says() -> None:
    tuned = Rates(learning_rate=5e-3, table_learning_rate=2e-2)
    wide = at_width(RECIPE, tuned, tuned_d_model=48, d_model=96)
    assert wide == Rates(learning_rate=2.5e-3, table_learning_rate=1e-2)
    assert at_width(RECIPE, tuned, tuned_d_model=48, d_model=48) == tuned
    flat = Recipe(name="r", tune=RECIPE.tune, width_exponent=0.0)
    assert at_width(flat, tuned, tuned_d_model=48, d_model=96) == tuned


def test_without_a_table_nothing_is_clipped_apart() -> None:
    recipe = Recipe(name="r", tune=RECIPE.tune, clipping="apart", matrix_optimizer="muon")
    dense, memory = (optimizer(recipe, Rates(learning_rate=1e-2, table_learning_rate=one)) for one in (None, 2e-2))
    assert (dense.clipping, memory.clipping) == ("together", "apart")
    assert dense.matrix_optimizer == memory.matrix_optimizer == "muon"


def tuning_ids(plan: Plan) -> dict[str, str | None]:
    return {run.name: run.run_id for run in plan.stage("tune")}


@pytest.mark.parametrize(
    ("override", "families"),
    [
        ("recipe.clipping=apart", {"memory_plus"}),
        ("recipe.table_schedule={kind: cosine}", {"memory_plus"}),
        ("recipe.init=published", {"dense", "moe", "memory_plus"}),
        ("recipe.matrix_optimizer=muon", {"dense", "moe", "memory_plus"}),
        ("recipe.matrix_optimizer=adamw", set()),
        ("recipe.init=scaled", set()),
    ],
)
def test_an_option_changes_the_runs_of_the_families_that_have_what_it_is_about(
    override: str, families: set[str]
) -> None:
    before, plan = tuning_ids(planned("memory_vs_moe")), planned("memory_vs_moe", override)
    other = {run.family for run in plan.stage("tune") if before[run.name] != run.run_id}
    assert other == families


def test_the_recipe_of_the_paper_is_that_of_its_code() -> None:
    plan = planned("memory_layers_at_scale", "scale=paper")
    for run in plan.runs:
        assert run.run is not None
        found = run.run.optimizer
        assert found.learning_rate == 1e-4
        assert (found.weight_decay, found.clip_norm, run.run.init) == (0.1, 1.0, "published")
        if run.architecture.has_table:
            rates = found.table_learning_rate, found.table_weight_decay, found.clipping, run.run.table_schedule
            assert rates == (1e-3, 0.1, "apart", None)


def test_every_recipe_is_composed_and_says_what_it_is() -> None:
    muon = planned("memory_vs_moe", "recipe=muon").sweep.recipe
    assert (muon.name, muon.matrix_optimizer, muon.width_exponent) == ("muon", "muon", 0.5)
    with pytest.raises(ConfigError, match=r"recipe\.matrix_optimizer .*'moun'; valid: adamw, muon\. .*'muon'"):
        planned("memory_vs_moe", "recipe.matrix_optimizer=moun")
    with pytest.raises(ConfigError, match=r"recipe\.clipping .*; valid: together, apart"):
        planned("memory_vs_moe", "recipe.clipping=alone")
    with pytest.raises(ConfigError, match=r"recipe\.init .*; valid: scaled, published"):
        planned("memory_vs_moe", "recipe.init=xavier")
    with pytest.raises(ConfigError, match=r"recipe\.table_schedule.kind .*; valid: wsd, cosine"):
        planned("memory_vs_moe", "recipe.table_schedule={kind: linear}")


def test_a_plan_with_muon_says_what_it_costs_on_top() -> None:
    """The largest and the smallest share, from a count by hand: five times three products for every matrix."""
    plan = planned("memory_vs_moe", "recipe=muon", "scale=laptop")
    (note,) = (one for one in plan.notes if "Muon" in one)
    run = next(run for run in plan.stage("compare") if (run.family, run.budget) == ("moe", "d32"))
    a, d = run.architecture, run.architecture.d_model
    dense_layers = a.num_layers - len(a.moe.layers)
    matrices = [(d, d)] * 4 * a.num_layers + [(a.ffn_hidden, d)] * 3 * dense_layers
    matrices += [(a.moe.expert_hidden, d)] * 3 * a.moe.num_experts * len(a.moe.layers)
    flops = sum(5 * (4 * min(one) ** 2 * max(one) + 2 * min(one) ** 3) for one in matrices)
    share = flops / (3 * run.counts.flops_per_token_forward * run.batch_tokens)
    assert a.num_kv_heads == a.num_heads
    assert a.moe.shared_experts == 0
    assert f" to {100 * share:.3g} % (moe at d32)" in note
    assert not any("Muon" in one for one in planned("memory_vs_moe").notes)
