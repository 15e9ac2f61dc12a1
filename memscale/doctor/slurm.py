"""SLURM as sweeps meet it: its commands, controller, accounting, array limit, requeueing, preemption and partitions.

Nothing is submitted. Without `sbatch` there is one finding, which is good: sweeps then run in the local pool.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from memscale.doctor.finding import Finding

_COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun", "sinfo")
_NEEDED = frozenset({"sbatch", "squeue", "scontrol", "scancel"})
_SECONDS = 20.0
_WELL = frozenset({"idle", "mix", "mixed", "alloc", "allocated", "comp", "completing"})
"""States of nodes that take jobs; a mark behind a state (as in idle*) means that the node does not answer."""


def slurm() -> Iterator[Finding]:
    """Look at SLURM: its commands, controller, partitions, accounting, arrays and requeueing."""
    if shutil.which("sbatch") is None:
        yield _finding(True, "SLURM", "no sbatch here: sweeps run in the local pool")
        return
    yield from _commands()
    if shutil.which("scontrol") is None:
        return
    code, answer = _ask("scontrol", "ping")
    if code != 0 or "UP" not in answer:
        yield _finding(
            False,
            "controller",
            f"slurmctld does not answer ({_short(answer)}): nothing can be submitted; sweeps go to the local pool",
        )
        return
    yield _finding(True, "controller", _short(answer))
    _, answer = _ask("scontrol", "show", "config")
    settings = dict(re.findall(r"^(\w+)\s*= *(.*?)\s*$", answer, re.MULTILINE))
    yield from _settings(settings)
    yield _accounting(settings)
    yield from _partitions()


def _commands() -> Iterator[Finding]:
    absent = [name for name in _COMMANDS if shutil.which(name) is None]
    if not absent:
        yield _finding(True, "SLURM's commands", ", ".join(_COMMANDS))
    for name in absent:
        needed = name in _NEEDED
        meaning = (
            "is not here; without it sweeps cannot be followed"
            if needed
            else (
                "is not here; states then come from the runs' own files and squeue alone"
                if name == "sacct"
                else "is not here; runs of several GPUs need it"
                if name == "srun"
                else "is not here; nothing of a sweep needs it"
            )
        )
        yield _finding(not needed and name != "sacct", name, meaning)


def _settings(settings: Mapping[str, str]) -> Iterator[Finding]:
    """The limit of arrays, requeueing and preemption, as `scontrol show config` has them."""
    size = settings.get("MaxArraySize", "")
    if size.isdigit():
        least = int(size) - 1
        meaning = f"arrays of up to {least} runs" if least > 0 else "no arrays: every run is a job of its own"
        yield _finding(True, f"MaxArraySize {size}", meaning)
    requeue = settings.get("JobRequeue", "")
    if requeue:
        good = requeue == "1"
        meaning = (
            "jobs go back into the queue after a node fails or a preemption"
            if good
            else ("jobs are not requeued unless they ask to be, which those of a sweep do; the site may refuse it")
        )
        yield _finding(good, f"JobRequeue {requeue}", meaning)
    kind, mode = settings.get("PreemptType", ""), settings.get("PreemptMode", "")
    if kind and "none" not in kind:
        good = "REQUEUE" in mode or "SUSPEND" in mode
        meaning = (
            "preempted jobs come back by themselves"
            if good
            else ("preempted jobs are cancelled, not requeued: their runs go on from a checkpoint at the next launch")
        )
        yield _finding(good, f"preemption {kind.removeprefix('preempt/')}, {mode}", meaning)
    elif kind:
        yield _finding(True, "preemption", "none: no job is stopped for another")


def _accounting(settings: Mapping[str, str]) -> Finding:
    kind = settings.get("AccountingStorageType", "")
    if "none" in kind or kind in ("", "(null)"):
        return _finding(
            False, "accounting", "this SLURM keeps none: how a job ended is known from its run's own files only"
        )
    if shutil.which("sacct") is None:
        return _finding(False, "accounting", f"{kind}, but sacct is not here to ask it")
    code, answer = _ask("sacct", "-X", "-n", "-S", "now-1minutes", "-o", "JobID")
    if code != 0:
        return _finding(False, "accounting", f"sacct fails ({_short(answer)}): is slurmdbd up? Sweeps go on without it")
    return _finding(True, "accounting", f"sacct answers ({kind.removeprefix('accounting_storage/')})")


def _partitions() -> Iterator[Finding]:
    if shutil.which("sinfo") is None:
        return
    code, answer = _ask("sinfo", "-h", "-o", "%P|%a|%l|%D|%t")
    if code != 0:
        yield _finding(False, "partitions", f"sinfo fails: {_short(answer)}")
        return
    rows = [line.split("|") for line in answer.splitlines() if line.count("|") == 4]
    for name in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == name]
        well = sum(int(row[3]) for row in own if row[4] in _WELL)
        whole = sum(int(row[3]) for row in own)
        others = ", ".join(f"{row[3]} {row[4]}" for row in own if row[4] not in _WELL)
        good = own[0][1] == "up" and well > 0
        meaning = f"{own[0][1]}, {well} of {whole} nodes take jobs, at most {own[0][2]} a job"
        meaning += f"; {others}: `sinfo -R` says why" if others else ""
        yield _finding(good, f"partition {name.rstrip('*')}", meaning)


def _ask(*command: str) -> tuple[int, str]:
    """Exit code and output; a command that does not answer in time has the code 124."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer within {_SECONDS:g} s"
    except OSError as error:
        return 126, str(error)
    return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr


def _short(answer: str) -> str:
    words = " ".join(answer.split())
    return words if len(words) <= 160 else words[:157] + "..."


def _finding(good: bool, what: str, meaning: str) -> Finding:
    return Finding(topic="slurm", good=good, what=what, meaning=meaning)
