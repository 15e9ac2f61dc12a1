"""What a run's SLURM job does: one worker, and then what only the job itself can do.

1. It ensures that a controller is in the queue: a slurmctld that crashes forgets the jobs of its last seconds.
2. Where its time limit ended the attempt, with a checkpoint, it requeues itself.

After a preemption or a node's failure SLURM requeues the job itself. A run whose job has left the queue for good is
submitted anew by `memscale.launch.reconcile`. So a run has one job at any time.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from memscale.errors import MemscaleError
from memscale.launch.slurm import commands
from memscale.launch.slurm.controllers import ensure_one_controller
from memscale.launch.worker import EXIT_STOPPED
from memscale.launch.worker import main as work
from memscale.launch.workers import TORCH_NAMES
from memscale.records.attempts import attempt_numbers, read_outcome, slurm_job
from memscale.records.launch_file import read_launch
from memscale.records.layout import RunPaths, SweepPaths

log = logging.getLogger(__name__)
_FIRST_PORT, _NUM_PORTS = 20000, 12000
"""Below those that kernels hand out."""


def run_job(arguments: tuple[str, ...]) -> None:
    """Run the worker with these arguments; exit with its status."""
    _set_threads(arguments)
    for name in TORCH_NAMES:
        os.environ.pop(name, None)
    os.environ.update(torch_environment())
    paths = RunPaths(Path(arguments[0]))
    status, job = work(list(arguments)), slurm_job()
    if os.environ.get("RANK", "0") != "0":
        sys.exit(status)
    _ensure_controller(SweepPaths(paths.root.parent))
    if status == EXIT_STOPPED and job is not None and _time_is_up(paths):
        _requeue(job)
    sys.exit(status)


def torch_environment() -> dict[str, str]:
    """Return what torch.distributed needs to know where srun started several processes; nothing where it started one.

    They meet at the first node, at a port that comes from the job's number: jobs on one node do not meet each other's.
    """
    size = int(os.environ.get("SLURM_NTASKS", "1"))
    if size == 1:
        return {}
    return {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "MASTER_ADDR": commands.address_of_first(os.environ["SLURM_JOB_NODELIST"]),
        "MASTER_PORT": str(_FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % _NUM_PORTS),
    }


def _set_threads(arguments: tuple[str, ...]) -> None:
    threads = arguments[arguments.index("--threads") + 1]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _time_is_up(paths: RunPaths) -> bool:
    outcome = read_outcome(paths, max(attempt_numbers(paths)))
    return outcome is not None and outcome.cause == "time_limit"


def _ensure_controller(paths: SweepPaths) -> None:
    commands.leave_job()
    try:
        launch = read_launch(paths)
        if launch is not None and not paths.cancel.exists():
            ensure_one_controller(launch, paths)
    except MemscaleError as error:
        log.warning("whether a controller of %s is in the queue is not known: %s", paths.root.name, error)


def _requeue(job: str) -> None:
    done = subprocess.run(
        ["scontrol", "requeue", job], capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False
    )
    if done.returncode != 0:
        log.warning(
            "job %s may not put itself back into the queue (%s); it is submitted anew", job, done.stderr.strip()
        )
