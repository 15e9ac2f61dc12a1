"""Submits runs as SLURM job arrays through submitit, and adopts the arrays of a launcher that died meanwhile.

Runs with the same resources form an array, cut at the cluster's MaxArraySize. The file of a submission is written
before sbatch is called and again when it has answered: a job whose id was never written is found by its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from memscale.config.launcher import Launcher
from memscale.launch.executor import JobRequest, Submitted
from memscale.launch.slurm import commands
from memscale.launch.slurm.commands import FullError, QueueEntry, RefusedError, SlurmError
from memscale.launch.slurm.job import run_job
from memscale.launch.slurm.script import job_parameters, mounts, output_parameters
from memscale.records.layout import SweepPaths
from memscale.records.submissions import (
    Refusal,
    Submission,
    accepted,
    forget,
    new_submission,
    submissions,
    withdrawn,
    write_refusals,
    write_submission,
)

_UNSEEN_SECONDS = 15.0
"""An sbatch that outlives its launcher may be heard this much later."""


@dataclass(frozen=True, kw_only=True)
class _Jobs:
    """Runs that go into arrays of their own: their jobs ask for the same."""

    paths: SweepPaths
    code: Path
    resources: Launcher
    exclude: Sequence[str]
    """Nodes that get no job, where there are others."""
    at_once: int | None
    """Of the array's runs; None: all."""


