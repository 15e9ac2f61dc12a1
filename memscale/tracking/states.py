"""What became of a run, judged from its files alone, and how MLflow calls that.

Decides between `planned running done failed lost damaged` (a scheduler's `queued` cannot be seen in files). Files are
read in the reverse order of their writing, so a run that ends meanwhile is seen as running or as ended, never as lost.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from memscale.records.attempts import (
    STATE_AFTER,
    attempt_numbers,
    host_name,
    process_of,
    read_outcome,
    started_at,
)
from memscale.records.heartbeat import read_heartbeat
from memscale.records.inspection import WRITES_RESULT, Inspection, inspect
from memscale.records.layout import RunPaths

SILENT_SECONDS = 300.0
"""A process on another machine whose last heartbeat is older than this is taken for dead."""

_STATUSES = {
    "planned": "SCHEDULED", "running": "RUNNING", "done": "FINISHED", "failed": "FAILED", "lost": "KILLED",
    "damaged": "FAILED",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class State:
    """A run's state and where it comes from."""

    name: str
    """planned, running, done, failed, lost or damaged."""
    cause: str
    """How its last attempt ended; empty while it runs or before the first one."""
    num_attempts: int
    started: float | None
    """Unix seconds; None: never."""
    ended: float | None
    """Unix seconds of the end, or of the last sign of life of a lost run; None while it runs or is planned."""

    @property
    def mlflow_status(self) -> str:
        """One of MLflow's five statuses."""
        return "KILLED" if self.name == "planned" and self.cause else _STATUSES[self.name]


def read_state(paths: RunPaths, *, now: float | None = None) -> State:
    """Judge the run in `paths` at the Unix time `now`; whatever is damaged in it is told as its state."""
    return judged(paths, now=now)[0]


def judged(paths: RunPaths, *, now: float | None = None) -> tuple[State, Inspection]:
    """Return the state of the run in `paths` at the Unix time `now`, and what was found of its files."""
    attempts = list(attempt_numbers(paths))
    sign = _last_sign(paths, attempts[-1] if attempts else None)
    alive = sign is not None and sign.is_alive(time.time() if now is None else now)
    outcome = read_outcome(paths, attempts[-1]) if attempts else None
    started = started_at(paths, attempts[0]) if attempts else (sign.time if sign is not None else None)
    seen = inspect(paths)
    if seen.result is not None:
        name = "done" if seen.result.status == "done" else "failed"
        ended: float | None = float(seen.result.content["ended"])
        cause = seen.result.status
        started = ended if started is None else started
    elif seen.damage and not (alive and outcome is None):
        name, cause, ended = "damaged", "damaged", outcome.ended if outcome is not None else started
    elif outcome is not None and outcome.cause in WRITES_RESULT:  # damaged files were set aside, to train it again
        name, cause, ended = "planned", "retried", outcome.ended
    elif outcome is not None:
        name = STATE_AFTER.get(outcome.cause, "failed")
        cause, ended = outcome.cause, outcome.ended
    elif sign is None:
        name, cause, ended = "planned", "", None
    elif alive:
        name, cause, ended = "running", "", None
    else:
        name, cause, ended = "lost", "lost", sign.time
    return State(name=name, cause=cause, num_attempts=len(attempts), started=started, ended=ended), seen


@dataclass(frozen=True, kw_only=True)
class _Sign:
    """The last sign of life of an attempt."""

    time: float
    host: str
    pid: int

    def is_alive(self, now: float) -> bool:
        if self.host != host_name():
            return now - self.time < SILENT_SECONDS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _last_sign(paths: RunPaths, attempt: int | None) -> _Sign | None:
    """From the heartbeat, else from the submission of the attempt; None where no attempt was made."""
    beat = read_heartbeat(paths.heartbeat)
    if beat is not None and attempt in (None, beat.attempt):
        return _Sign(time=beat.time, host=beat.host, pid=beat.pid)
    process = process_of(paths, attempt) if attempt is not None else None
    if attempt is None or process is None:
        return None
    return _Sign(time=started_at(paths, attempt), host=process[0], pid=process[1])
