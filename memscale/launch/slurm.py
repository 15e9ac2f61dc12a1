"""Workers on a SLURM cluster: a job per run, submitted through submitit.

Whether a job still exists is asked of `squeue`, for all jobs at once and at most every few seconds; how it ended is
read from the run's files, as everywhere. A job is asked to leave by the run's stop file, which works across nodes.
"""

from __future__ import annotations

import math
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit

from memscale.config.launcher import Launcher
from memscale.errors import MemscaleError
from memscale.launch.local import worker_arguments
from memscale.launch.pool import Starter, Task
from memscale.launch.slots import Slot
from memscale.launch.worker import main as work
from memscale.records.atomic import write_bytes

_ASK_SECONDS = 3.0
_UNSEEN_SECONDS = 30.0
"""A job that `squeue` does not know yet is given this long to appear."""


class SlurmError(MemscaleError):
    """SLURM refused a job or a question."""


@dataclass(kw_only=True)
class Queue:
    """Which of our jobs SLURM still knows, asked at most every few seconds."""

    _asked: float = -math.inf
    _jobs: frozenset[str] = frozenset()

    def __contains__(self, job_id: str) -> bool:
        if time.monotonic() - self._asked > _ASK_SECONDS:
            command = ["squeue", "--me", "--noheader", "--format=%A"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode == 0:  # a controller that does not answer says nothing about the jobs
                self._jobs = frozenset(done.stdout.split())
                self._asked = time.monotonic()
            elif self._asked == -math.inf:
                raise SlurmError(f"squeue does not answer: {done.stderr.strip()}. Check the cluster, then start again")
        return job_id in self._jobs


@dataclass(kw_only=True)
class SlurmWorker:
    job_id: str
    task: Task
    queue: Queue
    _seen: bool = False
    _submitted: float = field(default_factory=time.monotonic)

    def poll(self) -> int | None:
        if self.job_id in self.queue:
            self._seen = True
            return None
        waits = not self._seen and time.monotonic() - self._submitted < _UNSEEN_SECONDS
        return None if waits and not self.task.paths.result.exists() else 0

    def stop(self) -> None:
        write_bytes(self.task.paths.stop, b"")

    def kill(self) -> None:
        subprocess.run(["scancel", self.job_id], capture_output=True, timeout=60, check=False)


def slurm_starter(launcher: Launcher, data_folder: Path, folder: Path) -> Starter:
    """Start workers as SLURM jobs; submitit keeps their scripts and output in `folder`."""
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(**_parameters(launcher))
    queue = Queue()

    def start(task: Task, slot: Slot, micro_batch: int | None) -> SlurmWorker:
        arguments = worker_arguments(task, slot, micro_batch, launcher=launcher, data_folder=data_folder)
        try:
            job = executor.submit(work, arguments)
        except submitit.core.utils.FailedJobError as error:
            raise SlurmError(f"sbatch refused the run {task.name}: {error}") from None
        return SlurmWorker(job_id=job.job_id, task=task, queue=queue)

    return start


def _parameters(launcher: Launcher) -> dict[str, Any]:
    given: dict[str, Any] = {
        "job_name": "memscale",
        "time": launcher.minutes,
        "cpus_per_task": launcher.cpus_per_run,
        "mem": launcher.memory,
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "setup": list(launcher.setup),
    }
    if launcher.gpus_per_run:
        given["gpus_per_node"] = launcher.gpus_per_run
    return {name: value for name, value in given.items() if value not in (None, [])}
