"""Submits runs as SLURM arrays through submitit, and finds what a launcher that died in between left behind.

Runs that ask for the same are an array, cut at the cluster's MaxArraySize, and the runs at work at once are divided
among the arrays. What is to be submitted is written down before sbatch is called: a job that nobody wrote down is found
by its name.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from memscale.config.launcher import Launcher
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.slurm.commands import Element, SlurmError
from memscale.launch.slurm.job import run_job
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.submissions import Submission, accepted, new_submission, submissions, withdrawn, write_submission

_UNSEEN_SECONDS = 15.0
"""An sbatch that outlives its launcher may be heard this much later."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A run to be submitted."""

    paths: RunPaths
    arguments: tuple[str, ...]
    """Of `memscale.launch.worker`."""
    asks: Launcher | None = None
    """What its job asks for; None: what the sweep's launcher does."""
    avoid: tuple[str, ...] = ()
    """Nodes that it should not get, where there are others."""


def submit(
    paths: SweepPaths, launcher: Launcher, code: Path, orders: Sequence[Order], *, alive: int, exclude: Sequence[str]
) -> list[Submission]:
    """Submit the runs, in their order, as few arrays as the cluster and what they ask for allow. `alive`: jobs of the
    sweep that there are; those that the launcher's workers leave are divided among the arrays.

    Raises SlurmError where sbatch refuses one; what was accepted before it stays so.
    """
    if not orders:
        return []
    groups: dict[tuple[Launcher, tuple[str, ...]], list[Order]] = {}
    for order in orders:
        groups.setdefault((order.asks or launcher, order.avoid), []).append(order)
    size = slurm_commands.max_array_size()
    chunks = [(*key, chunk) for key, group in groups.items() for chunk in _cut(group, size)]
    at_once = None
    if launcher.workers is not None:
        at_once = max(1, (launcher.workers - alive) // len(chunks))
    done = []
    for asks, avoid, chunk in chunks:
        try:
            done.append(_submit(paths, asks, code, chunk, at_once, (*exclude, *avoid)))
        except SlurmError:
            if not (exclude or avoid):
                raise
            done.append(_submit(paths, asks, code, chunk, at_once, ()))  # there may be no other nodes
    return done


def _submit(
    paths: SweepPaths,
    asks: Launcher,
    code: Path,
    chunk: Sequence[Order],
    at_once: int | None,
    exclude: Sequence[str],
) -> Submission:
    """Submit one array. Raises SlurmError where it is refused."""
    submission = new_submission(paths.root.name, tuple(order.paths.root.name for order in chunk))
    write_submission(paths, submission)
    executor = submitit.SlurmExecutor(folder=_folder(paths, submission))
    parameters = job_parameters(asks, code, exclude=exclude)
    executor.update_parameters(
        job_name=submission.name, array_parallelism=at_once or len(chunk), stderr_to_stdout=True, **parameters
    )
    try:
        jobs = executor.map_array(run_job, [order.arguments for order in chunk])
    except (FailedJobError, FailedSubmissionError) as error:
        withdrawn(paths, submission)
        raise SlurmError(f"sbatch refused {len(chunk)} runs of {paths.root.name}: {error}") from None
    return accepted(paths, submission, jobs[0].job_id.partition("_")[0])


def _cut(orders: Sequence[Order], max_array_size: int) -> list[Sequence[Order]]:
    """MaxArraySize is one more than the largest index."""
    size = max(1, max_array_size)
    return [orders[start : start + size] for start in range(0, len(orders), size)]


def job_parameters(launcher: Launcher, code: Path, *, exclude: Sequence[str] = ()) -> dict[str, Any]:
    """Return what submitit asks SLURM for, for one run."""
    nodes = [*(launcher.exclude.split(",") if launcher.exclude else []), *exclude]
    setup = [*launcher.setup, f"export PYTHONPATH={code}", "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]
    given: dict[str, Any] = {
        "time": launcher.minutes,
        "nodes": launcher.nodes_per_run,
        "ntasks_per_node": launcher.processes_per_run // launcher.nodes_per_run,
        "cpus_per_task": launcher.cpus_per_run,
        "gpus_per_node": launcher.gpus_per_run or None,
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "gres": launcher.gres,
        "exclude": ",".join(dict.fromkeys(nodes)) or None,
        "signal_delay_s": min(launcher.stop_seconds, launcher.minutes * 30),
        "setup": setup,
        "additional_parameters": {"mem": launcher.memory, "requeue": True},
        "srun_args": _srun_options(launcher) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _srun_options(launcher: Launcher) -> list[str]:
    options = [f"--container-image={launcher.container}"] if launcher.container else []
    return [*options, "--kill-on-bad-exit=1"] if launcher.processes_per_run > 1 else options


def recover(paths: SweepPaths, queue: Mapping[str, Element]) -> bool:
    """Take up the intents of a launcher that died before it wrote down a job id; whether all are settled by now.

    An array whose elements can all start is adopted. One that was cut off before submitit had put its tasks in place is
    cancelled: those elements would wait for their tasks in vain.
    """
    settled = True
    by_name: dict[str, str] = {element.name: job_id.partition("_")[0] for job_id, element in queue.items()}
    for submission in submissions(paths):
        if submission.void or submission.array is not None:
            continue
        array = by_name.get(submission.name)
        if array is not None and _in_place(paths, replace(submission, array=array)):
            accepted(paths, submission, array)
        elif array is not None:
            slurm_commands.cancel([array])
            settled = False  # until its elements, some of which may train, have left
        elif time.time() - submission.submitted > _UNSEEN_SECONDS:
            withdrawn(paths, submission)
        else:
            settled = False
    return settled


def _in_place(paths: SweepPaths, submission: Submission) -> bool:
    """Whether submitit has put every element's task where the element looks for it."""
    folder, job_ids = _folder(paths, submission), [submission.job_id(i) for i in range(len(submission.runs))]
    return all(JobPaths(folder, job_id).submitted_pickle.exists() for job_id in job_ids)


def job_output(paths: SweepPaths, submission: Submission, job_id: str) -> Path:
    """Return where a job's own output lies: what it said before its worker had a log, and what SLURM said to it."""
    return Path(JobPaths(_folder(paths, submission), job_id, 0).stdout)


def job_outputs(paths: SweepPaths) -> dict[str, Path]:
    """Return where the output of every run's last job lies, by the name of the run's folder; none without SLURM."""
    return {
        run: job_output(paths, submission, job)
        for submission in submissions(paths)
        if not submission.void
        for i, run in enumerate(submission.runs)
        if (job := submission.job_id(i)) is not None
    }


def _folder(paths: SweepPaths, submission: Submission) -> Path:
    return paths.slurm / submission.uid
