"""Learning rates: the tuning grid of each family and the choice from it, or the value of a named rule.

Tuned, in the same way for every family:

1. At the smallest budget and the seed `tune_seed`, every learning rate of the grid is trained; for families with a
   memory table, with every multiple of it as the table's rate.
2. The lowest validation loss of the mixture wins, the lower rate on a tie. A choice at the edge of the grid is flagged,
   since a better rate may lie outside.
3. At another width the rate is multiplied by (tuned d_model / d_model)^width_exponent; 1 is the rule for hidden
   matrices under Adam (Yang et al. 2022, "Tensor Programs V").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memscale.config.optimizer import Optimizer
from memscale.config.recipe import FIXED, Recipe
from memscale.errors import PlanError
from memscale.planning.rule_inputs import RuleInputs
from memscale.planning.rules import LEARNING_RATE_RULES, learning_rate, outside


@dataclass(frozen=True, kw_only=True, order=True)
class Rates:
    """Peak learning rates of the model and of its memory tables, if it has any."""

    learning_rate: float
    table_learning_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point of a tuning grid and its validation loss in nats per token; None where it failed or diverged."""

    rates: Rates
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen rates of a family, and the trials that they were chosen from."""

    family_name: str
    """The family's name in the sweep."""
    rates: Rates
    at_edge: bool
    """Whether the learning rate or the table's multiple of it is the lowest or highest that was tried."""
    trials: tuple[Trial, ...]


def tuning_grid(recipe: Recipe, *, has_table: bool) -> list[Rates]:
    """Return every point of the tuning grid, in increasing order."""
    if not has_table:
        return [Rates(learning_rate=rate) for rate in sorted(recipe.tune.learning_rates)]
    return [
        Rates(learning_rate=rate, table_learning_rate=_rounded(rate * factor))
        for rate in sorted(recipe.tune.learning_rates)
        for factor in sorted(recipe.tune.table_factors)
    ]


def optimizer(recipe: Recipe, rates: Rates) -> Optimizer:
    """Return the optimizer of `recipe` with these learning rates."""
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
    )


def at_width(recipe: Recipe, rates: Rates, *, tuned_d_model: int, d_model: int) -> Rates:
    """Scale rates tuned at `tuned_d_model` to a model of width `d_model`, to 12 significant digits.

    rate x (tuned_d_model / d_model)^width_exponent, for the model and its tables.
    """
    scale = (tuned_d_model / d_model) ** recipe.width_exponent
    table = rates.table_learning_rate
    return Rates(
        learning_rate=_rounded(rates.learning_rate * scale),
        table_learning_rate=_rounded(table * scale) if table is not None else None,
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
    rate = _rounded(rate * rule.multiplier * factor)
    table = _rounded(rate * rule.table_factor) if has_table else None
    return Rates(learning_rate=rate, table_learning_rate=table), note


def choose(family_name: str, losses: Mapping[Rates, float | None]) -> Choice:
    """Choose the rates with the lowest loss, the lower rate on a tie.

    Raises PlanError where no trial has a finite loss.

    Example:
        >>> losses = {Rates(learning_rate=0.005): 3.1, Rates(learning_rate=0.012): 2.9, Rates(learning_rate=0.03): None}
        >>> choice = choose("dense", losses)
        >>> choice.rates.learning_rate, choice.at_edge
        (0.012, False)
    """
    trials = tuple(Trial(rates=rates, loss=_finite(losses[rates])) for rates in sorted(losses, key=_order))
    finished = [trial for trial in trials if trial.loss is not None]
    if not finished:
        raise PlanError(
            f"no tuning run of {family_name} ended with a finite loss, so its learning rate cannot be chosen. "
            "Look at their logs, and give recipe.tune.learning_rates lower values"
        )
    best = min(finished, key=lambda trial: (trial.loss, _order(trial.rates)))
    at_edge = any(
        _is_edge(measure(best.rates), [measure(trial.rates) for trial in trials])
        for measure in (lambda rates: rates.learning_rate, _table_factor)
    )
    return Choice(family_name=family_name, rates=best.rates, at_edge=at_edge, trials=trials)


def _table_factor(rates: Rates) -> float:
    """Return the table's rate as a multiple of the model's, to 9 digits; 0 without a table."""
    return float(f"{(rates.table_learning_rate or 0.0) / rates.learning_rate:.9g}")


def _is_edge(value: float, tried: Sequence[float]) -> bool:
    return len(set(tried)) > 1 and value in (min(tried), max(tried))


def _rounded(value: float) -> float:
    """Round to 12 significant digits, so that products such as 0.006 x 3 have short names."""
    return float(f"{value:.12g}")


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _order(rates: Rates) -> tuple[float, float]:
    return (rates.learning_rate, rates.table_learning_rate or 0.0)
