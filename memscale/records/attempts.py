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
    "done", "stopped", "diverged", "out_of_memory", "disk_full", "bad_config", "error", "killed", "lost"
)  # fmt: skip


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


def new_attempt(paths: RunPaths, *, threads: int, device: str) -> int:
    """Create the next attempt's folder with its submission; return its number (from 1)."""
    paths.attempts.mkdir(parents=True, exist_ok=True)
    number = max(attempt_numbers(paths), default=0) + 1
    paths.attempt(number).mkdir()
    submission = {
        "started": round(time.time(), 3),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "command": sys.argv,
        "python": platform.python_version(),
        "threads": threads,
        "device": device,
    }
    write_json(paths.attempt(number) / "submission.json", submission, format=FORMAT)
    return number


def attempt_numbers(paths: RunPaths) -> Iterator[int]:
    """The numbers of the attempts there are, in increasing order."""
    if paths.attempts.is_dir():
        yield from sorted(int(path.name) for path in paths.attempts.iterdir() if path.name.isdigit())


def log_path(paths: RunPaths, number: int) -> Path:
    return paths.attempt(number) / "log.txt"


def write_outcome(paths: RunPaths, number: int, outcome: Outcome) -> None:
    assert outcome.cause in CAUSES
    write_json(paths.attempt(number) / "outcome.json", asdict(outcome), format=FORMAT)


def read_outcome(paths: RunPaths, number: int) -> Outcome | None:
    """How the attempt ended, or None where nothing was written (it runs, or died without a word)."""
    path = paths.attempt(number) / "outcome.json"
    if not path.exists():
        return None
    content = read_json(path, format=FORMAT)
    del content["format"]
    return Outcome(**content)


def started_at(paths: RunPaths, number: int) -> float:
    submission = paths.attempt(number) / "submission.json"
    if not submission.exists():
        return paths.attempt(number).stat().st_mtime
    return float(read_json(submission, format=FORMAT)["started"])


def job_id(paths: RunPaths) -> str | None:
    """The SLURM job of the last attempt, or None where it was no job."""
    numbers = list(attempt_numbers(paths))
    submission = paths.attempt(numbers[-1]) / "submission.json" if numbers else None
    if submission is None or not submission.exists():
        return None
    found = read_json(submission, format=FORMAT).get("job_id")
    return str(found) if found is not None else None
