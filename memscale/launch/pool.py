"""The pool: a worker per run, as many at once as the launcher allows; what starts a worker is handed to it.

States come from the run files, so another process can watch or cancel; a run that somebody else trains is waited for,
not started twice.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memscale.config.retries import Retries
from memscale.launch.retry import Decision, decide, same_fault
from memscale.launch.worker import EXIT_TAKEN
from memscale.launch.workers import WorkerSpec
from memscale.records.attempts import (
    Outcome,
    attempt_numbers,
    host_of,
    last_step,
    read_outcome,
    started_at,
    write_outcome,
)
from memscale.records.layout import RunPaths
from memscale.records.lease import is_held

_TICK_SECONDS = 0.1
_GRACE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run to train, and how long it is thought to take."""

    name: str
    paths: RunPaths
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PoolOutcome:
    """What became of the tasks."""

    done: tuple[str, ...]
    failed: dict[str, str]
    """Name -> why it is not tried again."""
    stopped: str
    """Why the pool stopped before the end; empty where it did not."""


class Worker(Protocol):
    """A worker under way, wherever it runs."""

    def poll(self) -> int | None:
        """None while it runs; then its exit status (negative: the signal that ended it)."""

    def stop(self) -> None:
        """Ask it to leave with a checkpoint."""

    def kill(self) -> None:
        """End it now."""


Starter = Callable[[Task, WorkerSpec, "int | None"], Worker]
"""Starts a worker for a task as its spec says; with a micro-batch in sequences, or None to let the trainer find it."""


@dataclass(kw_only=True)
class _Started:
    task: Task
    spec: WorkerSpec
    worker: Worker


@dataclass(kw_only=True)
class _Waiting:
    task: Task
    micro_batch: int | None = None


@dataclass(kw_only=True)
class Pool:
    """Trains tasks. `on_tick` is called ten times a second with the names of the running ones."""

    workers: Sequence[WorkerSpec]
    start: Starter
    retries: Retries
    should_stop: Callable[[], str]
    """Why to stop, or '' to go on."""
    on_tick: Callable[[Sequence[str]], None]
    on_end: Callable[[Task, Outcome, Decision], None]
    _started: list[_Started] = field(default_factory=list)
    _ended: dict[str, list[Outcome]] = field(default_factory=dict)
    """The attempts that this pool has seen end, by run; those of an earlier launch do not count against a run."""

    def run(self, tasks: Sequence[Task]) -> PoolOutcome:
        """Train every task that has no result yet; the longest first. Returns when none is left, or it is stopped."""
        waiting = [_Waiting(task=task) for task in sorted(tasks, key=lambda task: -task.seconds)]
        done: list[str] = []
        failed: dict[str, str] = {}
        stopped = ""
        try:
            while waiting or self._started:
                stopped = self.should_stop() or self._common_fault()
                if stopped:
                    break
                self._start(waiting, done)
                self._reap(waiting, done, failed)
                self.on_tick([started.task.name for started in self._started])
                time.sleep(_TICK_SECONDS)
        finally:
            self._end_workers()
        self._reap(waiting, done, failed)
        return PoolOutcome(done=tuple(done), failed=failed, stopped=stopped)

    def _start(self, waiting: list[_Waiting], done: list[str]) -> None:
        taken = {started.spec.number for started in self._started}
        free = [spec for spec in self.workers if spec.number not in taken]
        for entry in list(waiting):
            if entry.task.paths.result.exists():
                waiting.remove(entry)
                done.append(entry.task.name)
            elif free and not is_held(entry.task.paths.lease):
                waiting.remove(entry)
                spec = free.pop(0)
                worker = self.start(entry.task, spec, entry.micro_batch)
                self._started.append(_Started(task=entry.task, spec=spec, worker=worker))

    def _reap(self, waiting: list[_Waiting], done: list[str], failed: dict[str, str]) -> None:
        for started in list(self._started):
            status = started.worker.poll()
            if status is None:
                continue
            self._started.remove(started)
            task = started.task
            if status == EXIT_TAKEN:
                waiting.append(_Waiting(task=task))
                continue
            outcome = close_attempts(task.paths, status)
            outcomes = self._ended.setdefault(task.name, [])
            outcomes.append(outcome)
            decision = decide(outcomes, self.retries)
            self.on_end(task, outcome, decision)
            if task.paths.result.exists():
                done.append(task.name)
            elif task.paths.stop.exists():
                failed[task.name] = "cancelled; starting the sweep again goes on with it"
            elif decision.again:
                half = half_micro_batch(task.paths) if decision.half_micro_batch else None
                waiting.append(_Waiting(task=task, micro_batch=half))
            else:
                failed[task.name] = decision.reason

    def _common_fault(self) -> str:
        """Why no run can be expected to do better than those that ended; '' where there is no such reason."""
        lasts = [outcomes[-1] for outcomes in self._ended.values()]
        if any(outcome.cause == "disk_full" for outcome in lasts):
            return "the disk is full: free space where the runs lie (MEMSCALE_RUNS moves them), then start again"
        fault = same_fault(lasts)
        return f"several runs failed with one and the same error: {fault.evidence}" if fault is not None else ""

    def _end_workers(self) -> None:
        """Ask the workers to leave with a checkpoint; kill those that have not after a minute."""
        for started in self._started:
            started.worker.stop()
        until = time.monotonic() + _GRACE_SECONDS
        left = list(self._started)
        while left and time.monotonic() < until:
            time.sleep(_TICK_SECONDS)
            left = [started for started in left if started.worker.poll() is None]
        for started in left:
            started.worker.kill()


def close_attempts(paths: RunPaths, status: int | None) -> Outcome:
    """Return the last attempt's outcome; an attempt that died without a word is closed from its exit `status`."""
    numbers = list(attempt_numbers(paths))
    for number in numbers:
        if read_outcome(paths, number) is None:
            last = number == numbers[-1]
            write_outcome(paths, number, unspoken(paths, number, *_cause(status if last else None)))
    outcome = read_outcome(paths, numbers[-1]) if numbers else None
    return outcome or unspoken(paths, None, *_cause(status))


def unspoken(
    paths: RunPaths, number: int | None, cause: str, evidence: str, *, trace: str = "", host: str = ""
) -> Outcome:
    """The outcome of an attempt that wrote none, or of a try that made no attempt (None)."""
    return Outcome(
        cause=cause,
        evidence=evidence,
        started=time.time() if number is None else started_at(paths, number),
        ended=time.time(),
        host=host or ("" if number is None else host_of(paths, number)),
        trace=trace,
        step=last_step(paths),
    )


def _cause(status: int | None) -> tuple[str, str]:
    """A cause and its evidence, from an exit status."""
    if status is None:
        return "lost", "it left no word"
    if status < 0:
        return "killed", f"its process died of {signal.Signals(-status).name}"
    return "lost", f"it left no word, but exit status {status}"


def half_micro_batch(paths: RunPaths) -> int:
    """Half of a run's batch, in sequences."""
    from memscale.records.run_file import read_run_file

    return max(1, read_run_file(paths.run).run.batch_sequences // 2)
