"""Sweeps by name: composed and planned, or as they were launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memscale.config.names import check_sweep_name
from memscale.config.yaml_files import sweeps_folder
from memscale.errors import RecordError, nearest
from memscale.launch.resolution import with_chosen_seeds
from memscale.launch.stages import reopen
from memscale.planning.plan import Plan, make_plan
from memscale.records.atomic import write_bytes
from memscale.records.layout import RunPaths, SweepPaths, runs_root
from memscale.records.plan_file import PlanFile, PlanRow, read_plan_file


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A sweep, planned."""

    plan: Plan
    """Opened as far as an earlier launch opened it."""
    paths: SweepPaths
    notes: tuple[str, ...]
    """What was chosen by default, such as 'launcher local (no SLURM here)'."""


def plan_sweep(name: str, overrides: Sequence[str] = ()) -> PlannedSweep:
    """Compose a sweep, take the digests of its data, and plan it. Writes nothing.

    Args:
        name: A file of the sweeps folder, without `.yaml`.
        overrides: Hydra overrides, such as `scale=node`.

    Raises:
        ConfigError: The sweep or an override cannot be used.
        PlanError: No plan meets the sweep's requirements.
        DataError: A data source differs from the sweep's description.

    """
    from memscale.config.load import load_sweep
    from memscale.data.manifest import skipped_notes
    from memscale.evaluation.catalogue import choose, offered
    from memscale.launch.budget_data import data_folders, plan_digests
    from memscale.planning.budgets import size_knowledge

    loaded = load_sweep(name, list(overrides))
    sweep = size_knowledge(loaded.sweep)
    choose(offered(sweep.data.sources), sweep.evaluate.tasks)  # a task that nothing offers is refused now
    paths = sweep_paths(name)
    digests = plan_digests(sweep)
    planned = with_chosen_seeds(make_plan(sweep, digests), lambda chosen: make_plan(chosen, digests))
    plan = reopen(planned, paths)
    plan = replace(plan, notes=(*plan.notes, *skipped_notes(sweep.data, data_folders(plan, runs_root())[0])))
    return PlannedSweep(plan=plan, paths=paths, notes=loaded.notes)


def sweep_paths(name: str) -> SweepPaths:
    """Return where the files of a sweep are. Raises ConfigError where `name` breaks the rule for names."""
    return SweepPaths(runs_root() / check_sweep_name(name))


def keep_sweep_file(paths: SweepPaths) -> None:
    """Keep the sweep's YAML file beside its runs, as it is launched."""
    file = sweeps_folder() / f"{paths.root.name}.yaml"
    if file.is_file():
        write_bytes(paths.sweep_file, file.read_bytes())


def sweep_file_changed(paths: SweepPaths) -> str:
    """Return that the sweep's YAML file is another one than was launched, and what follows; '' where it is the same."""
    now = sweeps_folder() / f"{paths.root.name}.yaml"
    try:
        same = now.read_bytes() == paths.sweep_file.read_bytes()
    except OSError:  # the sweep has no file here, or is of a version that kept none
        return ""
    if same:
        return ""
    return (
        f"{now} was changed since the sweep was launched: the launched plan goes on, by {paths.sweep_file}. What"
        f" the change asks for comes with: make sweep SWEEP={paths.root.name}"
    )


def launched(name: str) -> tuple[SweepPaths, PlanFile]:
    """Return the folder and the current plan of a sweep that was launched.

    Raises:
        RecordError: No sweep of that name was launched, or its plan is damaged and nothing of it is left.

    """
    paths = sweep_paths(name)
    plan = stored_plan(paths)
    if plan is None:
        root = runs_root()
        known = sorted(path.parent.name for path in root.glob("*/plan.json"))
        there = (
            f"launched were: {', '.join(known)}.{nearest(name, known)}" if known else "nothing was launched there yet."
        )
        raise RecordError(f"no sweep '{name}' was launched in {root}; {there} Start it with: make sweep SWEEP={name}")
    return paths, plan


def stored_plan(paths: SweepPaths) -> PlanFile | None:
    """Return the current plan of the sweep in `paths`, rebuilt where its file is damaged; None without one.

    Raises:
        RecordError: It is damaged, and nothing is left to rebuild it from.

    """
    try:
        plan = read_plan_file(paths)
        if plan is not None or not (paths.root / "plans").exists():
            return plan
        raise RecordError(f"{paths.current_plan} or the plan that it names is missing, though plans lie beside it")
    except RecordError as error:
        from memscale.launch.rebuild import rebuilt_plan

        return rebuilt_plan(paths, error)


def chosen_runs(name: str, run: str | None) -> list[tuple[PlanRow, RunPaths]]:
    """Return the launched runs of a sweep that have a folder: all, or the one called `run`.

    Raises:
        RecordError: The sweep was not launched, or its plan has no run of that name.

    """
    paths, plan = launched(name)
    names = [row.name for row in plan.runs]
    if run is not None and run not in names:
        raise RecordError(f"no run '{run}' in the sweep {name}.{nearest(run, names)} See: make results SWEEP={name}")
    found = [(row, plan.run_paths(paths, row)) for row in plan.runs if run in (None, row.name)]
    return [(row, folder) for row, folder in found if folder is not None and folder.root.exists()]


def planned_run(directory: Path) -> tuple[RunPaths, PlanFile]:
    """Return the folder of a run and the plan that it belongs to.

    Raises:
        RecordError: `directory` is not the folder of a planned run.

    """
    paths = RunPaths(directory.absolute())
    plan = stored_plan(SweepPaths(paths.root.parent))
    if plan is None or not paths.root.is_dir():
        raise RecordError(f"{paths.root} is not the folder of a planned run; list them with: memscale status SWEEP")
    return paths, plan
