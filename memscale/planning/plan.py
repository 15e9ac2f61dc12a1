"""The plan of a sweep: a pure function of its configuration and the digests of its data.

1. The stages of tuning (`memscale.planning.tuning`) train rates for each family at the smallest budget, or a named one.
2. Each family's rates are chosen by `TUNING_RULE`.
3. Stage `compare` trains every series at every budget and seed with these rates, scaled by width.

What later stages train follows from the results of earlier ones, so their runs have no rates and no run id until they
open (`memscale.planning.opening`). Where a rule gives the learning rates nothing is tuned. The plan hash covers all
stages and the rule between them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from memscale.config.architecture import Architecture
from memscale.config.recipe import FIXED, TUNED
from memscale.config.run import BudgetDigests, Digests
from memscale.config.sweep import Sweep
from memscale.errors import ConfigError, PlanError
from memscale.planning import identity
from memscale.planning.accounting import TRAINING_PASSES, count
from memscale.planning.budgets import DenseBaseline, Dropped, dense_baselines
from memscale.planning.cells import cells
from memscale.planning.choices import Choice, Selection
from memscale.planning.matrices import muon_flops
from memscale.planning.planned_runs import (
    PlanDigests,
    PlannedRun,
    RunBuilder,
    SeriesAtBudget,
    SeriesMatcher,
    digests_of,
)
from memscale.planning.recipes import by_rule
from memscale.planning.rule_inputs import RuleInputs
from memscale.planning.rules import BATCH_RULES, LEARNING_RATE_RULES
from memscale.planning.tuning import (
    COMPARE,
    TUNE,
    Rates,
    first_grid,
    is_tuning,
    points_of_rounds,
    seeds_of_round,
    stage_of_round,
    stages,
)  # fmt: skip

TUNING_RULE = (
    "successive halving per family: lowest mean mixture validation loss of the last round, the lower rate on a tie; "
    "the grid of round 1 is extended where its best point lies at an edge"
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The ordered runs of a sweep."""

    sweep: Sweep
    digests: PlanDigests
    plan_hash: str
    baselines: tuple[DenseBaseline, ...]
    """Dense model and data of every budget, the smallest first; the tokenizer is trained on the data of the first."""
    runs: tuple[PlannedRun, ...]
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    """Rules that were used for rates and batch, and whether outside the range they were fitted on."""
    choices: tuple[Choice, ...] = ()
    """Tuned rates; empty until the compare stage opens, and where nothing is tuned."""
    selections: tuple[Selection, ...] = ()
    """What the stages of tuning train that have opened after the first one: one for each stage and family."""

    @property
    def is_open(self) -> bool:
        """Whether every run has its learning rates and therefore its run id."""
        return all(run.run is not None for run in self.runs)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages in their order; the compare stage is the last one."""
        return stages(self.sweep.recipe)

    @property
    def next_stage(self) -> str | None:
        """The first stage that has not opened; None where all have."""
        opened = {*(selection.stage for selection in self.selections), TUNE, *((COMPARE,) if self.is_open else ())}
        return next((stage for stage in self.stages if stage not in opened), None)

    def stage(self, name: str) -> tuple[PlannedRun, ...]:
        """Return the runs of a stage, in order; those of an extension once it is open."""
        return tuple(run for run in self.runs if run.stage == name)

    @cached_property
    def by_budget(self) -> dict[str, DenseBaseline]:
        """The baselines by the name of their budget."""
        return {baseline.name: baseline for baseline in self.baselines}

    def digests_of(self, budget: str) -> Digests:
        """Return the digests of the data of a budget."""
        return digests_of(self.digests, budget)


def make_plan(sweep: Sweep, digests: PlanDigests) -> Plan:
    """Plan a sweep.

    Args:
        sweep: The configuration, with every `facts` source sized (`memscale.planning.budgets.size_knowledge`).
        digests: SHA-256 of data, tokenizer and evaluation sets (`memscale.data.fingerprint.fingerprint`): one for all
            budgets, or by the budget's name where a source is sized by budget.

    Returns:
        The plan. Equal arguments give an equal plan with the same hash.

    Raises:
        ConfigError: The configuration contradicts itself.
        PlanError: No plan meets its terms, or two runs are the same experiment.

    Example:
        >>> from memscale.config.load import load_sweep
        >>> from memscale.planning.budgets import size_knowledge
        >>> sweep = size_knowledge(load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop"]).sweep)
        >>> plan = make_plan(sweep, Digests(data="d", tokenizer="t", evaluation="e"))
        >>> len(plan.stage("tune")), len(plan.stage("compare")), plan.is_open
        (9, 18, False)
        >>> run = plan.stage("compare")[-1]
        >>> run.name, run.counts.params_total, f"{run.flops_mismatch:+.2%}"
        ('memory_plus-d32-s2', 388800, '-0.29%')
    """
    return _Planner(sweep, digests).plan()


class _Planner:
    def __init__(self, sweep: Sweep, digests: PlanDigests) -> None:
        self._sweep, self._digests = sweep, digests
        self._builder = RunBuilder(sweep, digests)
        self._matcher = SeriesMatcher(sweep)
        self._notes: dict[str, None] = {}

    def plan(self) -> Plan:
        sweep = self._sweep
        found = dense_baselines(sweep)
        planned_cells = cells(sweep, found.baselines)
        rows = [
            row
            for baseline in found.baselines
            for row in self._matcher.at(baseline, planned_cells.by_budget[baseline.name])
        ]  # fmt: skip
        if not rows:
            raise PlanError(f"the sweep {sweep.name} plans no run at all: every cell was dropped")
        tuned = sweep.recipe.learning_rate.rule == TUNED
        runs = self._tuning_runs(self._to_tune(rows)) if tuned else []
        runs += [run for row in rows for run in self._compare_runs(row, tuned)]
        _refuse_same_names(runs)
        refuse_duplicates(runs, self._digests)
        return Plan(
            sweep=sweep,
            digests=self._digests,
            plan_hash=self._hash(runs),
            baselines=found.baselines,
            runs=tuple(runs),
            dropped=(*found.dropped, *planned_cells.dropped),
            notes=(*self._rule_notes(), *_muon_note(sweep, rows), *found.notes, *self._notes),
        )

    def _to_tune(self, rows: Sequence[SeriesAtBudget]) -> list[SeriesAtBudget]:
        """Return for each family the first series at the budget to tune at; of several sizes there, the middle one."""
        at = self._sweep.recipe.tune.budget
        first: dict[str, list[SeriesAtBudget]] = {}
        for row in rows:
            if at not in (None, row.baseline.name):
                continue
            known = first.setdefault(row.series.family_name, [])
            if not known or (
                known[0].baseline.flops == row.baseline.flops and known[0].series.label == row.series.label
            ):
                known.append(row)
        if missing := {row.series.family_name: None for row in rows if row.series.family_name not in first}:
            budgets = ", ".join({row.baseline.name: None for row in rows})
            raise ConfigError(
                f"recipe.tune.budget is '{at}', where the sweep has no run of {', '.join(missing)}; its budgets are "
                f"{budgets}. Name one that every family is trained at, or null for each family's smallest."
            )
        return [known[len(known) // 2] for known in first.values()]

    def _tuning_runs(self, rows: Sequence[SeriesAtBudget]) -> list[PlannedRun]:
        """Return the runs of round 1, and those of later rounds, whose rates are not known yet."""
        recipe, runs = self._sweep.recipe, list[PlannedRun]()
        for row in rows:
            grid = first_grid(recipe, has_table=row.planned.architecture.has_table)
            runs += self._builder.tuning(row.planned, TUNE, grid.points())
        for number, num_points in enumerate(points_of_rounds(recipe)[1:], start=2):
            stage = stage_of_round(number)
            for row in rows:
                for place in range(1, num_points + 1):
                    for seed in seeds_of_round(recipe, number):
                        name = f"{stage}-{row.planned.name}-best{place}-s{seed}"
                        runs.append(replace(row.planned, name=name, stage=stage, seed=seed))
        return runs

    def _compare_runs(self, row: SeriesAtBudget, tuned: bool) -> Iterator[PlannedRun]:
        rates = None if tuned else self._by_rule(row)
        for seed in row.seeds:
            name = f"{row.planned.name}-s{seed}"
            if rates is None:
                yield replace(row.planned, seed=seed, name=name)
            else:
                yield self._builder.complete(row.planned, rates, seed=seed, name=name)

    def _by_rule(self, row: SeriesAtBudget) -> Rates:
        baseline, architecture = row.baseline, row.planned.architecture
        length = self._sweep.scale.sequence_length
        inputs = RuleInputs(
            flops=TRAINING_PASSES * baseline.flops_per_token * baseline.tokens,
            params_non_embedding=count(baseline.dense, length).params_non_embedding,
            tokens=baseline.tokens,
            batch_tokens=baseline.batch_tokens,
            sequence_length=length,
            d_model=architecture.d_model,
            num_experts=architecture.moe.num_experts if architecture.moe is not None else 1,
        )
        rates, note = by_rule(self._sweep.recipe, row.series.family_name, inputs, has_table=architecture.has_table)
        if note is not None:
            self._notes[f"learning rate outside its range at {baseline.name}: {note}"] = None
        return rates

    def _rule_notes(self) -> Iterator[str]:
        recipe = self._sweep.recipe
        named = LEARNING_RATE_RULES.get(recipe.learning_rate.rule)
        if named is not None:
            yield f"learning rate by the rule {named.name}: {named.formula} ({named.source})"
        if recipe.batch.rule != FIXED:
            rule = BATCH_RULES[recipe.batch.rule]
            yield f"batch by the rule {rule.name}: {rule.formula} ({rule.source})"

    def _hash(self, runs: Sequence[PlannedRun]) -> str:
        """Hash everything that decides what is trained: the rule between the stages, and each run's content."""
        parts = self._builder.identities
        head: dict[str, Any] = {"rule": TUNING_RULE, "sweep": self._sweep.name, "recipe": self._sweep.recipe}
        if isinstance(self._digests, Digests):
            head["digests"] = self._digests
        else:
            named = sorted(self._digests.items())
            head["digests"] = [BudgetDigests(budget=name, digests=digests) for name, digests in named]
        hasher = hashlib.sha256(identity.canonical(head).encode())
        for run in runs:
            row = [run.name, run.stage, run.series, run.seed, run.tokens, run.batch_tokens, run.run_id]
            hasher.update(json.dumps(row).encode())
            hasher.update(parts.part(run.architecture).encode())
        return hasher.hexdigest()[:12]


def _muon_note(sweep: Sweep, rows: Sequence[SeriesAtBudget]) -> Iterator[str]:
    """Say what Muon costs beside the model FLOPs, which are what is held equal."""
    if sweep.recipe.matrix_optimizer != "muon":
        return
    shares = [(100 * _muon_share(row.planned), row.planned) for row in rows]
    least, most = min(shares, key=lambda one: one[0]), max(shares, key=lambda one: one[0])
    yield (
        f"Muon costs {least[0]:.3g} % ({least[1].series} at {least[1].budget}) to {most[0]:.3g} % ({most[1].series} at "
        f"{most[1].budget}) of the training FLOPs of a batch on top; these are no model FLOPs, and nothing holds them "
        "equal"
    )


def _muon_share(planned: PlannedRun) -> float:
    """Muon's FLOPs of a step over the training FLOPs of its batch."""
    per_token = TRAINING_PASSES * planned.counts.flops_per_token_forward
    return muon_flops(planned.architecture) / (per_token * planned.batch_tokens)


def _refuse_same_names(runs: Sequence[PlannedRun]) -> None:
    seen: set[str] = set()
    for run in runs:
        if run.name in seen:
            raise PlanError(
                f"two runs of the plan are called {run.name}. Give one of the families or budgets another name"
            )
        seen.add(run.name)


def refuse_duplicates(runs: Sequence[PlannedRun], digests: PlanDigests) -> None:
    """Raise PlanError where two runs are, or will be once their rates are chosen, the same experiment."""
    identity.refuse_duplicates((run.name, run.run_id, run.run) for run in runs if run.run is not None and run.run_id)
    seen: dict[tuple[Architecture, Digests, int, int, int], str] = {}
    for run in runs:
        if run.run is None and not is_tuning(run.stage):
            data = digests_of(digests, run.budget)
            key = (run.architecture, data, run.tokens, run.batch_tokens, run.seed)
            if key in seen:
                raise PlanError(
                    f"the runs '{seen[key]}' and '{run.name}' train the same model on the same tokens from the same "
                    f"seed ({run.architecture}). Look for a setting that repeats a default"
                )
            seen[key] = run.name
