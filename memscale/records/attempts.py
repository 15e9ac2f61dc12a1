"""The attempts of a run: numbered folders, each with its submission, its log and, once it has ended, its outcome."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from memscale.records.atomic import read_json, write_json
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


def new_attempt(paths: RunPaths, *, threads: int, device: str) -> int:
    """Create the next attempt's folder with its submission; return its number (from 1)."""
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
    }
    write_json(paths.attempt(number) / "submission.json", submission, format=FORMAT)
    return number


def attempt_numbers(paths: RunPaths) -> Iterator[int]:
    """Yield the numbers of a run's attempts, in increasing order."""
    if paths.attempts.is_dir():
        yield from sorted(int(path.name) for path in paths.attempts.iterdir() if path.name.isdigit())


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
    """Return how an attempt ended; None where no outcome was written: it runs, or died before it could write one."""
    path = _outcome(paths, number, rank)
    if not path.exists():
        return None
    content = read_json(path, format=FORMAT)
    del content["format"]
    content["cause"] = _FORMER.get(content["cause"], content["cause"])
    return Outcome(**content)


def _outcome(paths: RunPaths, number: int, rank: int) -> Path:
    return paths.attempt(number) / (f"outcome-{rank}.json" if rank else "outcome.json")


def started_at(paths: RunPaths, number: int) -> float:
    """Return when an attempt started, in Unix seconds."""
    submission = paths.attempt(number) / "submission.json"
    if not submission.exists():
        return paths.attempt(number).stat().st_mtime
    return float(read_json(submission, format=FORMAT)["started"])


def job_id(paths: RunPaths, number: int | None = None) -> str | None:
    """Return the SLURM job of an attempt (None: the last); None where it was no job."""
    if number is None:
        number = max(attempt_numbers(paths), default=None)
    submission = paths.attempt(number) / "submission.json" if number is not None else None
    if submission is None or not submission.exists():
        return None
    found = read_json(submission, format=FORMAT).get("job_id")
    return str(found) if found is not None else None


def host_of(paths: RunPaths, number: int) -> str:
    """Return the node or machine where an attempt ran; '' where that was not written."""
    submission = paths.attempt(number) / "submission.json"
    return str(read_json(submission, format=FORMAT)["host"]) if submission.exists() else ""


def last_step(paths: RunPaths) -> int:
    """Return the step of a run's last durable checkpoint; 0 without one."""
    names = os.listdir(paths.checkpoints) if paths.checkpoints.is_dir() else []
    return max((int(name[5:]) for name in names if name.startswith("step-") and name[5:].isdigit()), default=0)
