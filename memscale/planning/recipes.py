"""From rates to an optimizer: tuned rates scaled to another width, or the value of a named rule.

At another width a tuned rate is multiplied by (tuned d_model / d_model)^width_exponent; 1 is the rule for hidden
matrices under Adam (Yang et al. 2022, "Tensor Programs V"). How rates are tuned: `memscale.planning.tuning`.
"""

from __future__ import annotations

from memscale.config.optimizer import Optimizer
from memscale.config.recipe import FIXED, Recipe
from memscale.errors import PlanError
from memscale.planning.rule_inputs import RuleInputs
from memscale.planning.rules import LEARNING_RATE_RULES, learning_rate, outside
from memscale.planning.tuning import Rates, rounded


def optimizer(recipe: Recipe, rates: Rates) -> Optimizer:
    """Return the optimizer of `recipe` with these learning rates; without a table nothing is clipped apart."""
    return Optimizer(
        learning_rate=rates.learning_rate,
        table_learning_rate=rates.table_learning_rate,
        beta1=recipe.beta1,
        beta2=recipe.beta2,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        table_weight_decay=recipe.table_weight_decay,
        table_optimizer=recipe.table_optimizer,
        table_storage=recipe.table_storage,
        clip_norm=recipe.clip_norm,
        matrix_optimizer=recipe.matrix_optimizer,
        clipping=recipe.clipping if rates.table_learning_rate is not None else "together",
    )


def at_width(recipe: Recipe, rates: Rates, *, tuned_d_model: int, d_model: int) -> Rates:
    """Scale rates tuned at `tuned_d_model` to a model of width `d_model`, to 12 significant digits.

    rate x (tuned_d_model / d_model)^width_exponent, for the model and its tables.
    """
    scale = (tuned_d_model / d_model) ** recipe.width_exponent
    table = rates.table_learning_rate
    return Rates(
        learning_rate=rounded(rates.learning_rate * scale),
        table_learning_rate=rounded(table * scale) if table is not None else None,
    )


def by_rule(recipe: Recipe, family_name: str, inputs: RuleInputs, *, has_table: bool) -> tuple[Rates, str | None]:
    """Return the rates that the recipe's rule gives, and a note where it is used outside its range, else None.

    Raises:
        ConfigError: The rule is unknown.
        PlanError: The inputs are outside the range of the rule, and `allow_outside` is not set.
    """
    rule = recipe.learning_rate
    note = None
    if rule.rule == FIXED:
        assert rule.value is not None
        rate = rule.value
    else:
        rate = learning_rate(rule.rule, inputs)
        note = outside(LEARNING_RATE_RULES[rule.rule], inputs)
        if note is not None and not rule.allow_outside:
            raise PlanError(
                f"recipe.learning_rate: {note}. Set recipe.learning_rate.allow_outside=true to use it all the same, "
                "or another rule"
            )
    factor = next((one.value for one in rule.multipliers if one.name == family_name), 1.0)
    rate = rounded(rate * rule.multiplier * factor)
    table = rounded(rate * rule.table_factor) if has_table else None
    return Rates(learning_rate=rate, table_learning_rate=table), note
