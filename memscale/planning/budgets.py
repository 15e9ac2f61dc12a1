"""The dense baselines of a sweep: the model and the training tokens of every budget, ladder step and isoFLOP size.

Where sources are sized by budget, each baseline has data of its own (`memscale.planning.knowledge`). Refuses a budget
too small for one batch of its own model, and two budgets of one name. A size of an isoFLOP grid whose
nearest shape is that of its neighbour is dropped, with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from memscale.config.architecture import Architecture
from memscale.config.budget import Budget, IsoFlop, Ladder, Scale, Shapes
from memscale.config.data import Data, Facts
from memscale.config.recipe import FIXED
from memscale.config.sweep import Sweep
from memscale.errors import PlanError
from memscale.planning.accounting import TRAINING_PASSES, count
from memscale.planning.knowledge import data_of_budget, tokens_of_exposures
from memscale.planning.names import number_name
from memscale.planning.plan_size import refuse_too_many
from memscale.planning.rule_inputs import RuleInputs
from memscale.planning.rules import BATCH_RULES, batch_tokens, outside
from memscale.planning.shapes import budget_at_width, dense_architecture

_WIDEST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class DenseBaseline:
    """The dense model of a budget and how long it is trained; the other families are matched to it."""

    name: str
    """Name of the budget; part of run names."""
    flops: float
    """Training FLOPs of the budget, or those of the given tokens."""
    dense: Architecture
    tokens: int
    """A whole number of batches."""
    batch_tokens: int
    flops_per_token: float
    """Forward FLOPs per token of the dense model."""
    params_non_embedding: int
    """Of the dense model."""
    data: Data
    """What the budget's runs are trained on; the sweep's data unless a source is sized by budget."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A cell that the sweep names and the plan leaves out, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DenseBaselines:
    """The baselines of a sweep, and what was left out."""

    baselines: tuple[DenseBaseline, ...]
    """Sorted by training FLOPs, then by model size."""
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def dense_baselines(sweep: Sweep) -> DenseBaselines:
    """Return the dense model and the training tokens of every budget of `sweep`.

    1. A budget in FLOPs C gives D = C / (3 x forward FLOPs per token) tokens; one in tokens per parameter gives
       D = tokens_per_parameter x N, with N the non-embedding parameters; one in exposures gives
       D = exposures x facts x tokens per fact / share of the facts in the tokens.
    2. The batch is `scale.batch_tokens`, or that of the rule `recipe.batch`, rounded to whole sequences.
    3. D is rounded to whole batches.

    Raises:
        PlanError: The sweep has more runs than its limits allow, a budget buys less than one batch, two budgets have
            one name, or the batch rule is used outside the range it was fitted on.

    Example:
        >>> from memscale.config.load import load_sweep
        >>> sweep = load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop"]).sweep
        >>> [(one.name, one.dense.d_model, one.tokens) for one in dense_baselines(sweep).baselines]
        [('d24', 24, 583680), ('d32', 32, 1039872)]
    """
    refuse_too_many(sweep)
    scale, dropped = sweep.scale, list[Dropped]()
    budgets = list(scale.budgets)
    for ladder in scale.ladders:
        budgets += _ladder_budgets(ladder)
    for grid in scale.isoflops:
        for flops in grid.flops:
            points, without = _isoflop_points(grid, flops, scale, sweep.data.tokenizer.vocab_size)
            budgets += points
            dropped += without
    shared = Counter(_short_name(budget) for budget in budgets)
    notes: dict[str, None] = {}
    found = [_baseline(sweep, budget, shared[_short_name(budget)] > 1, notes) for budget in budgets]
    twice = [name for name, times in Counter(baseline.name for baseline in found).items() if times > 1]
    if twice:
        raise PlanError(
            f"scale: two budgets are called {twice[0]}. Give one of them another name, or remove it; "
            "budgets, ladders and isoflops add up"
        )
    found.sort(key=lambda baseline: (baseline.flops, baseline.flops_per_token, baseline.name))
    return DenseBaselines(baselines=tuple(found), dropped=tuple(dropped), notes=tuple(notes))


def _short_name(budget: Budget) -> str:
    if budget.name is not None:
        return budget.name
    lengths = (
        (budget.flops, ""), (budget.tokens, "tok"), (budget.tokens_per_parameter, "tpp"), (budget.exposures, "exp"),
    )  # fmt: skip
    name = next(f"{number_name(value)}{unit}" for value, unit in lengths if value is not None)
    bits = budget.bits_per_parameter
    return name if bits is None else f"{name}-{number_name(bits)}bpp"


def _baseline(sweep: Sweep, budget: Budget, name_shared: bool, notes: dict[str, None]) -> DenseBaseline:
    scale = sweep.scale
    dense = dense_architecture(budget, scale, sweep.data.tokenizer.vocab_size)
    counts = count(dense, scale.sequence_length)
    per_token = TRAINING_PASSES * counts.flops_per_token_forward
    name = _short_name(budget)
    if budget.name is None and (name_shared or budget.flops is None):
        name += f"-d{budget.d_model}-L{budget.num_layers}"
    data = data_of_budget(sweep.data, budget, counts.params_non_embedding, name)
    if budget.flops is not None:
        exact = budget.flops / per_token
    elif budget.tokens is not None:
        exact = budget.tokens
    elif budget.tokens_per_parameter is not None:
        exact = budget.tokens_per_parameter * counts.params_non_embedding
    else:
        assert budget.exposures is not None
        exact = tokens_of_exposures(data, budget.exposures, name)
    batch = _batch(sweep, dense, exact, per_token, notes)
    batches = round(exact / batch)
    if batches < 1:
        raise PlanError(
            f"scale: the budget {name} buys {exact:,.0f} tokens, less than one batch of {batch:,} tokens of the "
            f"dense model with d_model {budget.d_model} and {budget.num_layers} layers; one batch costs "
            f"{per_token * batch:.3g} FLOPs. Raise the budget, or make its shape or the batch smaller"
        )
    tokens = batches * batch
    return DenseBaseline(
        name=name,
        flops=budget.flops if budget.flops is not None else per_token * tokens,
        dense=dense,
        tokens=tokens,
        batch_tokens=batch,
        flops_per_token=counts.flops_per_token_forward,
        params_non_embedding=counts.params_non_embedding,
        data=data,
    )


