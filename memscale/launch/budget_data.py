"""The prepared data of a sweep's budgets: their digests, their preparation, and where they lie.

Where no source is sized by budget, all budgets have the same data. Otherwise each has its own, and all share the
tokenizer that is trained on the data of the first budget, so that their losses compare. Data that several budgets have
in common are prepared once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.data.fingerprint import fingerprint, fingerprints, prepared_folder
from memscale.data.prepared import Prepared, prepare
from memscale.planning.budgets import dense_baselines
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlanDigests
from memscale.records.layout import RunPaths

Progress = Callable[[str, float], None]


def plan_digests(sweep: Sweep) -> PlanDigests:
    """Return the digests of a sweep's data: one for all budgets, or by the budget's name where they differ.

    Raises:
        DataError: A source cannot be prepared.
        PlanError: A source cannot be sized for a budget.
    """
    if not any(source.by_budget for source in sweep.data.sources):
        return fingerprint(sweep.data)
    baselines = dense_baselines(sweep).baselines
    found = fingerprints([baseline.data for baseline in baselines])
    return {baseline.name: digests for baseline, digests in zip(baselines, found, strict=True)}


def prepare_plan(plan: Plan, root: Path, progress: Progress | None = None) -> dict[str, Prepared]:
    """Return the prepared data by the budget's name; build under `root`/data what is missing.

    Args:
        plan: The plan.
        root: The folder of all runs.
        progress: Called with the current phase and the completed fraction of all budgets' work, 0 to 1.

    Raises:
        DataError: A source is missing, unreadable, empty, or changed during the build.
    """
    first = plan.baselines[0]
    names: dict[Digests, str] = {}
    for baseline in plan.baselines:
        names.setdefault(plan.digests_of(baseline.name), baseline.name)
    built: dict[Digests, Prepared] = {}
    for number, (digests, name) in enumerate(names.items()):

        def report(what: str, share: float, number: int = number, name: str = name) -> None:
            if progress is not None:
                which = f"{what} of the budget {name}" if len(names) > 1 else what
                progress(which, (number + share) / len(names))

        data = plan.by_budget[name].data
        built[digests] = prepare(data, root, tokenizer_data=first.data, progress=report)
    return {baseline.name: built[plan.digests_of(baseline.name)] for baseline in plan.baselines}


def data_folders(plan: Plan, root: Path) -> tuple[Path, ...]:
    """Return the folders of the plan's prepared data under `root`/data, each once; they may not be there yet."""
    digests = dict.fromkeys(plan.digests_of(baseline.name) for baseline in plan.baselines)
    return tuple(prepared_folder(root, one) for one in digests)


def data_of_run(paths: RunPaths, digests: Digests) -> Path:
    """Return the folder of the prepared data of a run in `paths`: data lie beside the sweeps."""
    return prepared_folder(paths.root.parent.parent, digests)
