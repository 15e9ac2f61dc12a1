"""Opens the stages of a plan: what a later stage trains, from the results of the ones before.

`open_next` decides from losses; `opened_as` follows what an earlier call decided, as a plan file keeps it. Both are
pure: the same plan and results give the same runs. Refuses to open a stage where a family has no tuning run to choose
from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memscale.planning.choices import Choice, Selection, Trial, best_points, beyond_edge, choose, noise_of
from memscale.planning.plan import Plan, refuse_duplicates
from memscale.planning.planned_runs import PlannedRun, RunBuilder
from memscale.planning.recipes import at_width
from memscale.planning.tuning import (
    COMPARE,
    EXTENDED,
    TUNE,
    Rates,
    grid_of,
    is_tuning,
    points_of_rounds,
    round_of_stage,
)


def open_next(plan: Plan, losses: Mapping[str, float | None]) -> Plan:
    """Return the plan with its next stage open; the stages before it have ended.

    Args:
        plan: The plan.
        losses: Validation loss of the mixture in nats per token by run id, of every tuning run of the open stages;
            None: failed or diverged.

    Returns:
        The plan with the runs of the next stage, each with its rates and run id. An extension of the grid that no
        family needs is open without runs. The plan itself where all stages are open.

    Raises:
        PlanError: No run of a family ended with a finite loss.

    Example:
        >>> from memscale.config.load import load_sweep
        >>> from memscale.config.run import Digests
        >>> from memscale.planning.budgets import size_knowledge
        >>> from memscale.planning.plan import make_plan
        >>> sweep = size_knowledge(load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop"]).sweep)
        >>> plan = make_plan(sweep, Digests(data="d", tokenizer="t", evaluation="e"))
        >>> while plan.next_stage is not None:
        ...     tuned = [run for run in plan.runs if run.run is not None]
        ...     plan = open_next(plan, {run.run_id: abs(run.run.optimizer.learning_rate - 0.01) for run in tuned})
        >>> [(choice.family_name, choice.rates.learning_rate) for choice in plan.choices]
        [('dense', 0.0075), ('moe', 0.0075), ('memory_plus', 0.0075)]
    """
    stage = plan.next_stage
    if stage is None:
        return plan
    trials = trials_of(plan, losses)
    if stage == COMPARE:
        return _compared(plan, choose_rates(plan, losses))
    selections = [Selection(stage=stage, family_name=name, points=_points(plan, stage, name, found))
                  for name, found in trials.items()]  # fmt: skip
    return _tuned(plan, selections)


def opened_as(plan: Plan, selections: Sequence[Selection], choices: Sequence[Choice]) -> Plan:
    """Return the plan with the stages open that an earlier `open_next` opened.

    Args:
        plan: The plan as it was made.
        selections: What the stages of tuning train that were open; of a stage that is not the plan's nothing is taken.
        choices: The chosen rates; empty where the compare stage was not open.
    """
    while (stage := plan.next_stage) is not None and stage != COMPARE:
        found = [selection for selection in selections if selection.stage == stage]
        if not found:
            return plan
        plan = _tuned(plan, found)
    return _compared(plan, choices) if choices and plan.next_stage == COMPARE else plan


def trials_of(plan: Plan, losses: Mapping[str, float | None]) -> dict[str, list[Trial]]:
    """Return the tuning runs of the open stages, with their losses, by the family's name."""
    trials: dict[str, list[Trial]] = {}
    for run in plan.runs:
        if is_tuning(run.stage) and run.run_id is not None:
            trial = Trial(rates=_rates(run), stage=run.stage, seed=run.seed, loss=losses[run.run_id])
            trials.setdefault(run.family_name, []).append(trial)
    return trials


def choose_rates(plan: Plan, losses: Mapping[str, float | None]) -> tuple[Choice, ...]:
    """Choose the learning rates of every family by the results of all stages of tuning, as `open_next` does.

    Args:
        plan: The plan, whose stages of tuning have ended.
        losses: Validation loss of the mixture in nats per token by run id; None: failed or diverged.

    Raises:
        PlanError: No run of a family ended with a finite loss.
    """
    recipe, found = plan.sweep.recipe, trials_of(plan, losses)
    noise_std = noise_of(found.values()) if recipe.tune.choice == "one_standard_error" else 0.0
    return tuple(
        choose(name, grid_of(recipe, _first_round(trials)), trials, noise_std) for name, trials in found.items()
    )


def _points(plan: Plan, stage: str, family_name: str, trials: Sequence[Trial]) -> tuple[Rates, ...]:
    """Return the points of a family that a stage trains."""
    recipe = plan.sweep.recipe
    if stage.startswith(EXTENDED):
        return beyond_edge(family_name, grid_of(recipe, _first_round(trials)), trials)
    number = round_of_stage(stage)
    before = [trial for trial in trials if round_of_stage(trial.stage) == number - 1]
    return best_points(family_name, before, points_of_rounds(recipe)[number - 1])


def _first_round(trials: Sequence[Trial]) -> tuple[Rates, ...]:
    return tuple(trial.rates for trial in trials if round_of_stage(trial.stage) == 1)


def _tuned(plan: Plan, selections: Sequence[Selection]) -> Plan:
    """Return the plan with the runs of a stage of tuning, in place of those that stood for them."""
    stage = selections[0].stage
    builder = RunBuilder(plan.sweep, plan.digests)
    first = {run.family_name: run for run in reversed(plan.stage(TUNE))}
    new = [
        run for one in selections for run in builder.tuning(first[one.family_name], stage, one.points)
    ]  # fmt: skip
    later = plan.stages[plan.stages.index(stage) :]
    runs = [*(run for run in plan.runs if run.stage not in later), *new]
    runs += [run for run in plan.runs if run.stage in later[1:]]
    refuse_duplicates(runs, plan.digests)
    return replace(plan, runs=tuple(runs), selections=(*plan.selections, *selections))


def _compared(plan: Plan, choices: Sequence[Choice]) -> Plan:
    """Return the plan with the chosen rates, and therefore a run id, in every run of the compare stage."""
    chosen = {choice.family_name: choice.rates for choice in choices}
    tuned_d_model = {run.family_name: run.architecture.d_model for run in plan.stage(TUNE)}
    builder = RunBuilder(plan.sweep, plan.digests)
    runs = []
    for run in plan.runs:
        if run.stage == COMPARE and run.run is None:
            rates = at_width(
                plan.sweep.recipe,
                chosen[run.family_name],
                tuned_d_model=tuned_d_model[run.family_name],
                d_model=run.architecture.d_model,
            )
            run = builder.complete(run, rates, seed=run.seed, name=run.name)
        runs.append(run)
    refuse_duplicates(runs, plan.digests)
    return replace(plan, runs=tuple(runs), choices=tuple(choices))


def _rates(run: PlannedRun) -> Rates:
    assert run.run is not None
    used = run.run.optimizer
    return Rates(learning_rate=used.learning_rate, table_learning_rate=used.table_learning_rate)