def submit(
    paths: SweepPaths,
    launcher: Launcher,
    code: Path,
    requests: Sequence[JobRequest],
    *,
    num_alive: int,
    exclude: Sequence[str],
    on_full: Callable[[], None] = lambda: None,
) -> Submitted:
    """Submit runs as job arrays, as few as MaxArraySize and their resources allow.

    Where there is no room for a whole array, as many of its runs are submitted as there is room for. Runs whose job
    sbatch refuses do not keep the others from being submitted. Both are written down (`read_refusals`).

    Args:
        paths: The sweep's folder.
        launcher: The sweep's launcher. Its `workers`, less `num_alive`, are divided among the arrays.
        code: The snapshot of the code that the jobs run.
        requests: The runs, the one to start first in front.
        num_alive: Jobs of the sweep that there are already.
        exclude: Nodes that get no job, where there are others.
        on_full: Called once where there is no room for all, before the last room is taken.

    Returns:
        How many have a job, and why the others have none.

    Raises:
        SlurmError: SLURM does not answer. The arrays that it accepted before stay submitted.

    """
    if not requests:
        return Submitted(num_runs=0)
    groups: dict[tuple[Launcher, tuple[str, ...]], list[JobRequest]] = {}
    for request in requests:
        groups.setdefault((request.resources or launcher, request.avoid), []).append(request)
    size = commands.max_array_size()
    chunks = [(*key, chunk) for key, group in groups.items() for chunk in _cut(group, size)]
    at_once = None
    if launcher.workers is not None:
        at_once = max(1, (launcher.workers - num_alive) // len(chunks))
    num_runs, refusals, full = 0, dict[str, Refusal](), ""
    for resources, avoid, chunk in chunks:
        jobs = _Jobs(paths=paths, code=code, resources=resources, exclude=(*exclude, *avoid), at_once=at_once)
        done, error = (0, FullError(full)) if full else _submit_all(jobs, chunk, on_full)
        num_runs += done
        if error is not None:
            full = full or (str(error) if isinstance(error, FullError) else "")
            refusal = Refusal(why=str(error), full=isinstance(error, FullError))
            refusals |= {request.paths.root.name: refusal for request in chunk[done:]}
    write_refusals(paths, refusals)
    refused = {run: refusal.why for run, refusal in refusals.items() if not refusal.full}
    return Submitted(num_runs=num_runs, refused=refused, full=full)


def _submit_all(jobs: _Jobs, chunk: Sequence[JobRequest], on_full: Callable[[], None]) -> tuple[int, SlurmError | None]:
    """Submit as many of the runs as sbatch takes; return how many, and why no more."""
    done, size, asked = 0, len(chunk), False
    while done < len(chunk):
        part = chunk[done : done + size]
        try:
            _submit_anywhere(jobs, part)
            done += len(part)
        except FullError as error:
            if not asked:
                on_full()
            asked = True
            if len(part) == 1:
                return done, error
            size = len(part) // 2
        except RefusedError as error:
            return done, error
    return done, None


def _submit_anywhere(jobs: _Jobs, chunk: Sequence[JobRequest]) -> None:
    """Submit one array, on the excluded nodes too where there are no others."""
    try:
        _submit(jobs, chunk)
    except RefusedError as error:
        if isinstance(error, FullError) or not jobs.exclude:
            raise
        _submit(replace(jobs, exclude=()), chunk)


def _submit(jobs: _Jobs, chunk: Sequence[JobRequest]) -> None:
    """Submit one array. Raises RefusedError, FullError, or SlurmError where it may have been taken all the same."""
    paths, resources = jobs.paths, jobs.resources
    submission = new_submission(paths.root.name, tuple(request.paths.root.name for request in chunk))
    write_submission(paths, submission)
    executor = submitit.SlurmExecutor(folder=(folder := _folder(paths, submission)))
    folders = mounts(paths, jobs.code) if resources.container else ()
    parameters = job_parameters(resources, jobs.code, exclude=jobs.exclude, folders=folders)
    parameters = output_parameters(parameters, folder, is_array=len(chunk) > 1)
    executor.update_parameters(
        job_name=submission.name, array_parallelism=jobs.at_once or len(chunk), stderr_to_stdout=True, **parameters
    )
    try:
        array = executor.map_array(run_job, [request.arguments for request in chunk])
    except (FailedJobError, FailedSubmissionError) as error:
        refused = commands.refused_by(str(error))
        if refused is FullError:
            forget(paths, submission)
        elif refused is not None:
            withdrawn(paths, submission)
        raise (refused or SlurmError)(f"sbatch refused {len(chunk)} runs of {paths.root.name}: {error}") from None
    accepted(paths, submission, array[0].job_id.partition("_")[0])


def _cut(requests: Sequence[JobRequest], max_array_size: int) -> list[Sequence[JobRequest]]:
    """Cut the requests into arrays; MaxArraySize is one more than the largest index."""
    size = max(1, max_array_size)
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def waiting_jobs(paths: SweepPaths) -> int:
    """Return how many of the sweep's jobs wait in the queue. Raises SlurmError."""
    names = {one.name for one in submissions(paths) if not one.void}
    return sum(entry.waiting and entry.name in names for entry in commands.queue().values())


def adopt_orphans(paths: SweepPaths, queue: Mapping[str, QueueEntry]) -> bool:
    """Find the jobs of submissions whose launcher died before it wrote down their array's id.

    An array whose elements can all start is adopted. One whose launcher died before submitit had written a pickle for
    each element is cancelled: those elements would wait for it in vain.

    Args:
        paths: The sweep's folder.
        queue: SLURM's queue, asked right before.

    Returns:
        Whether every submission is known to be an array, or to be none.

    """
    settled = True
    by_name: dict[str, str] = {entry.name: job_id.partition("_")[0] for job_id, entry in queue.items()}
    for submission in submissions(paths):
        if submission.void or submission.array is not None:
            continue
        array = by_name.get(submission.name)
        if array is not None and _in_place(paths, replace(submission, array=array)):
            accepted(paths, submission, array)
        elif array is not None:
            commands.cancel([array])
            settled = False  # until its elements, some of which may train, have left the queue
        elif time.time() - submission.submitted > _UNSEEN_SECONDS:
            withdrawn(paths, submission)
        else:
            settled = False
    return settled


def _in_place(paths: SweepPaths, submission: Submission) -> bool:
    """Whether submitit has put every entry's task where the entry looks for it."""
    folder, job_ids = _folder(paths, submission), [submission.job_id(i) for i in range(len(submission.runs))]
    return all(JobPaths(folder, job_id).submitted_pickle.exists() for job_id in job_ids)


def job_output(paths: SweepPaths, submission: Submission, job_id: str) -> Path:
    """Return the file of a job's own output: of its start, before the worker had a log, and SLURM's messages."""
    return Path(JobPaths(_folder(paths, submission), job_id, 0).stdout)


def job_outputs(paths: SweepPaths) -> dict[str, Path]:
    """Return the output file of every run's last job, by the name of the run's folder; none without SLURM."""
    return {
        run: job_output(paths, submission, job)
        for submission in submissions(paths)
        if not submission.void
        for i, run in enumerate(submission.runs)
        if (job := submission.job_id(i)) is not None
    }


def _folder(paths: SweepPaths, submission: Submission) -> Path:
    return paths.slurm / submission.uid
