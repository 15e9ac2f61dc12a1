"""How a family's rates are chosen."""

from __future__ import annotations

import math

import pytest

from memscale.config.recipe import Recipe, Tune
from memscale.errors import PlanError
from memscale.planning.recipes import Rates, at_width, choose, tuning_grid

RECIPE = Recipe(name="r", tune=Tune(learning_rates=(1e-2, 2e-3, 5e-3), table_factors=(4.0, 1.0)))


def test_the_grid_is_ordered_and_tables_have_rates_of_their_own() -> None:
    assert [rates.learning_rate for rates in tuning_grid(RECIPE, has_table=False)] == [2e-3, 5e-3, 1e-2]
    tables = [(rates.learning_rate, rates.table_learning_rate) for rates in tuning_grid(RECIPE, has_table=True)]
    assert tables == [(2e-3, 2e-3), (2e-3, 8e-3), (5e-3, 5e-3), (5e-3, 2e-2), (1e-2, 1e-2), (1e-2, 4e-2)]


def test_failed_and_diverged_trials_are_kept_but_not_chosen() -> None:
    grid = tuning_grid(RECIPE, has_table=False)
    choice = choose("dense", dict(zip(grid, [None, 2.0, math.nan], strict=True)))
    assert choice.rates == grid[1]
    assert [trial.loss for trial in choice.trials] == [None, 2.0, None]
    assert not choice.at_edge


@pytest.mark.parametrize(
    "losses, at_edge", [((1.0, 2.0, 3.0), True), ((3.0, 2.0, 1.0), True), ((3.0, 1.0, 2.0), False)]
)
def test_a_best_rate_at_the_edge_is_flagged(losses: tuple[float, ...], at_edge: bool) -> None:
    assert choose("dense", dict(zip(tuning_grid(RECIPE, has_table=False), losses, strict=True))).at_edge is at_edge


def test_the_tables_multiple_has_an_edge_of_its_own() -> None:
    recipe = Recipe(name="r", tune=Tune(learning_rates=(1e-3, 6e-3, 3e-2), table_factors=(0.5, 3.0, 4.0)))
    grid = tuning_grid(recipe, has_table=True)
    for best in grid:
        choice = choose("memory_plus", {rates: 1.0 if rates is best else 2.0 for rates in grid})
        inside = best.learning_rate == 6e-3 and best.table_learning_rate == 1.8e-2
        assert choice.at_edge is not inside


def test_rates_fall_with_width_as_the_recipe_says() -> None:
    tuned = Rates(learning_rate=5e-3, table_learning_rate=2e-2)
    wide = at_width(RECIPE, tuned, tuned_d_model=48, d_model=96)
    assert wide == Rates(learning_rate=2.5e-3, table_learning_rate=1e-2)
    assert at_width(RECIPE, tuned, tuned_d_model=48, d_model=48) == tuned
    flat = Recipe(name="r", tune=RECIPE.tune, width_exponent=0.0)
    assert at_width(flat, tuned, tuned_d_model=48, d_model=96) == tuned


def test_on_a_tie_the_lower_rate_wins_and_nothing_finite_is_refused() -> None:
    grid = tuning_grid(RECIPE, has_table=True)
    assert choose("memory_plus", dict.fromkeys(grid, 1.0)).rates == Rates(learning_rate=2e-3, table_learning_rate=2e-3)
    with pytest.raises(PlanError, match="no tuning run of memory_plus ended with a finite loss"):
        choose("memory_plus", dict.fromkeys(grid))
