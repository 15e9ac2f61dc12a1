"""The state of a run on SLURM in a person's words: what its files say, and what the queue adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memscale.launch.executor import RunStatus
from memscale.launch.nodes import own
from memscale.launch.retry import Decision, decide
from memscale.launch.slurm.commands import AT_WORK, HALTED, WAITING, QueueEntry
from memscale.launch.states import RunState, read_state
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths
from memscale.records.submissions import Refusal


def needs_a_person(status: RunStatus) -> bool:
    """Whether a run's job waits for a person: it is held, never starts as it is, or was refused."""
    held = status.entry is not None and status.entry.held
    return held or (status.refusal is not None and not status.refusal.full)


def state_on_slurm(status: RunStatus, launch: Launch, bad: Sequence[str], *, scheduled: bool) -> RunState:
    """Return a run's state.

    Args:
        status: What was observed of it.
        launch: What its sweep was launched with.
        bad: Nodes whose faults do not count against it.
        scheduled: Whether somebody takes the sweep's next step.

    """
    state = read_state(status.paths)
    entry, last = status.entry, status.outcomes[-1] if status.outcomes else None
    if state.state == "running" and entry is not None and entry.state in HALTED:
        advice = f"it goes on when somebody resumes it: scontrol resume {entry.job_id}"
        return replace(state, evidence=_job_evidence(entry), advice=advice)
    if state.state in ("running", "done", "damaged") or state.cause == "diverged":
        return state
    if entry is not None and status.state != "cancelled":
        return replace(state, state="queued", evidence=_job_evidence(entry), advice=_job_advice(entry))
    if status.state == "unsettled":
        why = f"its job left the queue without an outcome; {launch.sweep.launcher.grace_seconds:.0f} s decide"
        return replace(
            state,
            state="queued" if scheduled else "lost",
            cause="lost",
            evidence=why,
            advice="" if scheduled else state.advice,
        )
    if status.state == "cancelled":
        return replace(state, state="planned", cause="cancelled", evidence="cancelled", advice="")
    if status.refusal is not None:
        return _refused(state, status.refusal, status.paths, scheduled=scheduled)
    if last is None:
        return replace(state, state="queued", evidence="", advice="") if scheduled and not state.attempts else state
    outcomes = own(status.outcomes, bad)
    decision = decide(outcomes, launch.sweep.launcher.retries) if outcomes else Decision(again=True)
    if decision.again and scheduled:
        why = decision.reason or f"again, elsewhere: {last.host} is left out"
        evidence = f"{last.cause}: {last.evidence}; {why}"
        return replace(state, state="queued", cause=last.cause, evidence=evidence, advice="")
    return replace(state, cause=last.cause, evidence=f"{last.evidence} ({decision.reason})")


def _refused(state: RunState, refusal: Refusal, paths: RunPaths, *, scheduled: bool) -> RunState:
    """Return the state of a run that sbatch took no job of: no queue holds it."""
    again = f"make sweep SWEEP={paths.root.parent.name}"
    if refusal.full:
        evidence = f"there is no room for its job in the queue: {refusal.why}"
        return replace(state, state="planned", evidence=evidence, advice="" if scheduled else f"go on with: {again}")
    advice = f"mend the keys of the launcher that it names, then: {again}"
    return replace(state, state="planned", evidence=f"its job was refused: {refusal.why}", advice=advice)


def _job_evidence(entry: QueueEntry) -> str:
    if entry.state not in WAITING | AT_WORK:
        return f"SLURM says {entry.state} of its job {entry.job_id}, a state that memscale does not know"
    where = f" on {entry.node}" if entry.node else f" ({entry.reason})" if entry.reason else ""
    return f"its job {entry.job_id} is {entry.state}{where}"


def _job_advice(entry: QueueEntry) -> str:
    if entry.state not in WAITING | AT_WORK:
        return f"look at it: scontrol show job {entry.job_id}"
    if entry.never_starts:
        return f"it will not start as it is: scancel {entry.job_id}, mend the launcher's keys, then start again"
    if "HeldAdmin" in entry.reason:
        return f"an administrator holds it: ask them for scontrol release {entry.job_id}"
    if entry.held:
        return f"it is held, and waits for somebody: scontrol release {entry.job_id}"
    if entry.partition_is_down:
        return (
            "its partition is down: it starts when that is up again (sinfo). To take another one: make cancel, then the"
            " same sweep with launcher.partition=..."
        )
    return ""
