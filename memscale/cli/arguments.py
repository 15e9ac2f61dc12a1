"""The arguments that verbs share, and how they lead to a plan or to a sweep's folder."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from memscale.config.load import Loaded, load_sweep
from memscale.data.fingerprint import fingerprint
from memscale.errors import RecordError, nearest
from memscale.evaluation.catalogue import choose, offered
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import Plan, make_plan
from memscale.records.layout import RunPaths, SweepPaths, runs_root
from memscale.records.plan_file import PlanFile, PlanRow, read_plan_file


def add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP", help="a file of sweeps/, without .yaml")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="Hydra overrides, such as scale=node")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON with all digits")


@dataclass(frozen=True, kw_only=True)
class Planned:
    loaded: Loaded
    plan: Plan
    paths: SweepPaths


def make_planned(name: str, overrides: list[str]) -> Planned:
    """Compose the sweep, take the digests of its data, and plan it. Writes nothing."""
    loaded = load_sweep(name, overrides)
    sweep = size_knowledge(loaded.sweep)
    choose(offered(sweep.data.sources), sweep.evaluate.tasks)  # a task that nothing offers is refused now
    plan = make_plan(sweep, fingerprint(sweep.data))
    return Planned(loaded=loaded, plan=plan, paths=sweep_paths(name))


def sweep_paths(name: str) -> SweepPaths:
    return SweepPaths(runs_root() / name)


def launched(name: str) -> tuple[SweepPaths, PlanFile]:
    """The folder and the current plan of a sweep that was launched. Raises RecordError where it was not."""
    paths = sweep_paths(name)
    plan = read_plan_file(paths)
    if plan is None:
        root = runs_root()
        known = sorted(path.parent.name for path in root.glob("*/plan.json"))
        there = (
            f"launched were: {', '.join(known)}.{nearest(name, known)}" if known else "nothing was launched there yet."
        )
        raise RecordError(f"no sweep '{name}' was launched in {root}; {there} Start it with: make sweep SWEEP={name}")
    return paths, plan


def chosen_runs(name: str, run: str | None) -> list[tuple[PlanRow, RunPaths]]:
    """The launched runs of a sweep that have a folder: all, or the one called `run`. Raises RecordError."""
    paths, plan = launched(name)
    names = [row.name for row in plan.runs]
    if run is not None and run not in names:
        raise RecordError(f"no run '{run}' in the sweep {name}.{nearest(run, names)} See: make results SWEEP={name}")
    found = [(row, plan.run_paths(paths, row)) for row in plan.runs if run in (None, row.name)]
    return [(row, folder) for row, folder in found if folder is not None and folder.root.is_dir()]
