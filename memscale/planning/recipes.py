"""Learning rates: what is tried for each family and how the best is chosen, or what a named rule says.

Tuned, by one rule for all families: at the smallest budget, on a seed of its own, every rate of the grid (and for
families with a table every multiple of it) is trained; the lowest validation loss of the mixture wins, the lower rate
on a tie.
A choice at the edge of its grid is flagged, for then a better one may lie outside.
The chosen rates hold at the width they were tuned at; at another one they are scaled by (tuned width / width) to the
recipe's `width_exponent`. 1 is the rule for matrices under Adam (Yang et al. 2022, "Tensor Programs V").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memscale.config.optimizer import Optimizer
from memscale.config.recipe import FIXED, Recipe
from memscale.errors import PlanError
from memscale.planning.rules import LEARNING_RATE_RULES, RuleInputs, learning_rate, outside


@dataclass(frozen=True, kw_only=True, order=True)
class Rates:
    """Peak learning rates of the model and, where it has one, of its table."""

    learning_rate: float
    table_learning_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point of a tuning grid and what it reached: nats per token, or None where it failed or diverged."""

    rates: Rates
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The rates a family is compared with, and why."""

    family_name: str
    """The family's name in the sweep."""
    rates: Rates
    at_edge: bool
    """The learning rate, or the table's multiple of it, is the lowest or the highest that was tried."""
    trials: tuple[Trial, ...]


def tuning_grid(recipe: Recipe, *, has_table: bool) -> list[Rates]:
    """Every point to try, in increasing order."""
    if not has_table:
        return [Rates(learning_rate=rate) for rate in sorted(recipe.tune.learning_rates)]
    return [
        Rates(learning_rate=rate, table_learning_rate=_rounded(rate * factor))
        for rate in sorted(recipe.tune.learning_rates)
        for factor in sorted(recipe.tune.table_factors)
    ]


def optimizer(recipe: Recipe, rates: Rates) -> Optimizer:
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
    """The rates for a model of width `d_model`, from those tuned at `tuned_d_model`; to 12 significant digits."""
    scale = (tuned_d_model / d_model) ** recipe.width_exponent
    table = rates.table_learning_rate
    return Rates(
        learning_rate=_rounded(rates.learning_rate * scale),
        table_learning_rate=_rounded(table * scale) if table is not None else None,
    )


def by_rule(recipe: Recipe, family_name: str, inputs: RuleInputs, *, has_table: bool) -> tuple[Rates, str | None]:
    """The rates that the recipe's rule gives, and what to say of a rule used outside its range, or None.

    Raises PlanError outside the range where `allow_outside` is not set, and ConfigError for an unknown rule.
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
    """Choose the rates with the lowest loss. Raises PlanError where no trial has a finite loss."""
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
    """The table's rate as a multiple of the model's, without the noise of the division; 0 without a table."""
    return float(f"{(rates.table_learning_rate or 0.0) / rates.learning_rate:.9g}")


def _is_edge(value: float, tried: Sequence[float]) -> bool:
    return len(set(tried)) > 1 and value in (min(tried), max(tried))


def _rounded(value: float) -> float:
    """Products such as 0.006 x 3 without the noise of their last digits, which would stand in names."""
    return float(f"{value:.12g}")


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None


def _order(rates: Rates) -> tuple[float, float]:
    return (rates.learning_rate, rates.table_learning_rate or 0.0)
