"""The attempts of a run: numbered folders, each with its submission, its log and, once it has ended, its outcome."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memscale.errors import RecordError
from memscale.records.atomic import read_json, read_object, write_json
from memscale.records.layout import RunPaths

FORMAT = 1
CAUSES = (
    "done", "stopped", "preempted", "time_limit", "cancelled", "node_failure", "gpu_out_of_memory",
    "host_out_of_memory", "disk_full", "diverged", "bad_config", "error", "killed", "lost", "unknown",
)  # fmt: skip
INTERRUPTIONS = ("stopped", "preempted", "time_limit")
"""Causes that are no fault of the run."""
STATE_AFTER = {
    "stopped": "planned", "preempted": "planned", "time_limit": "planned", "cancelled": "planned",
    "node_failure": "lost", "killed": "lost", "lost": "lost", "unknown": "lost",
}  # fmt: skip
"""A run's state after an attempt that ended so, without a result; after any other end it has failed."""
_FORMER = {"out_of_memory": "host_out_of_memory"}
"""Causes that older files have."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    cause: str
    """One of CAUSES."""
    evidence: str
    """What shows it: an error's text, a signal, an exit status."""
    started: float
    ended: float
    host: str
    trace: str = ""
    """The traceback's frames in short, to recognise the same fault in another run."""
    step: int = 0
    """Of the last checkpoint that it left."""


def host_name() -> str:
    """This node as SLURM calls it, else this machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def slurm_job() -> str | None:
    """The SLURM job that this process belongs to, as `scontrol` takes it: 17, or 17_4 for the fourth of an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def new_attempt(paths: RunPaths, *, threads: int, device: str, code: str = "") -> int:
    """Create the next attempt's folder with its submission; return its number (from 1). `code`: its digest."""
    paths.attempts.mkdir(parents=True, exist_ok=True)
    number = max(attempt_numbers(paths), default=0) + 1
    paths.attempt(number).mkdir()
    submission = {
        "started": round(time.time(), 3),
        "host": host_name(),
        "pid": os.getpid(),
        "job_id": slurm_job(),
        "command": sys.argv,
        "python": platform.python_version(),
        "threads": threads,
        "device": device,
        "code": code,
    }
    write_json(paths.attempt(number) / "submission.json", submission, format=FORMAT)
    return number


def attempt_numbers(paths: RunPaths) -> Iterator[int]:
    """Yield the numbers of a run's attempts, in increasing order; none where their folder cannot be read."""
    try:
        names = os.listdir(paths.attempts)
    except OSError:
        return
    yield from sorted(int(name) for name in names if name.isdecimal() and paths.attempt(int(name)).is_dir())


def log_path(paths: RunPaths, number: int, rank: int = 0) -> Path:
    """Return the log of one of an attempt's processes."""
    return paths.attempt(number) / (f"log-{rank}.txt" if rank else "log.txt")


def unrecorded_outcome(
    paths: RunPaths, number: int | None, cause: str, evidence: str, *, trace: str = "", host: str = ""
) -> Outcome:
    """Return the outcome of an attempt that wrote none, or (None) of a job that ended before it made an attempt."""
    return Outcome(
        cause=cause,
        evidence=evidence,
        started=time.time() if number is None else started_at(paths, number),
        ended=time.time(),
        host=host or ("" if number is None else host_of(paths, number)),
        trace=trace,
        step=last_step(paths),
    )


def record_never_started(paths: RunPaths, job: str | None, outcome: Outcome) -> None:
    """Record the end of a job that made no attempt of its run as an attempt, so that it counts as one."""
    paths.attempts.mkdir(parents=True, exist_ok=True)
    number = max(attempt_numbers(paths), default=0) + 1
    paths.attempt(number).mkdir()
    submission = {"started": outcome.started, "host": outcome.host, "pid": 0, "job_id": job, "command": []}
    write_json(paths.attempt(number) / "submission.json", submission, format=FORMAT)
    write_outcome(paths, number, outcome)


