"""What the runs of a plan cost by what this kind of machine was measured to do, and what finished runs teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from memscale.config.launcher import Launcher
from memscale.config.sweep import Sweep
from memscale.errors import RecordError
from memscale.launch.workers import WorkerSpec
from memscale.planning.accounting import TRAINING_PASSES
from memscale.planning.forecast import Cost, Speed, Speeds
from memscale.planning.matrices import single_moments
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.tuning import is_tuning
from memscale.records.attempts import Outcome, attempt_numbers
from memscale.records.layout import RunPaths, runs_root
from memscale.records.result_file import read_result
from memscale.records.speeds import SpeedPoint, read_speeds, record_speeds


def cost_of(sweep: Sweep, planned: PlannedRun, *, done: bool) -> Cost:
    """Return what decides how long a run takes; `done` runs cost nothing more."""
    return Cost(
        family=planned.family,
        series=planned.series,
        batch_tokens=planned.batch_tokens,
        sequence_length=sweep.scale.sequence_length,
        flops_per_token=planned.counts.flops_per_token_forward,
        flops_train=planned.flops_train,
        params_total=planned.counts.params_total,
        evaluated=not is_tuning(planned.stage) and sweep.evaluate.tasks != (),
        done=done,
        processes=launcher_of(sweep, planned).processes_per_run,
        averaged=sweep.recipe.average is not None,
        single_moments=single_moments(planned.architecture, sweep.recipe.matrix_optimizer),
    )


def launcher_of(sweep: Sweep, planned: PlannedRun) -> Launcher:
    """The launcher with what this run's job asks for."""
    return sweep.launcher.for_run(planned.family_name, planned.counts.params_total, planned.flops_train)


def known_points(workers: Sequence[WorkerSpec]) -> tuple[SpeedPoint, ...]:
    """What was measured on this kind of machine."""
    return read_speeds(runs_root(), workers[0].machine)


def known_speeds(workers: Sequence[WorkerSpec], launcher: Launcher) -> Speeds:
    """The speeds of this kind of machine, measured or guessed."""
    return Speeds(
        (_speed(point) for point in known_points(workers)),
        checkpoint_seconds=launcher.checkpoint_seconds,
        device=workers[0].device,
        threads=workers[0].threads,
    )


def _speed(point: SpeedPoint) -> Speed:
    plain = asdict(point)
    del plain["source"], plain["params_total"], plain["num_runs"]
    plain["save_seconds"] = plain["save_seconds"] or 0.0
    return Speed(**plain)


def learn_speed(
    sweep: Sweep, planned: PlannedRun, folder: RunPaths, outcome: Outcome, workers: Sequence[WorkerSpec]
) -> None:
    """Keep the speed of a run that has just written its result; one that was interrupted teaches nothing."""
    pace = known_speeds(workers, sweep.launcher).of(cost_of(sweep, planned, done=True))
    point = run_point(sweep, planned, folder, outcome, save_seconds=pace.save_seconds)
    if point is not None:
        record_speeds(runs_root(), workers[0].machine, [point])


def run_point(
    sweep: Sweep, planned: PlannedRun, folder: RunPaths, outcome: Outcome, *, save_seconds: float
) -> SpeedPoint | None:
    """The speed of a finished run: of the tokens it trained on, which are fewer than planned where it diverged.

    What it took beside training is divided by `save_seconds`, a checkpoint's known seconds; runs do not record it.
    """
    try:
        result = read_result(folder).content
    except RecordError:  # a damaged run teaches nothing
        return None
    train_seconds, evaluation_seconds = (result["timings"][f"{name}_seconds"] for name in ("train", "evaluation"))
    flops = TRAINING_PASSES * planned.counts.flops_per_token_forward * result["achieved"]["tokens"]
    if len(list(attempt_numbers(folder))) != 1 or train_seconds <= 0 or flops <= 0:
        return None
    saves = train_seconds // sweep.launcher.checkpoint_seconds * save_seconds
    return SpeedPoint(
        source="run",
        family=planned.family,
        series=planned.series,
        batch_tokens=planned.batch_tokens,
        sequence_length=sweep.scale.sequence_length,
        flops_per_token=planned.counts.flops_per_token_forward,
        params_total=planned.counts.params_total,
        flops_per_second=flops / train_seconds,
        start_seconds=max(0.0, outcome.ended - outcome.started - train_seconds - evaluation_seconds - saves),
        save_seconds=None,
        evaluation_seconds=evaluation_seconds if result["scores"] else None,
        num_runs=1,
    )


def done_names(root: Path, runs: Sequence[PlannedRun]) -> frozenset[str]:
    """The names of the runs that have a result under `root`, the sweep's folder: one listing, however many runs."""
    try:
        there = {path.name for path in root.iterdir()}
    except FileNotFoundError:
        return frozenset()
    folders = {run.name: f"{run.name}-{run.run_id}" for run in runs if run.run_id is not None}
    return frozenset(
        name for name, folder in folders.items() if folder in there and RunPaths(root / folder).result.exists()
    )
