"""Measures the speed of this machine on the models of a plan, before any of its runs: calibration.

Every worker trains every chosen model at the same time as the others do, as in the sweep, so that they share memory and
its bandwidth as they will then: a process a worker, with the worker's threads and GPU. What they measure is kept as the
machine's, marked `calibration`, until those of finished runs replace them.
Refuses SLURM outside of a job: a login node is not the machine that trains.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from memscale.config.codec import to_plain
from memscale.config.run import Digests, Run
from memscale.config.sweep import Sweep
from memscale.errors import ConfigError
from memscale.launch.calibration_workers import MOST_SECONDS, WorkerProcesses
from memscale.launch.device_memory import device_memory_bytes
from memscale.launch.formatting import duration
from memscale.launch.workers import WorkerSpec, workers_for
from memscale.planning.accounting import TRAINING_PASSES
from memscale.planning.device_memory import fit_on_device
from memscale.planning.forecast import BYTES_PER_PARAMETER
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.recipes import optimizer
from memscale.planning.tuning import Rates
from memscale.records.speeds import SpeedPoint

SECONDS_PER_MODEL = 2.0
_LEAST_SECONDS_PER_MODEL = 0.5
_RATE = 1e-4
_STEPS = 1_000_000
"""Of the runs as the trainer sees them, so that none comes to its end."""
_BIGGEST_CHECKPOINT = 2.5e8
"""Bytes; a larger one is not written to be timed, but taken to be written at _DISK_SPEED."""
_DISK_SPEED = 5e8


def models_to_measure(plan: Plan) -> tuple[PlannedRun, ...]:
    """One run of each model worth measuring, the most telling first.

    Of every family the smallest and the largest model by FLOPs per token, then of every series, then the middle one
    of every series. Two budgets of one shape are one model.
    """
    by_family: dict[str, list[PlannedRun]] = {}
    by_series: dict[str, list[PlannedRun]] = {}
    for run in plan.runs:
        by_family.setdefault(run.family, []).append(run)
        by_series.setdefault(run.series, []).append(run)
    chosen: dict[tuple[object, ...], PlannedRun] = {}
    for groups, places in ((by_family, (0.0, 1.0)), (by_series, (0.0, 1.0)), (by_series, (0.5,))):
        ordered = [sorted(_distinct(runs), key=_flops) for runs in groups.values()]
        for place in places:
            for runs in ordered:
                run = runs[round(place * (len(runs) - 1))]
                chosen.setdefault(_model(run), run)
    return tuple(chosen.values())


def _flops(run: PlannedRun) -> float:
    return run.counts.flops_per_token_forward


def _model(run: PlannedRun) -> tuple[object, ...]:
    return (run.series, run.batch_tokens, _flops(run))


def _distinct(runs: Sequence[PlannedRun]) -> Iterator[PlannedRun]:
    seen: set[tuple[object, ...]] = set()
    for run in runs:
        if _model(run) not in seen:
            seen.add(_model(run))
            yield run


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a calibration measured on one kind of machine."""

    machine: str
    points: tuple[SpeedPoint, ...]
    unmeasured: tuple[tuple[str, str], ...]
    """Series and budget of models that could not be measured, each with the reason."""


def calibration_workers(sweep: Sweep) -> tuple[WorkerSpec, ...]:
    """The workers to measure: this machine's, or the one of the SLURM job that this process is in."""
    launcher = sweep.launcher
    if launcher.name != "slurm":
        return workers_for(launcher, 1)
    if launcher.processes_per_run > 1:
        raise ConfigError(
            f"a calibration measures one process, and a run of this launcher has {launcher.processes_per_run}. Measure "
            "with launcher.gpus_per_run=1 launcher.nodes_per_run=1; the speeds of larger runs come from finished ones"
        )
    if "SLURM_JOB_ID" not in os.environ:
        gpus = f" --gpus-per-node={launcher.gpus_per_run}" if launcher.gpus_per_run else ""
        partition = f" --partition={launcher.partition}" if launcher.partition else ""
        raise ConfigError(
            "the launcher is slurm, and this is not a node that it would train on. Measure inside a job: "
            f"srun{partition}{gpus} --cpus-per-task={launcher.cpus_per_run} memscale plan {sweep.name} --calibrate, "
            "with the same overrides; the speeds are then those of all such jobs"
        )
    return (replace(workers_for(launcher, 1)[0], gpu=os.environ.get("CUDA_VISIBLE_DEVICES")),)