def write_outcome(paths: RunPaths, number: int, outcome: Outcome, rank: int = 0) -> None:
    """Write how an attempt ended.

    A process other than the first (`rank` above 0) writes its fault, which the first makes the attempt's outcome.
    """
    assert outcome.cause in CAUSES
    write_json(_outcome(paths, number, rank), asdict(outcome), format=FORMAT)


def read_outcome(paths: RunPaths, number: int, rank: int = 0) -> Outcome | None:
    """Return how an attempt ended.

    None where no outcome was written: it runs, or died before it could write one. Of a damaged file the cause is
    `unknown`, and the evidence says what is wrong with it: the run can be tried again as after any unknown end.
    """
    path = _outcome(paths, number, rank)
    if not os.path.lexists(path):
        return None
    try:
        outcome = read_object(Outcome, path, format=FORMAT)
        cause = _FORMER.get(outcome.cause, outcome.cause)
        if cause not in CAUSES:
            raise RecordError(f"{path} names the cause '{cause}', which this memscale does not know")
        return replace(outcome, cause=cause)
    except RecordError as error:
        when = path.lstat().st_mtime
        return Outcome(cause="unknown", evidence=str(error), started=when, ended=when, host="")


def _outcome(paths: RunPaths, number: int, rank: int) -> Path:
    return paths.attempt(number) / (f"outcome-{rank}.json" if rank else "outcome.json")


def started_at(paths: RunPaths, number: int) -> float:
    """Return when an attempt started, in Unix seconds; where that cannot be read, when its folder was changed."""
    found = _submission(paths, number).get("started")
    return float(found) if isinstance(found, int | float) else paths.attempt(number).stat().st_mtime


def job_id(paths: RunPaths, number: int | None = None) -> str | None:
    """Return the SLURM job of an attempt (None: the last); None where it was no job, or that cannot be read."""
    if number is None:
        number = max(attempt_numbers(paths), default=None)
    found = _submission(paths, number).get("job_id") if number is not None else None
    return str(found) if found is not None else None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What was written down when an attempt began."""

    job_id: str | None
    """Its SLURM job; None where it was no job."""
    host: str
    code: str
    """Digest of the code; '' where an earlier version did not record it."""


def begun(paths: RunPaths, number: int) -> Begun:
    """Return what was written down when an attempt began; empty where that cannot be read."""
    found = _submission(paths, number)
    job = found.get("job_id")
    return Begun(
        job_id=str(job) if job is not None else None,
        host=str(found.get("host", "")),
        code=str(found.get("code", "")),
    )


def codes_of(paths: RunPaths) -> tuple[str, ...]:
    """Return the digests of the code that trained a run, in the order of its attempts; '' for one not recorded.

    An attempt counts that left a newer checkpoint, or is the last one.
    """
    numbers, found, step = list(attempt_numbers(paths)), list[str](), 0
    for number in numbers:
        outcome = read_outcome(paths, number) if number != numbers[-1] else None
        if outcome is None or outcome.step > step:
            found.append(begun(paths, number).code)
        step = max(step, outcome.step if outcome is not None else 0)
    return tuple(dict.fromkeys(found))


def host_of(paths: RunPaths, number: int) -> str:
    """Return the node or machine where an attempt ran; '' where that was not written, or cannot be read."""
    return str(_submission(paths, number).get("host", ""))


def process_of(paths: RunPaths, number: int) -> tuple[str, int] | None:
    """Return the machine and the process of an attempt; None where these cannot be read."""
    content = _submission(paths, number)
    host, pid = content.get("host"), content.get("pid")
    return (host, pid) if isinstance(host, str) and isinstance(pid, int) else None


def _submission(paths: RunPaths, number: int) -> dict[str, Any]:
    try:
        return read_json(paths.attempt(number) / "submission.json", format=FORMAT)
    except RecordError:
        return {}


def last_step(paths: RunPaths) -> int:
    """Return the step of a run's last durable checkpoint; 0 without one."""
    try:
        names = os.listdir(paths.checkpoints)
    except OSError:
        return 0
    return max((int(name[5:]) for name in names if name.startswith("step-") and name[5:].isdigit()), default=0)
