"""SLURM as an executor: job arrays are submitted, squeue and the files observed, and small jobs take the next steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from memscale.launch.executor import JobRequest, RunStatus, Submitted
from memscale.launch.slurm import commands
from memscale.launch.slurm.arrays import adopt_orphans, submit
from memscale.launch.slurm.commands import QueueEntry, SlurmError
from memscale.launch.slurm.controllers import cancel_controllers, ensure_controllers, ensure_look
from memscale.launch.slurm.snapshot import SweepSnapshot, snapshot_of
from memscale.records.atomic import write_bytes
from memscale.records.attempts import slurm_job
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.submissions import users_of

_PAUSE_SECONDS = 3.0


@dataclass(kw_only=True)
class SlurmExecutor:
    """Submits a sweep's runs to SLURM. See `memscale.launch.executor.Executor` for the methods.

    Whoever makes one inside a job has to leave the job's environment (`for_this_process`): sbatch would take the
    job's options for its own.
    """

    reports_ends: ClassVar[bool] = False
    launch: Launch
    paths: SweepPaths
    own_job: str | None = None
    """The id of the controller job that this process is, which does not count as a controller in the queue."""
    _queue: Mapping[str, QueueEntry] = field(default_factory=dict)
    _snapshot: SweepSnapshot | None = None

    @classmethod
    def for_this_process(cls, launch: Launch, paths: SweepPaths) -> SlurmExecutor:
        """Return an executor, and remove the variables of the SLURM job that this process may run in."""
        own_job = slurm_job()
        commands.leave_job()
        return cls(launch=launch, paths=paths, own_job=own_job)

    def refresh(self) -> bool:
        """Ask for the queue; adopt or cancel the arrays of a launcher that died while it submitted them."""
        self._queue = commands.queue(users_of(self.paths))
        adopted = adopt_orphans(self.paths, self._queue)
        self._snapshot = snapshot_of(self.launch, self.paths, self._queue)
        return adopted

    def observe(self, runs: Iterable[RunPaths]) -> list[RunStatus]:
        """Return the status of each run; keep since when unsettled jobs have been missing."""
        if self._snapshot is None:
            self.refresh()
        assert self._snapshot is not None
        statuses = self._snapshot.observe(runs)
        self._snapshot.remember()
        return statuses

    def submit(self, requests: Sequence[JobRequest], *, num_alive: int, exclude: Sequence[str]) -> Submitted:
        """Submit the runs as job arrays; SLURM starts them as there is room."""
        launcher, code = self.launch.sweep.launcher, Path(self.launch.code)
        return submit(
            self.paths, launcher, code, requests, num_alive=num_alive, exclude=exclude, on_full=self._keep_a_place
        )

    def _keep_a_place(self) -> None:
        """Submit the next controller before the runs take the last room in the queue."""
        with suppress(SlurmError):  # there is no room at all, or SLURM is silent, which the caller finds out
            ensure_look(self.launch, self.paths, own_job=self.own_job)

    def stop(self, statuses: Sequence[RunStatus]) -> None:
        """Put a stop file into the folders of the runs at work, and cancel the waiting jobs."""
        for status in statuses:
            if status.state == "working":
                write_bytes(status.paths.stop, b"")
        self.withdraw(status for status in statuses if status.entry is not None and status.entry.waiting)

    def withdraw(self, statuses: Iterable[RunStatus]) -> None:
        """Cancel the jobs of these runs."""
        commands.cancel(status.entry.job_id for status in statuses if status.entry is not None)

    def tend(self, *, alive: bool, submitted: bool) -> None:
        """Ensure that controller jobs are in the queue while runs are left; cancel them afterwards."""
        if alive:
            ensure_controllers(self.launch, self.paths, own_job=self.own_job, submitted=submitted)
        else:
            cancel_controllers(self.paths, own_job=self.own_job)

    def wait(self, on_tick: Callable[[], None]) -> None:
        """Wait a few seconds: SLURM is asked no more often than that."""
        on_tick()
        time.sleep(_PAUSE_SECONDS)