def _batch(sweep: Sweep, dense: Architecture, tokens: float, per_token: float, notes: dict[str, None]) -> int:
    """Return the tokens of a batch: the scale's, or a rule's rounded to whole sequences."""
    rule, length = sweep.recipe.batch, sweep.scale.sequence_length
    if rule.rule == FIXED:
        return sweep.scale.batch_tokens
    inputs = RuleInputs(
        flops=per_token * tokens,
        params_non_embedding=count(dense, length).params_non_embedding,
        tokens=tokens,
        batch_tokens=sweep.scale.batch_tokens,
        sequence_length=length,
        d_model=dense.d_model,
        num_experts=1,
    )
    wanted = rule.multiplier * batch_tokens(rule.rule, inputs)
    reason = outside(BATCH_RULES[rule.rule], inputs)
    if reason is not None and not rule.allow_outside:
        raise PlanError(
            f"recipe.batch: {reason}. Set recipe.batch.allow_outside=true to use it all the same, or another rule"
        )
    if reason is not None:
        notes[f"batch rule outside its range: {reason}"] = None
    return max(1, round(wanted / length)) * length


def _ladder_budgets(ladder: Ladder) -> Iterator[Budget]:
    for d_model in ladder.d_models:
        yield budget_at_width(
            d_model,
            ladder.shapes,
            flops=ladder.flops,
            tokens=ladder.tokens,
            tokens_per_parameter=ladder.tokens_per_parameter,
            exposures=ladder.exposures,
            bits_per_parameter=ladder.bits_per_parameter,
        )


def _isoflop_points(grid: IsoFlop, flops: float, scale: Scale, vocab_size: int) -> tuple[list[Budget], list[Dropped]]:
    """Return the shapes whose non-embedding parameters are nearest, by ratio, to evenly spaced sizes around N*."""
    budgets: list[Budget] = []
    dropped: list[Dropped] = []
    half = grid.points // 2
    for point in range(-half, half + 1):
        wanted = _optimum(grid, flops) * grid.span ** (point / max(half, 1))
        d_model = _nearest_width(wanted, grid.shapes, scale, vocab_size)
        budget = budget_at_width(d_model, grid.shapes, flops=flops)
        cell = f"{number_name(flops)} FLOPs at {wanted:,.0f} parameters"
        counts = count(dense_architecture(budget, scale, vocab_size), scale.sequence_length)
        per_token = TRAINING_PASSES * counts.flops_per_token_forward
        if budgets and budgets[-1].d_model == d_model:
            dropped.append(
                Dropped(
                    name=cell,
                    reason=f"the nearest shape is d_model {d_model} again; the widths are multiples of the head width "
                    f"{grid.shapes.head_width}",
                )
            )
        elif flops / per_token < scale.batch_tokens / 2:
            dropped.append(Dropped(name=cell, reason=f"d_model {d_model} would see less than one batch of tokens"))
        else:
            budgets.append(budget)
    return budgets, dropped


def _optimum(grid: IsoFlop, flops: float) -> float:
    if grid.tokens_per_parameter is not None:
        return math.sqrt(flops / (6 * grid.tokens_per_parameter))
    assert grid.optimum_coefficient is not None
    assert grid.optimum_exponent is not None
    return float(grid.optimum_coefficient * flops**grid.optimum_exponent)


def _nearest_width(wanted: float, shapes: Shapes, scale: Scale, vocab_size: int) -> int:
    """Return the multiple of the head width whose parameters are nearest to `wanted`, by ratio."""

    def params(heads: int) -> int:
        budget = budget_at_width(heads * shapes.head_width, shapes, flops=1.0)
        return count(dense_architecture(budget, scale, vocab_size), scale.sequence_length).params_non_embedding

    low, high = 1, 2
    while params(high) < wanted and high * shapes.head_width < _WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if params(middle) < wanted else (low, middle)
    nearest = min((low, high), key=lambda heads: abs(math.log(params(heads) / wanted)))
    return nearest * shapes.head_width


def size_knowledge(sweep: Sweep) -> Sweep:
    """Return the sweep with `num_people` filled in for every `facts` source that leaves it null.

    num_people = bits_per_parameter x N / bits per person, with N the non-embedding parameters of the smallest dense
    model. Raises PlanError where that gives fewer than 10 people.
    """
    unsized = [source for source in sweep.data.sources if isinstance(source, Facts) and source.num_people is None]
    if not unsized:
        return sweep
    params = dense_baselines(sweep).baselines[0].params_non_embedding
    sources = []
    for source in sweep.data.sources:
        if isinstance(source, Facts) and source.num_people is None:
            people = round(source.bits_per_parameter * params / source.bits_per_person)
            if people < 10:
                raise PlanError(
                    f"data.sources.{source.name}: {source.bits_per_parameter:g} bits for each of {params:,} dense "
                    f"parameters make {people} people; at least 10 are needed. Raise bits_per_parameter"
                )
            source = replace(source, num_people=people)
        sources.append(source)
    return replace(sweep, data=replace(sweep.data, sources=tuple(sources)))
