"""The interface between the reconcile loop and a scheduler.

`memscale.launch.reconcile` decides what happens to a run; an executor carries it out and observes it. There are two:
the processes of this machine (`memscale.launch.local`) and SLURM (`memscale.launch.slurm.executor`). Another scheduler
is a third class with these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from memscale.config.launcher import Launcher
from memscale.launch.workers import WorkerSpec
from memscale.records.attempts import Outcome, record_never_started, write_outcome
from memscale.records.layout import RunPaths

if TYPE_CHECKING:
    from memscale.launch.slurm.commands import QueueEntry
    from memscale.records.submissions import Refusal

RUN_STATES = ("done", "cancelled", "working", "queued", "unsettled", "unsubmitted")
"""The state of a run by the scheduler and the files:

- `done`: it has a result.
- `cancelled`: no job is there for it, and somebody asked it to stop.
- `working`: a worker trains it, or its job has left the queue's waiting states.
- `queued`: its job waits.
- `unsettled`: its job is gone without an outcome, and it is too early to decide how it ended.
- `unsubmitted`: no job is there for it.
"""


@dataclass(frozen=True, kw_only=True)
class NewOutcome:
    """The outcome of an attempt that ended without writing one, or that the scheduler explains better."""

    number: int | None
    """The attempt; None for a job that ended before it made one."""
    job_id: str | None
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run as an executor observes it."""

    paths: RunPaths
    state: str
    """One of RUN_STATES."""
    entry: QueueEntry | None = None
    """Its job in SLURM's queue."""
    trains_on: str = ""
    """The node where a worker holds its lease."""
    outcomes: tuple[Outcome, ...] = ()
    """Of its attempts that ended since the launch, in order."""
    new_outcomes: tuple[NewOutcome, ...] = ()
    """Those of `outcomes` that have to be written."""
    just_ended: Outcome | None = None
    """How its attempt ended, where that was not so at the last look; only where the executor saw it run."""
    refusal: Refusal | None = None
    """Why the scheduler took no job of it, where it has none."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A run to be submitted."""

    paths: RunPaths
    arguments: tuple[str, ...]
    """Of `memscale.launch.worker`."""
    resources: Launcher | None = None
    """Resources of its job; None: those of the sweep's launcher."""
    avoid: tuple[str, ...] = ()
    """Nodes that it should not get, where there are others."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What a scheduler took of the runs that it was given."""

    num_runs: int
    """That have a job now."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Folder of a run -> why its job is refused as it is: a person has to act."""
    full: str = ""
    """Why there is no room for the others now, beside workers that are all taken; '' where there was."""


class Executor(Protocol):
    """A scheduler, as the reconcile loop sees it. Raises SlurmError where the scheduler does not answer."""

    reports_ends: ClassVar[bool]
    """Whether `RunStatus.just_ended` shows every attempt that ends; where it does not, finished runs are only found
    by their results."""

    def refresh(self) -> bool:
        """Ask the scheduler for its queue, and adopt jobs that a dead launcher left; False while some are unclear."""

    def observe(self, runs: Iterable[RunPaths]) -> list[RunStatus]:
        """Return the status of each run, from the files and the queue of the last `refresh`."""

    def submit(self, requests: Sequence[JobRequest], *, num_alive: int, exclude: Sequence[str]) -> Submitted:
        """Submit runs, in this order, as many as there is room for beside `num_alive`; return what was taken."""

    def stop(self, statuses: Sequence[RunStatus]) -> None:
        """Ask the runs at work to leave with a checkpoint, and take the waiting ones out of the queue."""

    def withdraw(self, statuses: Iterable[RunStatus]) -> None:
        """Take the jobs of these runs out of the queue."""

    def tend(self, *, alive: bool, submitted: bool) -> None:
        """Ensure that the next step is taken (`alive`), or after the last one that no job is left to take it."""

    def wait(self, on_tick: Callable[[], None]) -> None:
        """Return when there may be news; call `on_tick` meanwhile."""


def worker_arguments(
    run: RunPaths, spec: WorkerSpec, launcher: Launcher, *, micro_batch: int | None
) -> tuple[str, ...]:
    """Return the command line of `memscale.launch.worker` for a run.

    Args:
        run: The run's folder.
        spec: The threads and device that it gets.
        launcher: The launcher with the run's resources.
        micro_batch: Sequences processed at once; None lets the trainer find how many fit.

    """
    arguments = [str(run.root), "--threads", str(spec.threads), "--device", spec.device]
    arguments += ["--checkpoint-seconds", f"{launcher.checkpoint_seconds}", "--table-memory", launcher.table_memory]
    arguments += [] if launcher.record_diff else ["--no-diff"]
    return tuple(arguments) + (("--micro-batch", str(micro_batch)) if micro_batch is not None else ())


def write_new_outcomes(status: RunStatus) -> None:
    """Write the outcomes that an executor found out; one of a job without an attempt becomes an attempt's."""
    for new in status.new_outcomes:
        if new.number is not None:
            write_outcome(status.paths, new.number, new.outcome)
        else:
            record_never_started(status.paths, new.job_id, new.outcome)
