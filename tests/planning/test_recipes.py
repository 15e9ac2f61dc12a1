"""Tuned rates at another width."""

from __future__ import annotations

from memscale.config.recipe import Recipe, Tune
from memscale.planning.recipes import at_width
from memscale.planning.tuning import Rates

RECIPE = Recipe(name="r", tune=Tune(learning_rates=(1e-2, 2e-3, 5e-3), table_factors=(4.0, 1.0)))


def test_rates_fall_with_width_as_the_recipe_says() -> None:
    tuned = Rates(learning_rate=5e-3, table_learning_rate=2e-2)
    wide = at_width(RECIPE, tuned, tuned_d_model=48, d_model=96)
    assert wide == Rates(learning_rate=2.5e-3, table_learning_rate=1e-2)
    assert at_width(RECIPE, tuned, tuned_d_model=48, d_model=48) == tuned
    flat = Recipe(name="r", tune=RECIPE.tune, width_exponent=0.0)
    assert at_width(flat, tuned, tuned_d_model=48, d_model=96) == tuned
