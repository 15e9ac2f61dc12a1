"""The state of a run for a person, read from its files, whatever launched it.

- `planned`: nothing was started, or its last attempt was interrupted.
- `queued`: a scheduler will start it.
- `running`: a worker holds its lease.
- `done`: it has a result.
- `damaged`: a file of its folder is missing, or not what memscale wrote; no number of it is used.
- `failed`: its last attempt ended in a fault of the run, or its loss diverged.
- `lost`: its last attempt wrote no outcome, or ended through no fault of the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from memscale.records.attempts import STATE_AFTER, attempt_numbers, read_outcome
from memscale.records.heartbeat import Heartbeat, read_heartbeat
from memscale.records.inspection import WRITES_RESULT, Inspection, inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.result_file import Result

DONE, RUNNING, NEEDS_ATTENTION = "done", "running", "needs_attention"
"""How a sweep is left: every run has a result; jobs are there; nothing more happens until a person acts."""
STATES = ("planned", "queued", "running", "done", "failed", "lost", "damaged")
UNVERIFIED = "unverified: an earlier version wrote it without digests"
_SILENT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of a run, for a person."""

    state: str
    """One of STATES."""
    cause: str | None
    """Why it failed or was lost: the outcome's cause."""
    evidence: str
    attempts: int
    heartbeat: Heartbeat | None
    advice: str
    """What a person can do about it, with the command; empty where nothing is needed."""


def halt_reason(paths: SweepPaths) -> str:
    """Return why no run of a sweep may be started, by its cancel file; '' without one."""
    return (paths.cancel.read_text(encoding="utf-8").strip() or "memscale cancel") if paths.cancel.exists() else ""


def read_state(paths: RunPaths, *, queued: bool = False) -> RunState:
    """Return the state of a run.

    Args:
        paths: The run's folder. Whatever is damaged in it is told as the run's state.
        queued: Whether a scheduler will start it where it is not running.

    """
    seen = inspect(paths)
    state = state_of(paths, seen, queued=queued)
    if seen.result is None and not seen.damage and paths.result.exists():  # it ended between the looks at its files
        return state_of(paths, inspect(paths), queued=queued)
    return state


def state_of(paths: RunPaths, seen: Inspection, *, queued: bool = False) -> RunState:
    """Return the state of a run whose files were looked at (`memscale.records.inspection`)."""
    numbers = list(attempt_numbers(paths))
    heartbeat = read_heartbeat(paths.heartbeat)
    if seen.result is not None:
        return _finished(paths, seen.result, numbers, heartbeat)
    if is_held(paths.lease):
        silent = heartbeat is not None and time.time() - heartbeat.time > _SILENT_SECONDS
        advice = "silent for over two minutes" if silent else ""
        return _state("running", numbers, heartbeat, evidence=seen.damage, advice=advice)
    if seen.damage:
        advice = f"train it again from its last good checkpoint: {_retry(paths)}"
        return _state("damaged", numbers, heartbeat, cause="damaged", evidence=seen.damage, advice=advice)
    if not paths.root.exists():
        evidence = "its folder is missing: it was deleted, moved, or never written"
        advice = "" if queued else f"put it back, or train it from its start: make sweep SWEEP={paths.root.parent.name}"
        return _state("queued" if queued else "planned", numbers, heartbeat, evidence=evidence, advice=advice)
    if not numbers:
        return _state("queued" if queued else "planned", numbers, heartbeat)
    outcome = read_outcome(paths, numbers[-1])
    log = paths.attempt(numbers[-1]) / "log.txt"
    if outcome is None:
        if queued:
            return _state("queued", numbers, heartbeat, evidence="its last attempt left no outcome")
        advice = advice_for(paths, "lost", numbers[-1])
        evidence = f"attempt {numbers[-1]} ended without an outcome; its log: {log}"
        return _state("lost", numbers, heartbeat, cause="lost", evidence=evidence, advice=advice)
    if outcome.cause in WRITES_RESULT:
        return _state(
            "queued" if queued else "planned", numbers, heartbeat, evidence="its damaged files were set aside"
        )
    state = STATE_AFTER.get(outcome.cause, "failed")
    if state == "planned" or (queued and state != "done"):
        return _state(
            "queued" if queued else "planned", numbers, heartbeat, cause=outcome.cause, evidence=outcome.evidence
        )
    advice = advice_for(paths, outcome.cause, numbers[-1])
    return _state(state, numbers, heartbeat, cause=outcome.cause, evidence=outcome.evidence, advice=advice)


def _finished(paths: RunPaths, result: Result, numbers: list[int], heartbeat: Heartbeat | None) -> RunState:
    if result.status == "done":
        evidence = "" if result.verified else UNVERIFIED
        return _state("done", numbers, heartbeat, evidence=evidence)
    sweep = paths.root.parent.name
    advice = f"the same run would diverge again: lower its rate (recipe.*), then: make sweep SWEEP={sweep} SET=..."
    return _state(
        "failed", numbers, heartbeat, cause=result.status, evidence="the loss left the numbers", advice=advice
    )


def _retry(paths: RunPaths) -> str:
    sweep, run = paths.root.parent.name, paths.root.name.rpartition("-")[0]
    return f"make retry SWEEP={sweep} RUN={run} && make sweep SWEEP={sweep}"


def advice_for(paths: RunPaths, cause: str, attempt: int) -> str:
    """Return what mends a run that ended so, with the command."""
    log = paths.attempt(attempt) / "log.txt"
    what = ADVICE.get(cause, f"read {log}, and mend the cause").format(log=log)
    return f"{what}, then: {_retry(paths)}"


ADVICE = {
    "gpu_out_of_memory": "take a GPU with more memory, or launcher.table_memory=host",
    "host_out_of_memory": (
        "give it more memory (SLURM: launcher.resources; else launcher.workers=1 or launcher.table_memory=file)"
    ),
    "disk_full": "free disk space where the runs lie (MEMSCALE_RUNS moves them)",
    "bad_config": "mend what {log} names (the same configuration would fail again)",
    "killed": "find out who killed it (a machine out of memory does); it goes on from its last checkpoint",
    "lost": "nothing need be mended; it goes on from its last checkpoint",
    "node_failure": "nothing need be mended here; it goes on elsewhere from its last checkpoint",
    "unknown": "look at its job with scontrol and sacct; it goes on from its last checkpoint",
}
"""By cause; `{log}` is the attempt's. For other causes: read the log."""


def _state(
    state: str,
    numbers: list[int],
    heartbeat: Heartbeat | None,
    *,
    cause: str | None = None,
    evidence: str = "",
    advice: str = "",
) -> RunState:
    assert state in STATES
    return RunState(
        state=state, cause=cause, evidence=evidence, attempts=len(numbers), heartbeat=heartbeat, advice=advice
    )
