"""The job arrays submitted to SLURM: a file each, written before `sbatch` is called and again when it has answered.

A file without a job id is an intent: its launcher died in between, or is submitting now. Each array has a name of its
own, by which `memscale.launch.slurm.arrays.adopt_orphans` finds its jobs. Runs that sbatch took no job of are in one
file, `refusals.json`, which is written anew each time that runs are submitted.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from memscale.errors import RecordError
from memscale.records.atomic import read_json, write_json
from memscale.records.layout import SweepPaths

FORMAT = 1
_REFUSALS_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Submission:
    """An array of jobs; element i is for run i."""

    uid: str
    name: str
    """The jobs' name."""
    runs: tuple[str, ...]
    """Names of the runs' folders."""
    submitted: float
    """Unix seconds of the intent."""
    array: str | None = None
    """Its job id; None until sbatch has answered."""
    void: bool = False
    """It never came to be, or was withdrawn."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8}", self.uid):  # it is the name of a file and of a folder
            raise RecordError(f"a submission has the uid {self.uid[:200]!r}; it needs 8 hexadecimal digits")

    def job_id(self, index: int) -> str | None:
        """The job of a run; a submission of one run is no array."""
        if self.array is None:
            return None
        return f"{self.array}_{index}" if len(self.runs) > 1 else self.array


@dataclass(frozen=True, kw_only=True)
class ArrayElement:
    """A run's place in a submission."""

    submission: Submission
    index: int

    @property
    def job_id(self) -> str | None:
        """The run's job; None until sbatch has answered."""
        return self.submission.job_id(self.index)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why sbatch took no job of a run."""

    why: str
    """What it said."""
    full: bool
    """Whether there was only no room: the next step submits the run again."""


def new_submission(sweep: str, runs: tuple[str, ...]) -> Submission:
    """Return a submission of these runs with a name of its own; nothing is written."""
    uid = uuid.uuid4().hex[:8]
    return Submission(uid=uid, name=f"memscale-{sweep}-{uid}", runs=runs, submitted=round(time.time(), 3))


def write_submission(paths: SweepPaths, submission: Submission) -> None:
    """Write a submission in place of its former state."""
    write_json(_path(paths, submission.uid), asdict(submission), format=FORMAT)


def accepted(paths: SweepPaths, submission: Submission, array: str) -> Submission:
    """Note the job id that sbatch gave."""
    done = replace(submission, array=array)
    write_submission(paths, done)
    return done


def withdrawn(paths: SweepPaths, submission: Submission) -> None:
    """Note that nothing of it will run."""
    write_submission(paths, replace(submission, void=True))


def forget(paths: SweepPaths, submission: Submission) -> None:
    """Remove an intent that sbatch refused, and what was written for it."""
    shutil.rmtree(paths.slurm / submission.uid, ignore_errors=True)
    _path(paths, submission.uid).unlink(missing_ok=True)


def write_refusals(paths: SweepPaths, refusals: Mapping[str, Refusal]) -> None:
    """Write which runs, by their folders' names, sbatch took no job of, in place of those before."""
    if refusals or paths.refusals.exists():
        runs = {run: asdict(one) for run, one in refusals.items()}
        write_json(paths.refusals, {"runs": runs}, format=_REFUSALS_FORMAT)


def read_refusals(paths: SweepPaths) -> dict[str, Refusal]:
    """Return the runs, by their folders' names, that sbatch took no job of; none where the file cannot be read."""
    try:
        found = read_json(paths.refusals, format=_REFUSALS_FORMAT)["runs"]
        return {run: Refusal(**one) for run, one in found.items()}
    except (RecordError, KeyError, TypeError, AttributeError):  # it only explains what is seen without it
        return {}


def submissions(paths: SweepPaths) -> Iterator[Submission]:
    """Every submission of the sweep, the oldest first."""
    found = [_read(path) for path in paths.submissions.glob("*.json")] if paths.submissions.is_dir() else []
    yield from sorted(found, key=lambda one: one.submitted)


def users_of(paths: SweepPaths) -> tuple[str, ...]:
    """Return the users whose jobs the sweep may have, where these are not only the one who asks; else none.

    They are the owners of its launch and submission files: a reader asks for another's jobs, and in a group folder
    several people submit in turn.
    """
    files = [paths.launch, *(paths.submissions.glob("*.json") if paths.submissions.is_dir() else ())]
    owners = {path.stat().st_uid for path in files if path.exists()} | {os.geteuid()}
    return tuple(sorted(map(_user, owners))) if owners != {os.geteuid()} else ()


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _path(paths: SweepPaths, uid: str) -> Path:
    return paths.submissions / f"{uid}.json"


def _read(path: Path) -> Submission:
    content = read_json(path, format=FORMAT)
    del content["format"]
    return Submission(**{**content, "runs": tuple(content["runs"])})
