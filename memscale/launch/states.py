"""The state of a run, read from its files: they come first, whatever launched it.

planned: nothing was started; running: somebody holds its lease; done: it has a result; failed: its last attempt ended
in a fault, or its loss diverged; lost: its last attempt ended without a word. A stopped attempt is planned again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from memscale.records.atomic import read_json
from memscale.records.attempts import attempt_numbers, read_outcome
from memscale.records.heartbeat import Heartbeat, read_heartbeat
from memscale.records.layout import RunPaths
from memscale.records.lease import is_held
from memscale.records.results import RESULT_FORMAT

STATES = ("planned", "queued", "running", "done", "failed", "lost")
_SILENT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class RunState:
    state: str
    """One of STATES."""
    cause: str | None
    """Why it failed or was lost: the outcome's cause."""
    evidence: str
    attempts: int
    heartbeat: Heartbeat | None
    advice: str
    """What a person can do about it; empty where nothing is needed."""


def read_state(paths: RunPaths, *, queued: bool = False) -> RunState:
    """Read the state of the run at `paths`; `queued` says that a scheduler means to start it."""
    numbers = list(attempt_numbers(paths))
    heartbeat = read_heartbeat(paths.heartbeat)
    if paths.result.exists():
        status = read_json(paths.result, format=RESULT_FORMAT)["status"]
        if status == "done":
            return _state("done", numbers, heartbeat)
        advice = "lower its learning rate: the same run would diverge again"
        return _state("failed", numbers, heartbeat, cause=status, evidence="the loss left the numbers", advice=advice)
    if is_held(paths.lease):
        silent = heartbeat is not None and time.time() - heartbeat.time > _SILENT_SECONDS
        return _state("running", numbers, heartbeat, advice="silent for over two minutes" if silent else "")
    if not numbers:
        return _state("queued" if queued else "planned", numbers, heartbeat)
    outcome = read_outcome(paths, numbers[-1])
    log = paths.attempt(numbers[-1]) / "log.txt"
    if outcome is None:
        advice = "start the sweep again: it goes on from the last checkpoint"
        evidence = f"attempt {numbers[-1]} ended without a word; its log: {log}"
        return _state("lost", numbers, heartbeat, cause="lost", evidence=evidence, advice=advice)
    if outcome.cause == "stopped":
        return _state("queued" if queued else "planned", numbers, heartbeat, evidence=outcome.evidence)
    advice = ADVICE.get(outcome.cause, f"read {log}, mend the cause, then: memscale retry")
    state = "lost" if outcome.cause in ("killed", "lost") else "failed"
    return _state(state, numbers, heartbeat, cause=outcome.cause, evidence=outcome.evidence, advice=advice)


ADVICE = {
    "out_of_memory": "give it a machine with more memory, or launcher.slots=1, then: memscale retry",
    "disk_full": "free disk space where the runs lie (MEMSCALE_RUNS moves them), then: memscale retry",
    "bad_config": "mend what its log names; the same configuration would fail again",
    "killed": "start the sweep again: it goes on from the last checkpoint",
    "lost": "start the sweep again: it goes on from the last checkpoint",
}


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
