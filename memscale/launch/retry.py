"""Whether a run is tried again, decided by the cause of its last attempt's end, never by an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memscale.records.attempts import Outcome

SAME_FAULT_RUNS = 3
"""As many runs with one and the same traceback stop the sweep: the fault is not theirs."""
_INTERRUPTED = ("stopped",)
_FINAL = ("done", "diverged", "bad_config", "disk_full")


@dataclass(frozen=True, kw_only=True)
class Decision:
    again: bool
    half_micro_batch: bool = False
    reason: str = ""


def decide(outcomes: Sequence[Outcome], max_attempts: int) -> Decision:
    """Decide from the outcomes of all attempts, the last one last."""
    last = outcomes[-1]
    counted = [outcome for outcome in outcomes if outcome.cause not in _INTERRUPTED]
    if last.cause in _INTERRUPTED:
        return Decision(again=True, reason="interrupted, which costs it no attempt")
    if last.cause in _FINAL:
        return Decision(again=False, reason=f"{last.cause}: the same run would end the same way")
    if last.cause == "out_of_memory":
        first = sum(outcome.cause == "out_of_memory" for outcome in outcomes) == 1
        return Decision(again=first, half_micro_batch=first, reason="out of memory: once more at half the micro-batch")
    if last.cause == "error" and len(counted) > 1 and counted[-2].trace == last.trace:
        return Decision(again=False, reason="the same error twice")
    if len(counted) >= max_attempts:
        return Decision(again=False, reason=f"{len(counted)} attempts (launcher.max_attempts)")
    return Decision(again=True, reason=last.cause)


def same_fault(last_outcomes: Sequence[Outcome]) -> Outcome | None:
    """An error that the last attempts of SAME_FAULT_RUNS runs share, if there is one."""
    traces: dict[str, int] = {}
    for outcome in last_outcomes:
        if outcome.cause == "error":
            traces[outcome.trace] = traces.get(outcome.trace, 0) + 1
            if traces[outcome.trace] >= SAME_FAULT_RUNS:
                return outcome
    return None