def calibrate(plan: Plan, say: Callable[[str], None]) -> Calibration:
    """Measure the models of `plan` on this machine; `say` prints progress. Writes no file.

    Raises MemscaleError where a worker's process ends without an answer.
    """
    workers = calibration_workers(plan.sweep)
    models, unmeasured = _that_fit(plan, workers)
    if not models:
        return Calibration(machine=workers[0].machine, points=(), unmeasured=tuple(unmeasured))
    seconds = min(SECONDS_PER_MODEL, max(_LEAST_SECONDS_PER_MODEL, MOST_SECONDS / 3 / len(models)))
    say(
        f"calibrating {len(models)} models on {len(workers)} workers at once: about "
        f"{duration(min(MOST_SECONDS, 6 + len(models) * 2 * seconds))}"
    )
    work = [_work(plan.sweep, run) for run in models]
    with WorkerProcesses(workers, work, seconds) as children:
        found = _collect(models, children, say)
    points = []
    for number, run in enumerate(models):
        answers = found.get(number, [])
        failed = [answer["error"] for answer in answers if "error" in answer]
        if failed or len(answers) < len(workers):
            unmeasured.append((_name(run), failed[0] if failed else "there was no time left"))
        else:
            points.append(_point(plan.sweep, run, answers))
    return Calibration(machine=workers[0].machine, points=tuple(points), unmeasured=tuple(unmeasured))


def _that_fit(plan: Plan, workers: Sequence[WorkerSpec]) -> tuple[list[PlannedRun], list[tuple[str, str]]]:
    """Return the models to measure, and those that need more memory than a worker has, with the reason."""
    device_bytes = device_memory_bytes(plan.sweep.launcher, workers)
    length = plan.sweep.scale.sequence_length
    fitting, others = [], []
    for run in models_to_measure(plan):
        found = fit_on_device(
            run.architecture,
            length,
            run.batch_tokens // length,
            device_bytes=device_bytes,
            precision="bfloat16" if workers[0].device == "cuda" else "float32",
            matrix_optimizer=plan.sweep.recipe.matrix_optimizer,
        )
        if found.fits is False:
            needs, has = found.peak_bytes / 1e9, (device_bytes or 0.0) / 1e9
            others.append((_name(run), f"it needs {needs:.3g} GB of memory, and a worker has {has:.3g} GB"))
        else:
            fitting.append(run)
    return fitting, others


def _name(run: PlannedRun) -> str:
    return f"{run.series} at {run.budget}"


def _work(sweep: Sweep, planned: PlannedRun) -> dict[str, Any]:
    """Return a worker process's request: the run, with any rates, to be trained without end on made-up tokens."""
    rates = Rates(learning_rate=_RATE, table_learning_rate=_RATE if planned.architecture.has_table else None)
    run = Run(
        architecture=planned.architecture,
        optimizer=optimizer(sweep.recipe, rates),
        schedule=sweep.recipe.schedule,
        tokens=planned.batch_tokens * _STEPS,
        batch_tokens=planned.batch_tokens,
        sequence_length=sweep.scale.sequence_length,
        seed=0,
        validations=1,
        digests=Digests(data="", tokenizer="", evaluation=""),
    )
    save = BYTES_PER_PARAMETER * planned.counts.params_total <= _BIGGEST_CHECKPOINT
    return {"run": to_plain(run), "save": save}


def _collect(
    models: Sequence[PlannedRun], children: WorkerProcesses, say: Callable[[str], None]
) -> dict[int, list[dict[str, Any]]]:
    """Every worker's answers by the model's number."""
    found: dict[int, list[dict[str, Any]]] = {}
    begun = time.monotonic()
    for answer in children.answers():
        answers = found.setdefault(answer["number"], [])
        answers.append(answer)
        if len(answers) < children.count:
            continue
        run, spent = models[answer["number"]], time.monotonic() - begun
        left = spent / len(found) * (len(models) - len(found))
        if "error" in answer:
            result = answer["error"]
        else:
            step = fmean(one["seconds"] for one in answers if "seconds" in one)
            speed = TRAINING_PASSES * _flops(run) * run.batch_tokens / step
            result = f"{speed:.3g} FLOPs/s a worker, {run.batch_tokens / step:.3g} tokens/s"
        say(f"  {len(found)} of {len(models)}  {_name(run)}: {result}; about {duration(left)} left")
    return found


def _point(sweep: Sweep, run: PlannedRun, answers: Sequence[dict[str, Any]]) -> SpeedPoint:
    step = fmean(answer["seconds"] for answer in answers)
    flops_per_second = TRAINING_PASSES * _flops(run) * run.batch_tokens / step
    saved = [answer["checkpoint_seconds"] for answer in answers if answer["checkpoint_seconds"] is not None]
    checkpoint = fmean(saved) if saved else BYTES_PER_PARAMETER * run.counts.params_total / _DISK_SPEED
    # Validation is forward passes over each source's held-out text, at the speed of training.
    validated = sweep.evaluate.validations * len(sweep.data.sources) * sweep.data.validation_tokens
    return SpeedPoint(
        source="calibration",
        family=run.family,
        series=run.series,
        batch_tokens=run.batch_tokens,
        sequence_length=sweep.scale.sequence_length,
        flops_per_token=_flops(run),
        params_total=run.counts.params_total,
        flops_per_second=flops_per_second,
        start_seconds=fmean(answer["start_seconds"] + answer["build_seconds"] for answer in answers)
        + checkpoint
        + validated * _flops(run) / flops_per_second,
        save_seconds=checkpoint,
        evaluation_seconds=None,
    )
