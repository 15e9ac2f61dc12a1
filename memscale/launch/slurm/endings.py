"""The cause of an attempt's end in a SLURM job, from its own outcome, SLURM's record of the job, and the job's output.

1. The outcome that the worker wrote counts. Only where its cause is one of UNEXPLAINED (a signal, a lost process) is it
   replaced by SLURM's, which knows why the signal was sent.
2. For an attempt without an outcome SLURM's state decides.
3. Where that is only FAILED or COMPLETED, the job's output decides: out of memory, a node's failure, an exception.
"""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path

from memscale.launch.slurm.commands import Record
from memscale.records.attempts import Outcome

_CAUSES = {
    "PREEMPTED": "preempted",
    "REQUEUED": "preempted",
    "TIMEOUT": "time_limit",
    "DEADLINE": "time_limit",
    "NODE_FAIL": "node_failure",
    "BOOT_FAIL": "node_failure",
    "OUT_OF_MEMORY": "host_out_of_memory",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
}
UNEXPLAINED = ("stopped", "killed")
_OPEN = ("FAILED", "COMPLETED")
"""States that leave the cause open."""
_MEMORY = re.compile(r"oom.?kill|out.of.memory|exceeded.*memory limit|memory limit.*exceeded", re.IGNORECASE)
_NODE = re.compile(r"node fail|slurmd.*(?:died|not respond)|Unable to create step|Job credential", re.IGNORECASE)
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*", re.MULTILINE)
_TAIL_BYTES = 20_000


def refined(outcome: Outcome, record: Record | None) -> Outcome:
    """Return the outcome with SLURM's cause, where the worker could not know why it was asked to leave."""
    if outcome.cause not in UNEXPLAINED or record is None or record.state not in _CAUSES:
        return outcome
    evidence = f"{outcome.evidence}; {record.evidence}"
    return replace(outcome, cause=_CAUSES[record.state], evidence=evidence)


def cause_of(record: Record | None, output: Path) -> tuple[str, str, str]:
    """Return cause, evidence and trace of an attempt that wrote no outcome, or of a job that made no attempt."""
    text = tail(output)
    if record is None:
        return "lost", "it left no outcome, and SLURM does not know its job any more", ""
    where = f"{record.evidence}; see {output}"
    if record.state not in (*_CAUSES, *_OPEN):
        return "unknown", f"SLURM's state is not known to memscale: {where}", ""
    memory = _last(_MEMORY, text)
    if record.state == "OUT_OF_MEMORY" or memory:
        return "host_out_of_memory", f"{memory or 'out of memory'} ({where})", ""
    if record.state in _CAUSES:
        return _CAUSES[record.state], where, ""
    if node := _last(_NODE, text):
        return "node_failure", f"{node} ({where})", ""
    killed = _signal(record.exit_code)
    error = _last(_ERROR, text)
    if error and not killed:
        return "error", f"{error} ({where})", f"before its first step: {error}"
    if killed:
        return "killed", f"its process died of {killed} ({where})", ""
    if record.state == "FAILED":
        return "error", f"its job failed before its worker had a log ({where})", f"{record.state} {record.exit_code}"
    return "lost", f"its job ended without an outcome ({where})", ""


def tail(path: Path) -> str:
    """Return the end of a job's output; nothing where it has none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last(pattern: re.Pattern[str], text: str) -> str:
    """The last line in which the pattern occurs."""
    lines = [line.strip() for line in text.splitlines() if pattern.search(line)]
    return lines[-1] if lines else ""


def _signal(exit_code: str) -> str:
    """The name of the signal in `status:signal`, or in a shell's status of 128 and more; '' where there is none."""
    status, _, number = exit_code.partition(":")
    for value in (number, str(int(status) - 128) if status.isdigit() else ""):
        try:
            return signal.Signals(int(value)).name
        except ValueError:
            continue
    return ""
