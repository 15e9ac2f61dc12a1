"""From a plan in memory to the files that carry it: the plan's own file and each run's `run.json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from memscale.config.optimizer import Optimizer
from memscale.config.run import Run
from memscale.data.manifest import skipped_notes
from memscale.launch.budget_data import data_folders
from memscale.planning.accounting import Counts, conventions
from memscale.planning.choices import Choice, Selection, Trial
from memscale.planning.loops import recurrent_params
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.tuning import Rates, is_tuning
from memscale.records.plan_file import ChoiceRow, PlanFile, PlanRow, PointRow, SelectionRow, TrialRow
from memscale.records.run_file import OtherConventions, PlannedCounts, RunFile


def plan_file(plan: Plan, root: Path) -> PlanFile:
    """Return the content of a plan's file; `root` is the folder of all sweeps, in which the prepared data lie."""
    sweep, folders = plan.sweep, data_folders(plan, root)
    return PlanFile(
        sweep=sweep.name,
        question=sweep.question,
        plan_hash=plan.plan_hash,
        scale=sweep.scale.name,
        launcher=sweep.launcher.name,
        caveats=(*sweep.caveats, *skipped_notes(sweep.data, folders[0])),
        data_folders=tuple(folder.name for folder in folders),
        selections=tuple(_selection_row(selection) for selection in plan.selections),
        choices=tuple(_choice_row(choice) for choice in plan.choices),
        runs=tuple(plan_row(run) for run in plan.runs),
    )


def plan_row(planned: PlannedRun) -> PlanRow:
    """Return the row of a run in the plan's file; its rates are null until its stage opens."""
    return _row(planned, planned, planned.counts, planned, planned.run.optimizer if planned.run is not None else None)


def plan_row_of_file(file: RunFile) -> PlanRow:
    """Return the row that a run had in the plan's file, from its own file."""
    return _row(file, file.run, file.counts, file.counts, file.run.optimizer)


def _row(
    place: PlannedRun | RunFile,
    trained: PlannedRun | Run,
    counts: Counts | PlannedCounts,
    totals: PlannedRun | PlannedCounts,
    optimizer: Optimizer | None,
) -> PlanRow:
    return PlanRow(
        name=place.name,
        stage=place.stage,
        run_id=place.run_id,
        series=place.series,
        family=place.family,
        budget=place.budget,
        budget_flops=place.budget_flops,
        seed=trained.seed,
        tokens=trained.tokens,
        batch_tokens=trained.batch_tokens,
        d_model=trained.architecture.d_model,
        num_layers=trained.architecture.num_layers,
        num_slots=trained.architecture.num_slots,
        learning_rate=optimizer.learning_rate if optimizer else None,
        table_learning_rate=optimizer.table_learning_rate if optimizer else None,
        params_total=counts.params_total,
        params_active=counts.params_active,
        params_non_embedding=counts.params_non_embedding,
        params_table=counts.params_table,
        flops_per_token_forward=counts.flops_per_token_forward,
        flops_train=totals.flops_train,
        flops_mismatch=totals.flops_mismatch,
        params_mismatch=totals.params_mismatch,
    )


def run_file(plan: Plan, planned: PlannedRun) -> RunFile:
    """The run's own file; the tuning runs are not evaluated, for only their loss is asked for."""
    sweep, baseline = plan.sweep, plan.by_budget[planned.budget]
    assert planned.run is not None
    assert planned.run_id is not None
    other = conventions(planned.architecture, sweep.scale.sequence_length)
    return RunFile(
        sweep=sweep.name,
        question=sweep.question,
        scale=sweep.scale.name,
        stage=planned.stage,
        name=planned.name,
        run_id=planned.run_id,
        series=planned.series,
        family=planned.family,
        budget=planned.budget,
        budget_flops=planned.budget_flops,
        run=planned.run,
        counts=PlannedCounts(
            **asdict(planned.counts),
            flops_train=planned.flops_train,
            flops_mismatch=planned.flops_mismatch,
            params_mismatch=planned.params_mismatch,
            params_recurrent=recurrent_params(planned.architecture),
        ),
        conventions=OtherConventions(**asdict(other)),
        dense_params_non_embedding=baseline.params_non_embedding,
        data=baseline.data,
        tasks=() if is_tuning(planned.stage) else sweep.evaluate.tasks,
    )


def choices_of(file: PlanFile) -> tuple[Choice, ...]:
    """What a stored plan chose when its compare stage opened."""
    return tuple(
        Choice(
            family_name=row.family_name,
            rates=Rates(learning_rate=row.learning_rate, table_learning_rate=row.table_learning_rate),
            at_edge=row.at_edge,
            trials=tuple(
                Trial(
                    rates=Rates(learning_rate=trial.learning_rate, table_learning_rate=trial.table_learning_rate),
                    stage=trial.stage,
                    seed=trial.seed,
                    loss=trial.loss,
                )
                for trial in row.trials
            ),
        )
        for row in file.choices
    )


def selections_of(file: PlanFile) -> tuple[Selection, ...]:
    """What the stages of tuning train that a stored plan has as opened."""
    return tuple(
        Selection(
            stage=row.stage,
            family_name=row.family_name,
            points=tuple(
                Rates(learning_rate=point.learning_rate, table_learning_rate=point.table_learning_rate)
                for point in row.points
            ),
        )
        for row in file.selections
    )


def _selection_row(selection: Selection) -> SelectionRow:
    points = (
        PointRow(learning_rate=rates.learning_rate, table_learning_rate=rates.table_learning_rate)
        for rates in selection.points
    )
    return SelectionRow(stage=selection.stage, family_name=selection.family_name, points=tuple(points))


def _choice_row(choice: Choice) -> ChoiceRow:
    return ChoiceRow(
        family_name=choice.family_name,
        learning_rate=choice.rates.learning_rate,
        table_learning_rate=choice.rates.table_learning_rate,
        at_edge=choice.at_edge,
        trials=tuple(
            TrialRow(
                learning_rate=trial.rates.learning_rate,
                table_learning_rate=trial.rates.table_learning_rate,
                stage=trial.stage,
                seed=trial.seed,
                loss=trial.loss,
            )
            for trial in choice.trials
        ),
    )
