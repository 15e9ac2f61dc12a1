"""Whether a run is tried again, decided by the cause of its last attempt's end, never by an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memscale.config.retries import Retries
from memscale.records.attempts import INTERRUPTIONS, Outcome

SAME_FAULT_RUNS = 3
"""As many runs with one and the same traceback stop the sweep: the fault is not theirs."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a run is tried again, how, and why."""

    again: bool
    half_micro_batch: bool = False
    reason: str = ""


def decide(outcomes: Sequence[Outcome], retries: Retries) -> Decision:
    """Decide from the outcomes of all attempts, the last one last."""
    last = outcomes[-1]
    cause = last.cause
    if cause == "done":
        return Decision(again=False, reason="done")
    if cause in INTERRUPTIONS:
        idle = _without_progress(outcomes)
        if idle > retries.without_progress:
            why = f"interrupted {idle} times in a row without a newer checkpoint (launcher.retries.without_progress)"
            return Decision(again=False, reason=why)
    others = [outcome for outcome in outcomes[:-1] if outcome.cause not in INTERRUPTIONS]
    if cause == "error" and others and others[-1].cause == "error" and others[-1].trace == last.trace:
        return Decision(again=False, reason="the same error twice")
    allowed, used = getattr(retries, cause), sum(outcome.cause == cause for outcome in outcomes)
    if allowed is None:
        return Decision(again=True, reason=f"{cause}, which costs it no attempt")
    if used > allowed:
        return Decision(again=False, reason=_refused(cause, allowed))
    half = cause == "gpu_out_of_memory"
    how = "at half the micro-batch" if half else f"try {used} of {allowed}"
    return Decision(again=True, half_micro_batch=half, reason=f"{cause}: again, {how}")


def _refused(cause: str, allowed: int) -> str:
    if allowed == 0:
        return f"{cause}: the same run would end the same way"
    return f"{cause} {allowed + 1} times (launcher.retries.{cause} is {allowed})"


def _without_progress(outcomes: Sequence[Outcome]) -> int:
    """Interruptions at the end of `outcomes` that left no newer checkpoint than the attempt before them."""
    count = 0
    for before, outcome in zip([None, *outcomes[:-1]][::-1], outcomes[::-1], strict=True):
        if outcome.cause not in INTERRUPTIONS or outcome.step > (before.step if before is not None else 0):
            break
        count += 1
    return count


def same_fault(last_outcomes: Sequence[Outcome]) -> Outcome | None:
    """An error that the last attempts of SAME_FAULT_RUNS runs share, if there is one."""
    traces: dict[str, int] = {}
    for outcome in last_outcomes:
        if outcome.cause == "error":
            traces[outcome.trace] = traces.get(outcome.trace, 0) + 1
            if traces[outcome.trace] >= SAME_FAULT_RUNS:
                return outcome
    return None
