"""The stages of a plan and their files: what is done, what a stage needs to open, and the files of an opened stage."""

from __future__ import annotations

from memscale.errors import PlanError, RecordError
from memscale.launch.convert import choices_of, plan_file, run_file, selections_of
from memscale.launch.set_aside import clear_way
from memscale.planning.opening import open_next, opened_as
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.tuning import is_tuning, round_of_stage
from memscale.records.inspection import had_result, inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import read_plan_file, write_plan_file
from memscale.records.run_file import write_run_file


def run_paths(paths: SweepPaths, planned: PlannedRun) -> RunPaths:
    """Return the folder of a run whose stage is open."""
    assert planned.run_id is not None
    return paths.run(planned.name, planned.run_id)


def is_done(paths: SweepPaths, planned: PlannedRun) -> bool:
    """Whether a run has a result."""
    return planned.run_id is not None and run_paths(paths, planned).result.exists()


def reopen(plan: Plan, paths: SweepPaths) -> Plan:
    """Return the plan with those stages open that this sweep's plan file has as opened."""
    try:
        stored = read_plan_file(paths, plan.plan_hash)
    except RecordError:  # the choices follow from the tuning runs once more
        return plan
    return opened_as(plan, selections_of(stored), choices_of(stored)) if stored is not None else plan


def open_next_stage(plan: Plan, paths: SweepPaths) -> Plan | None:
    """Choose what the next stage trains by the results of the stages before it, and open it.

    None where a family has no tuning run that ended well, or the result of a tuning run is damaged.

    The plan file and the files of the opened runs are written before this returns, so that whoever takes the next step
    opens the stage in the same way.
    """
    try:
        opened = open_next(plan, tuning_losses(plan, paths))
    except (RecordError, PlanError):
        return None
    write_files(opened, paths)
    return opened


def write_files(plan: Plan, paths: SweepPaths, *, forget_stops: bool = False) -> None:
    """Write the plan file, and `run.json` of every open run that has no result.

    Args:
        plan: The plan, as far as it is open.
        paths: The sweep's folder.
        forget_stops: Remove the stop files that an earlier cancel left.

    """
    for run in plan.runs:
        if run.run_id is not None and not is_done(paths, run):
            folder = run_paths(paths, run)
            clear_way(folder.run)
            write_run_file(folder.run, run_file(plan, run))
            if forget_stops:
                clear_way(folder.stop)
                folder.stop.unlink(missing_ok=True)
    write_plan_file(paths, plan_file(plan, paths.root.parent))


def tuning_losses(plan: Plan, paths: SweepPaths) -> dict[str, float | None]:
    """Return the validation loss of the mixture, in nats per token, by tuning run id; None where it has none.

    Raises:
        RecordError: A tuning run that had a result is damaged: the choice waits until it is trained again.

    """
    losses: dict[str, float | None] = {}
    for planned in plan.runs:
        if not is_tuning(planned.stage) or planned.run_id is None:
            continue
        seen = inspect(run_paths(paths, planned))
        if seen.damage and had_result(run_paths(paths, planned)):
            raise RecordError(seen.damage)
        result = seen.result
        done = result is not None and result.status == "done"
        losses[planned.run_id] = result.content["losses"]["mixture"]["nats_per_token"] if result and done else None
    return losses


def opened_stage(plan: Plan, stage: str) -> list[str]:
    """Return what a person reads when a stage has opened; nothing of an extension that no family needs."""
    if not is_tuning(stage):
        return ["every family's rates are chosen: the compared runs are open"]
    runs = plan.stage(stage)
    if not runs:
        return []
    names = ", ".join(dict.fromkeys(run.family_name for run in runs))
    if round_of_stage(stage) > 1:
        return [f"round {round_of_stage(stage)} of the tuning is open: {len(runs)} runs of the best rates of {names}"]
    return [f"the best rates of {names} lie at the edge of their grids: {len(runs)} runs beyond it are open"]
