"""The workers of this machine: how many runs train at once, and what each of them gets.

A GPU each where there are GPUs; otherwise a core each, the cores divided among the workers that were asked for.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, replace

from memscale.config.launcher import Launcher

TORCH_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that make a worker one of several; who starts it decides that, not the shell that it is started from."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What one worker of a machine gets."""

    number: int
    threads: int
    device: str
    """'cpu' or 'cuda'."""
    gpu: str | None
    """What CUDA_VISIBLE_DEVICES is set to."""
    machine: str
    """What measured speeds are kept under: a kind of machine and its threads."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables of such a worker."""
        environment = {name: value for name, value in os.environ.items() if name not in TORCH_NAMES}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(self.threads)
        environment["CUDA_VISIBLE_DEVICES"] = self.gpu or ""
        environment["TOKENIZERS_PARALLELISM"] = "false"
        return environment


def workers_for(launcher: Launcher, num_runs: int) -> tuple[WorkerSpec, ...]:
    """The workers of a launcher. On SLURM as many as runs may be queued at once: it divides its nodes itself."""
    if launcher.name != "slurm":
        return local_workers(launcher.workers)
    nodes = f" on each of {launcher.nodes_per_run} nodes" if launcher.nodes_per_run > 1 else ""
    kind = f"SLURM {launcher.partition or ''} {launcher.constraint or ''}".strip()
    worker = WorkerSpec(
        number=0,
        threads=launcher.cpus_per_run,
        device="cuda" if launcher.gpus_per_run else "cpu",
        gpu=None,
        machine=f"{kind}, {launcher.cpus_per_run} cores and {launcher.gpus_per_run} GPUs a run{nodes}",
    )
    return tuple(replace(worker, number=i) for i in range(launcher.workers or max(1, num_runs)))


def local_workers(asked: int | None) -> tuple[WorkerSpec, ...]:
    """Divide this machine into `asked` workers (None: one a GPU, or without GPUs one a core)."""
    gpus = find_gpus()
    cores = len(os.sched_getaffinity(0))
    number = asked or len(gpus) or cores
    threads = max(1, cores // number)
    return tuple(
        WorkerSpec(
            number=i,
            threads=threads,
            device="cuda" if gpus else "cpu",
            gpu=gpus[i % len(gpus)] if gpus else None,
            machine=f"{platform.node()}, {os.cpu_count()} cores, {len(gpus)} GPUs, {threads} threads a run",
        )
        for i in range(number)
    )


def find_gpus() -> tuple[str, ...]:
    """The indices of the GPUs that this process may use, without importing torch."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1"))
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    listed = subprocess.run(
        [command, "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=False
    )
    if listed.returncode != 0:
        return ()
    return tuple(str(i) for i, line in enumerate(x for x in listed.stdout.splitlines() if x.startswith("GPU ")))
