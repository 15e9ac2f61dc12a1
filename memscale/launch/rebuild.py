"""A damaged plan of a launched sweep, made again: from the sweep's YAML, or else from the files of its runs.

1. The plans under `plans/` that are whole: if the note of the current one (`plan.json`) is damaged, the current one is
   the one that has most of the runs that lie there, and of several the newest.
2. Without a whole one, the sweep is planned anew, as it was launched on SLURM, or from its YAML without overrides. If
   that is the damaged plan, its stages are opened as they were.
3. Otherwise every run whose `run.json` is whole gives its row, and the plan says so among its caveats. Choices and runs
   that had not been opened are then missing; a launch with the overrides of the first one writes the plan whole.

What was rebuilt is written, unless a launcher is at work, which will write it, or the folder cannot be written to.
"""

from __future__ import annotations

import re
from contextlib import suppress

from memscale.errors import MemscaleError, PlanError, RecordError
from memscale.launch.convert import plan_file, plan_row_of_file
from memscale.launch.set_aside import clear_way
from memscale.launch.stages import tuning_losses
from memscale.planning.opening import open_next
from memscale.planning.plan import Plan, make_plan
from memscale.planning.tuning import is_tuning, round_of_stage
from memscale.records.launch_file import read_launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.plan_file import PlanFile, read_plan_file, write_plan_file
from memscale.records.run_file import RunFile, read_run_file

REBUILT = "This plan was damaged, and rebuilt from the files of the runs: runs that had not been opened are not in it."
_HASH = re.compile(r"[0-9a-f]{12}")


def rebuilt_plan(paths: SweepPaths, why: RecordError) -> PlanFile:
    """Return a launched sweep's plan whose file is damaged, and write it.

    Args:
        paths: The sweep's folder.
        why: What is wrong with the file.

    Raises:
        RecordError: Nothing of the plan can be found any more; it says how to launch the sweep again.

    """
    runs = _run_files(paths)
    whole = _whole_plans(paths, {file.run_id for file in runs})
    plan = whole or _planned_anew(paths, runs) or _from_runs(paths, runs)
    if plan is None:
        raise RecordError(f"{why}. No run of it is left to rebuild it from: make sweep SWEEP={paths.root.name}")
    if not is_held(paths.lock):
        with suppress(OSError):
            clear_way(paths.current_plan)
            clear_way(paths.plan(plan.plan_hash))
            write_plan_file(paths, plan)
    return plan


def _run_files(paths: SweepPaths) -> list[RunFile]:
    """The whole `run.json` of the sweep; of several runs of one name the newest: other plans' runs lie there too."""
    found: dict[str, RunFile] = {}
    for path in sorted(paths.root.glob("*/run.json"), key=lambda path: path.lstat().st_mtime):
        with suppress(RecordError):
            file = read_run_file(path)
            if RunPaths(path.parent).run_id == file.run_id:
                found[file.name] = file
    return list(found.values())


def _whole_plans(paths: SweepPaths, run_ids: set[str]) -> PlanFile | None:
    """The plan under `plans/` that has most of these runs; None where none is whole."""
    plans: list[tuple[int, float, PlanFile]] = []
    for path in (paths.root / "plans").glob("*.json"):
        with suppress(RecordError, OSError):
            plan = read_plan_file(paths, path.stem)
            if plan is not None:
                plans.append((len(run_ids & {row.run_id for row in plan.runs}), path.stat().st_mtime, plan))
    named = _named(paths)
    if named is not None:  # the note is whole: no other plan may take the place of the one that it names
        plans = [one for one in plans if one[2].plan_hash == named]
    return max(plans, key=lambda one: one[:2])[2] if plans else None


def _named(paths: SweepPaths) -> str | None:
    """The plan that the note of the current one names; None where the note is damaged."""
    found = None
    with suppress(OSError, UnicodeDecodeError):
        found = re.search(r'"plan_hash": "([0-9a-f]{12})"', paths.current_plan.read_text(encoding="utf-8"))
    return found[1] if found is not None else None


def _newest_hash(paths: SweepPaths) -> str:
    """The name of the newest file under `plans/`, damaged as it may be; zeros where there is none."""
    files = [path for path in (paths.root / "plans").glob("*.json") if _HASH.fullmatch(path.stem)]
    return max(files, key=lambda path: path.lstat().st_mtime).stem if files else "0" * 12


def _planned_anew(paths: SweepPaths, runs: list[RunFile]) -> PlanFile | None:
    """The plan of the sweep's launch on SLURM, or of its YAML, where that is the plan whose runs lie there."""
    named = _named(paths)
    for plan in (_plan_of_launch(paths), _plan_of_yaml(paths)):
        if plan is None:
            continue
        ids = {run.run_id for run in plan.runs if run.run_id is not None}
        if plan.plan_hash == named or (named is None and ids & {file.run_id for file in runs}):
            return plan_file(_opened(plan, paths, runs), paths.root.parent)
    return None


def _plan_of_launch(paths: SweepPaths) -> Plan | None:
    with suppress(MemscaleError):
        launch = read_launch(paths)
        return make_plan(launch.sweep, launch.plan_digests) if launch is not None else None
    return None


def _plan_of_yaml(paths: SweepPaths) -> Plan | None:
    from memscale.config.load import load_sweep
    from memscale.launch.budget_data import plan_digests
    from memscale.launch.resolution import with_chosen_seeds
    from memscale.planning.budgets import size_knowledge

    with suppress(MemscaleError, OSError):
        sweep = size_knowledge(load_sweep(paths.root.name, []).sweep)
        digests = plan_digests(sweep)
        return with_chosen_seeds(make_plan(sweep, digests), lambda chosen: make_plan(chosen, digests))
    return None


def _opened(plan: Plan, paths: SweepPaths, runs: list[RunFile]) -> Plan:
    """The plan with those stages open that the same results lead to, as far as most of their runs lie there."""
    there = {file.run_id for file in runs}
    found = plan
    with suppress(RecordError, PlanError):
        while (stage := plan.next_stage) is not None:
            plan = open_next(plan, tuning_losses(plan, paths))
            ids = {run.run_id for run in plan.stage(stage)}
            if 2 * len(ids & there) < len(ids):
                break
            if ids:  # an extension without runs is as it was if a later stage is
                found = plan
    return found


def _from_runs(paths: SweepPaths, runs: list[RunFile]) -> PlanFile | None:
    if not runs:
        return None
    from memscale.data.fingerprint import prepared_folder

    first = runs[0]
    return PlanFile(
        sweep=first.sweep,
        question=first.question,
        plan_hash=_named(paths) or _newest_hash(paths),
        scale=first.scale,
        launcher="slurm" if paths.launch.exists() else "local",
        caveats=(REBUILT,),
        data_folders=tuple(dict.fromkeys(prepared_folder(paths.root.parent, file.run.digests).name for file in runs)),
        choices=(),
        runs=tuple(map(plan_row_of_file, sorted(runs, key=_place))),
    )


def _place(file: RunFile) -> tuple[bool, int, str, float]:
    """Where a run comes in the plan: by its stage, then by its budget."""
    tuning = is_tuning(file.stage)
    return not tuning, round_of_stage(file.stage) if tuning else 0, file.stage if tuning else "", file.budget_flops
