"""The plan of a sweep: a pure function of the YAML and the digests of its data.

Two stages: `tune` tries the learning rates of every family at the smallest budget; `compare` trains every family at
every budget and seed with the rates chosen from tuning, scaled by width. The hash covers both stages and the rule
between them; the identities of the second stage are fixed when it opens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memscale.config.architecture import Architecture
from memscale.config.run import Digests, Run
from memscale.config.sweep import Budget, Scale, Sweep
from memscale.planning import identity
from memscale.planning.accounting import TRAINING_PASSES, Counts, count
from memscale.planning.budgets import dense_anchors, tokens_for
from memscale.planning.matching import match
from memscale.planning.recipes import Choice, Rates, at_width, choose, optimizer, tuning_grid

STAGES = ("tune", "compare")
RULE = "lowest mixture validation loss of the tune stage, per family; the lower rate on a tie"


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run and its place in the plan; `run` is None while its learning rate awaits an earlier stage."""

    name: str
    stage: str
    family: str
    budget_flops: float
    seed: int
    architecture: Architecture
    counts: Counts
    tokens: int
    flops_train: float
    flops_off: float
    """FLOPs per token against the dense model of the budget, relative."""
    params_off: float | None
    """Total parameters against the other sparse models of the budget, relative to their mean; None for dense."""
    run: Run | None

    @property
    def run_id(self) -> str | None:
        return identity.run_id(self.run) if self.run is not None else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The ordered runs of a sweep."""

    sweep: Sweep
    digests: Digests
    plan_hash: str
    runs: tuple[PlannedRun, ...]
    choices: tuple[Choice, ...] = ()
    """Empty until the compare stage is open."""

    def stage(self, name: str) -> tuple[PlannedRun, ...]:
        return tuple(run for run in self.runs if run.stage == name)


def make_plan(sweep: Sweep, digests: Digests) -> Plan:
    """Plan `sweep`, whose data has `digests`. Raises PlanError where no plan meets what it asks for."""
    runs: list[PlannedRun] = []
    for position, (budget, dense) in enumerate(dense_anchors(sweep)):
        matched = match(dense, sweep.families, sweep.matching, sweep.scale.sequence_length)
        tokens = tokens_for(budget, dense, sweep.scale)
        rows = [_row(sweep.scale, budget, dense, matched, family.family, tokens) for family in sweep.families]
        if position == 0:
            runs += [tuned for row in rows for tuned in _tuning_runs(sweep, digests, row)]
        runs += [replace(row, seed=seed, name=f"{row.name}-s{seed}") for row in rows for seed in sweep.scale.seeds]
    content = {"rule": RULE, "sweep": sweep.name, "digests": digests, "recipe": sweep.recipe, "runs": runs}
    plan = Plan(sweep=sweep, digests=digests, plan_hash=identity.digest(content)[:12], runs=tuple(runs))
    identity.refuse_twins((run.name, run.run) for run in runs if run.run is not None)
    return plan


def choose_rates(plan: Plan, losses: Mapping[str, float | None]) -> tuple[Choice, ...]:
    """Each family's rates from the tune stage; `losses` maps its run ids to validation losses (None: failed)."""
    choices = []
    for family in plan.sweep.families:
        trials = {
            Rates(
                learning_rate=run.run.optimizer.learning_rate,
                table_learning_rate=run.run.optimizer.table_learning_rate,
            ): losses[identity.run_id(run.run)]
            for run in plan.stage("tune")
            if run.family == family.family and run.run is not None
        }
        choices.append(choose(family.family, trials))
    return tuple(choices)


def open_compare(plan: Plan, choices: Sequence[Choice]) -> Plan:
    """Fix the runs of the compare stage with the chosen rates."""
    chosen = {choice.family: choice.rates for choice in choices}
    tuned_d_model = {run.family: run.architecture.d_model for run in plan.stage("tune")}
    opened = []
    for run in plan.runs:
        if run.stage == "compare":
            rates = at_width(
                plan.sweep.recipe,
                chosen[run.family],
                tuned_d_model=tuned_d_model[run.family],
                d_model=run.architecture.d_model,
            )
            run = replace(run, run=_run(plan.sweep, plan.digests, run, rates))
        opened.append(run)
    identity.refuse_twins((run.name, run.run) for run in opened if run.run is not None)
    return replace(plan, runs=tuple(opened), choices=tuple(choices))


def _row(
    scale: Scale, budget: Budget, dense: Architecture, matched: Mapping[str, Architecture], family: str, tokens: int
) -> PlannedRun:
    """A compare run of `family` without its seed."""
    architecture = matched[family]
    counted = {name: count(one, scale.sequence_length) for name, one in matched.items()}
    sparse = [counts.params_total for name, counts in counted.items() if name != "dense"]
    dense_flops = count(dense, scale.sequence_length).flops_per_token_forward
    counts = counted[family]
    return PlannedRun(
        name=f"{family}-{number_name(budget.flops)}",
        stage="compare",
        family=family,
        budget_flops=budget.flops,
        seed=0,
        architecture=architecture,
        counts=counts,
        tokens=tokens,
        flops_train=TRAINING_PASSES * counts.flops_per_token_forward * tokens,
        flops_off=counts.flops_per_token_forward / dense_flops - 1,
        params_off=None if family == "dense" else counts.params_total * len(sparse) / sum(sparse) - 1,
        run=None,
    )


def _tuning_runs(sweep: Sweep, digests: Digests, row: PlannedRun) -> list[PlannedRun]:
    runs = []
    for rates in tuning_grid(sweep.recipe, has_table=row.architecture.memory is not None):
        name = f"tune-{row.name}-lr{number_name(rates.learning_rate)}"
        if rates.table_learning_rate is not None:
            name += f"-table{number_name(rates.table_learning_rate)}"
        tuned = replace(row, name=name, stage="tune", seed=sweep.recipe.tune_seed)
        runs.append(replace(tuned, run=_run(sweep, digests, tuned, rates)))
    return runs


def _run(sweep: Sweep, digests: Digests, planned: PlannedRun, rates: Rates) -> Run:
    return Run(
        architecture=planned.architecture,
        optimizer=optimizer(sweep.recipe, rates),
        schedule=sweep.recipe.schedule,
        tokens=planned.tokens,
        batch_tokens=sweep.scale.batch_tokens,
        sequence_length=sweep.scale.sequence_length,
        seed=planned.seed,
        validations=sweep.evaluate.validations,
        digests=digests,
    )


def number_name(value: float) -> str:
    """A number for a name, with every digit it has: 4e11, 2.15e18, 0.005. Two values never share one."""
    if value < 1e5:
        return repr(value).removesuffix(".0")
    short = next(text for text in (f"{value:.{digits}e}" for digits in range(18)) if float(text) == value)
    mantissa, exponent = short.split("e")
    return f"{mantissa}e{int(exponent)}"
