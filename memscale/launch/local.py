"""Workers on this machine: a process per run.

They stay in the pool's process group, so that a Ctrl-C or a kill of the group reaches all of them, and leave by
themselves when the pool dies.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from memscale.config.launcher import Launcher
from memscale.launch.pool import Starter, Task
from memscale.launch.workers import WorkerSpec


def worker_arguments(
    task: Task, worker: WorkerSpec, micro_batch: int | None, *, launcher: Launcher, data_folder: Path
) -> list[str]:
    """The command line of `memscale.launch.worker` for a task."""
    arguments = [str(task.paths.root), "--data", str(data_folder)]
    arguments += ["--threads", str(worker.threads), "--device", worker.device]
    arguments += ["--checkpoint-seconds", str(launcher.checkpoint_seconds), "--table-memory", launcher.table_memory]
    return arguments + (["--micro-batch", str(micro_batch)] if micro_batch is not None else [])


@dataclass(frozen=True, kw_only=True)
class LocalWorker:
    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def local_starter(launcher: Launcher, data_folder: Path) -> Starter:
    """Start workers as processes of this machine."""

    def start(task: Task, worker: WorkerSpec, micro_batch: int | None) -> LocalWorker:
        arguments = worker_arguments(task, worker, micro_batch, launcher=launcher, data_folder=data_folder)
        command = [sys.executable, "-m", "memscale.launch.worker", *arguments]
        return LocalWorker(process=subprocess.Popen(command, env=worker.environment(), stdin=subprocess.DEVNULL))

    return start
