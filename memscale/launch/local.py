"""This machine as an executor: a process per run, as many at once as the launcher's workers.

The processes stay in the launcher's process group, so that a Ctrl-C or a kill of the group reaches all of them, and
leave by themselves when the launcher dies. Without a GPU they are forked from one that has imported torch already
(`memscale.launch.fork_server`). A run that another process trains is waited for, not started twice.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from memscale.launch.code_snapshot import module_command
from memscale.launch.executor import JobRequest, NewOutcome, RunStatus, Submitted
from memscale.launch.fork_server import ForkedWorker, ForkServer
from memscale.launch.worker import EXIT_TAKEN
from memscale.launch.workers import WorkerSpec
from memscale.records.attempts import (
    Outcome,
    attempt_numbers,
    read_outcome,
    unrecorded_outcome,
)
from memscale.records.layout import RunPaths
from memscale.records.lease import is_held

_WORKER = "memscale.launch.worker"
_PRELOADED = ("memscale.training.trainer", "memscale.evaluation.measure", "memscale.launch.training_code")
"""What every worker would import."""
_TICK_SECONDS = 0.1
_LOOK_SECONDS = 2.0
"""Between two looks at runs that other processes train."""
_GRACE_SECONDS = 60.0
"""Between asking a worker to leave and killing it."""


@dataclass(kw_only=True)
class _Running:
    """A worker of this process."""

    spec: WorkerSpec
    process: subprocess.Popen[bytes] | ForkedWorker
    last_attempt: int
    """The number of the last attempt before it started."""
    stop_sent: float | None = None
    """time.monotonic() when it was asked to leave."""


@dataclass(kw_only=True)
class LocalExecutor:
    """Runs workers as processes of this machine. See `memscale.launch.executor.Executor` for the methods."""

    reports_ends: ClassVar[bool] = True
    workers: Sequence[WorkerSpec]
    launched: float
    """Unix seconds. Attempts before it do not count against a run."""
    should_stop: Callable[[], str] = lambda: ""
    """Why everything has to stop; '' to go on. It ends a wait."""
    _running: dict[str, _Running] = field(default_factory=dict)
    """By the name of the run's folder."""
    _server: ForkServer | None = None

    @property
    def running(self) -> list[str]:
        """The names of the folders whose worker is at work."""
        return [name for name, one in self._running.items() if one.process.poll() is None]

    def refresh(self) -> bool:
        """Do nothing: processes are asked one by one, and leave no orphans."""
        return True

    def observe(self, runs: Iterable[RunPaths]) -> list[RunStatus]:
        """Return the status of each run, from its process and then its files."""
        return [self._observe(run) for run in runs]

    def _observe(self, paths: RunPaths) -> RunStatus:
        running = self._running.get(paths.root.name)
        if running is None and paths.result.exists():
            return RunStatus(paths=paths, state="done")
        exit_status = running.process.poll() if running is not None else None  # before the files: they are then whole
        if running is not None and exit_status is None:
            return RunStatus(paths=paths, state="working", outcomes=self._counted(paths, []))
        self._running.pop(paths.root.name, None)
        if is_held(paths.lease):  # another process trains it
            return RunStatus(paths=paths, state="working", outcomes=self._counted(paths, []))
        new_outcomes = _new_outcomes(paths, running, exit_status)
        ended = running is not None and exit_status != EXIT_TAKEN
        state = "done" if paths.result.exists() else "cancelled" if paths.stop.exists() else "unsubmitted"
        return RunStatus(
            paths=paths,
            state=state,
            outcomes=self._counted(paths, new_outcomes),
            new_outcomes=tuple(new_outcomes),
            just_ended=_last_outcome(paths, new_outcomes) if ended else None,
        )

    def _counted(self, paths: RunPaths, new_outcomes: Sequence[NewOutcome]) -> tuple[Outcome, ...]:
        new = {one.number: one.outcome for one in new_outcomes}
        found = [new.get(number) or read_outcome(paths, number) for number in attempt_numbers(paths)]
        found += [one.outcome for one in new_outcomes if one.number is None]
        return tuple(one for one in found if one is not None and one.started >= self.launched)

    def submit(
        self,
        requests: Sequence[JobRequest],
        *,
        num_alive: int,  # noqa: ARG002
        exclude: Sequence[str],  # noqa: ARG002
    ) -> Submitted:
        """Start as many of the runs as there are free workers. `num_alive` and `exclude` are for clusters."""
        taken = {one.spec.number for one in self._running.values()}
        free = [spec for spec in self.workers if spec.number not in taken]
        for request, spec in zip(requests, free, strict=False):
            last = max(attempt_numbers(request.paths), default=0)
            process = self._start(spec, request.arguments)
            self._running[request.paths.root.name] = _Running(spec=spec, process=process, last_attempt=last)
        return Submitted(num_runs=min(len(requests), len(free)))

    def _start(self, spec: WorkerSpec, arguments: Sequence[str]) -> subprocess.Popen[bytes] | ForkedWorker:
        if spec.device != "cpu":  # CUDA must not be touched before a fork
            command = [*module_command(_WORKER), *arguments]
            return subprocess.Popen(command, env=spec.environment(), stdin=subprocess.DEVNULL)
        if self._server is None:
            self._server = ForkServer(module=_WORKER, preloaded=_PRELOADED, environment=spec.environment())
        return self._server.start(arguments)

    def stop(self, statuses: Sequence[RunStatus]) -> None:
        """Ask workers of this process to leave with a checkpoint; kill those that are still there after a minute."""
        self._stop(status.paths.root.name for status in statuses)

    def _stop(self, names: Iterable[str]) -> None:
        for one in (self._running[name] for name in names if name in self._running):
            if one.stop_sent is None:
                one.process.send_signal(signal.SIGTERM)
                one.stop_sent = time.monotonic()
            elif time.monotonic() - one.stop_sent > _GRACE_SECONDS:
                one.process.kill()

    def withdraw(self, statuses: Iterable[RunStatus]) -> None:
        """Do nothing: a run waits in the loop, not in a queue."""

    def tend(self, *, alive: bool, submitted: bool) -> None:
        """Do nothing: this process takes the next step."""

    def wait(self, on_tick: Callable[[], None]) -> None:
        """Return once a worker has ended, a stop is asked for, or a few seconds are over."""
        until = time.monotonic() + _LOOK_SECONDS
        stopping = bool(self.should_stop())
        while time.monotonic() < until:
            on_tick()
            if len(self.running) < len(self._running) or (self.should_stop() and not stopping):
                return
            time.sleep(_TICK_SECONDS)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End all workers, with a checkpoint where they leave in time; after a second Ctrl-C they leave alone."""
        while self.running and kind is not KeyboardInterrupt:
            self._stop(self.running)
            time.sleep(_TICK_SECONDS)
        if self._server is not None:
            self._server.close()


def _new_outcomes(paths: RunPaths, running: _Running | None, exit_status: int | None) -> list[NewOutcome]:
    """Return the outcomes of attempts that wrote none, and of a worker that ended before it made an attempt."""
    numbers = list(attempt_numbers(paths))
    found = []
    for number in numbers:
        if read_outcome(paths, number) is None:
            cause, evidence = _cause(exit_status if running is not None and number == numbers[-1] else None)
            outcome = unrecorded_outcome(paths, number, cause, evidence)
            found.append(NewOutcome(number=number, job_id=None, outcome=outcome))
    started = running is None or max(numbers, default=0) > running.last_attempt
    if not started and exit_status not in (EXIT_TAKEN, 0):
        outcome = unrecorded_outcome(paths, None, *_cause(exit_status))
        found.append(NewOutcome(number=None, job_id=None, outcome=outcome))
    return found


def _last_outcome(paths: RunPaths, new_outcomes: Sequence[NewOutcome]) -> Outcome | None:
    if new_outcomes:
        return new_outcomes[-1].outcome
    numbers = list(attempt_numbers(paths))
    return read_outcome(paths, numbers[-1]) if numbers else None


def _cause(exit_status: int | None) -> tuple[str, str]:
    """Return a cause and its evidence from a process's exit status."""
    if exit_status is None:
        return "lost", "it left no outcome"
    if exit_status < 0:
        return "killed", f"its process died of {signal.Signals(-exit_status).name}"
    return "lost", f"it left no outcome, but exit status {exit_status}"
