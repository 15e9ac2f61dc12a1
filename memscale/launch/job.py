"""What a SLURM job runs: one worker, and afterwards the one thing that only the job itself can do at once: go on.

A job whose time is nearly up has left with a checkpoint, and puts itself back into the queue. After a preemption or
the failure of a node SLURM does that, and has sent SIGTERM: then this does not. A run whose job has left the queue for
good is submitted anew by `memscale.launch.advance`. So a run has one owner at any time.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from memscale.launch.worker import EXIT_STOPPED
from memscale.launch.worker import main as work
from memscale.records.attempts import attempt_numbers, read_outcome, slurm_job
from memscale.records.layout import RunPaths

log = logging.getLogger(__name__)


def run_job(arguments: tuple[str, ...]) -> None:
    """Run the worker with these arguments; exit with its status."""
    _set_threads(arguments)
    status = work(list(arguments))
    if status == EXIT_STOPPED and _time_is_up(RunPaths(Path(arguments[0]))):
        _requeue()
    sys.exit(status)


def _set_threads(arguments: tuple[str, ...]) -> None:
    threads = arguments[arguments.index("--threads") + 1]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _time_is_up(paths: RunPaths) -> bool:
    outcome = read_outcome(paths, max(attempt_numbers(paths)))
    return outcome is not None and outcome.cause == "time_limit"


def _requeue() -> None:
    job = slurm_job()
    if job is None:
        return
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        said = done.stderr.strip()
        log.warning("job %s may not put itself back into the queue (%s); it is submitted anew", job, said)
