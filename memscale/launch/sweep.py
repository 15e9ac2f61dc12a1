"""Runs a plan to its end: stage after stage, each run once, whatever was done before.

Holds the sweep's lock, so that a second launcher of the same sweep is refused. Every step can be killed and taken up
again: what was trained is found by its identity, what was chosen by the plan on disk.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from memscale.launch.convert import choices_of, plan_file, run_file
from memscale.launch.costs import cost_of, known_speeds, learn_speed
from memscale.launch.pool import Pool, PoolOutcome, Starter, Task, close_attempts
from memscale.launch.progress import Reporter
from memscale.launch.retry import Decision
from memscale.launch.workers import WorkerSpec
from memscale.planning.forecast import Speeds, makespan
from memscale.planning.plan import STAGES, Plan, choose_rates, open_compare
from memscale.planning.planned_runs import PlannedRun
from memscale.records.atomic import read_json
from memscale.records.attempts import Outcome, attempt_numbers, read_outcome
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.plan_file import read_plan_file, write_plan_file
from memscale.records.results import RESULT_FORMAT
from memscale.records.run_file import write_run_file


@dataclass(kw_only=True)
class StopRequest:
    """A Ctrl-C, a SIGTERM or a cancel file; the reason is '' until one comes."""

    cancel_file: Path
    reason: str = ""
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, _: FrameType | None) -> None:
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the workers, they leave by themselves
        self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def __call__(self) -> str:
        if not self.reason and self.cancel_file.exists():
            self.reason = "memscale cancel"
        return self.reason


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    plan: Plan
    failed: dict[str, str]
    stopped: str
    num_trained: int


def run_paths(paths: SweepPaths, planned: PlannedRun) -> RunPaths:
    assert planned.run_id is not None
    return paths.run(planned.name, planned.run_id)


def reopen(plan: Plan, paths: SweepPaths) -> Plan:
    """Open the compare stage as the plan on disk has it, if it was opened before."""
    stored = read_plan_file(paths, plan.plan_hash)
    return open_compare(plan, choices_of(stored)) if stored is not None and stored.choices else plan


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where and with what a plan is run."""

    paths: SweepPaths
    data_folder: Path
    workers: Sequence[WorkerSpec]
    start: Starter
    on_background: Callable[[], None]
    """Called at every tick; the caller mirrors the files in it."""
    begun: float = field(default_factory=time.monotonic)


def run_plan(plan: Plan, site: Site) -> SweepOutcome:
    """Train what is missing. The caller holds the sweep's lock."""
    paths = site.paths
    plan = reopen(plan, paths)
    write_plan_file(paths, plan_file(plan, site.data_folder))
    failed: dict[str, str] = {}
    num_trained, stopped = 0, ""
    with StopRequest(cancel_file=paths.cancel) as stop:
        for stage in STAGES:
            if stage == "compare" and not plan.is_open:
                plan = open_compare(plan, choose_rates(plan, tuning_losses(plan, paths)))
                write_plan_file(paths, plan_file(plan, site.data_folder))
            outcome = _run_stage(plan, stage, site, stop)
            failed.update(outcome.failed)
            num_trained += len(outcome.done)
            stopped = outcome.stopped
            if stopped or (stage == "tune" and not is_tuned(plan, paths)):
                break
    return SweepOutcome(plan=plan, failed=failed, stopped=stopped, num_trained=num_trained)


def _run_stage(plan: Plan, stage: str, site: Site, stop: StopRequest) -> PoolOutcome:
    """Train what this stage lacks."""
    speeds = known_speeds(site.workers, plan.sweep.launcher)
    missing = [run for run in plan.stage(stage) if not is_done(site.paths, run)]
    tasks = [_task(plan, planned, site.paths, speeds) for planned in missing]
    reporter = _reporter(plan, stage, site, tasks, speeds)
    runs = {planned.name: planned for planned in missing}

    def on_tick(running: Sequence[str]) -> None:
        reporter.tick(running)
        site.on_background()

    def on_end(task: Task, outcome: Outcome, decision: Decision) -> None:
        again = f"; tried again ({decision.reason})" if decision.again else ""
        reporter.ended(task.name, outcome, "" if outcome.cause == "done" else again)
        if task.paths.result.exists():
            learn_speed(plan.sweep, runs[task.name], task.paths, outcome, site.workers)

    pool = Pool(
        workers=site.workers,
        start=site.start,
        retries=plan.sweep.launcher.retries,
        should_stop=stop,
        on_tick=on_tick,
        on_end=on_end,
    )
    outcome = pool.run(tasks)
    if outcome.stopped:
        reporter.say(f"stopped: {outcome.stopped}")
    return outcome


def _task(plan: Plan, planned: PlannedRun, paths: SweepPaths, speeds: Speeds) -> Task:
    """Write the run's file, and close what an earlier launch left open."""
    folder = run_paths(paths, planned)
    write_run_file(folder.run, run_file(plan.sweep, planned))
    folder.stop.unlink(missing_ok=True)
    numbers = list(attempt_numbers(folder))
    if numbers and read_outcome(folder, numbers[-1]) is None and not is_held(folder.lease):
        close_attempts(folder, None)
    seconds = speeds.run_seconds(cost_of(plan.sweep, planned, done=False))
    return Task(name=planned.name, paths=folder, seconds=seconds)


def _reporter(plan: Plan, stage: str, site: Site, tasks: Sequence[Task], speeds: Speeds) -> Reporter:
    later = [run for name in STAGES[STAGES.index(stage) + 1 :] for run in plan.stage(name)]
    costs = [cost_of(plan.sweep, run, done=False) for run in later if not is_done(site.paths, run)]
    later_seconds = [speeds.run_seconds(cost) for cost in costs]
    return Reporter(
        begun=site.begun,
        num_workers=len(site.workers),
        paths={task.name: task.paths for task in tasks},
        expected={task.name: task.seconds for task in tasks},
        later_seconds=makespan(later_seconds, len(site.workers)),
        num_total=len(plan.runs),
        num_done=sum(is_done(site.paths, run) for run in plan.runs),
    )


def is_done(paths: SweepPaths, planned: PlannedRun) -> bool:
    return planned.run_id is not None and run_paths(paths, planned).result.exists()


def tuning_losses(plan: Plan, paths: SweepPaths) -> dict[str, float | None]:
    """Run id -> validation loss of the mixture of every tuning run; None where it failed or diverged."""
    losses: dict[str, float | None] = {}
    for planned in plan.stage("tune"):
        folder = run_paths(paths, planned)
        assert planned.run_id is not None
        losses[planned.run_id] = None
        if folder.result.exists():
            result = read_json(folder.result, format=RESULT_FORMAT)
            if result["status"] == "done":
                losses[planned.run_id] = result["losses"]["mixture"]["nats_per_token"]
    return losses


def is_tuned(plan: Plan, paths: SweepPaths) -> bool:
    """Whether every family has a tuning run that ended well."""
    losses = tuning_losses(plan, paths)
    finished = {run.family_name for run in plan.stage("tune") if losses[run.run_id or ""] is not None}
    return finished == {run.family_name for run in plan.stage("tune")}
