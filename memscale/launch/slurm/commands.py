"""SLURM's commands: one `squeue` for our jobs, one `sacct` for those that left the queue, `scontrol` for the rest.

Job ids are as `scontrol` takes them: 17, or 17_4 for an element of an array. A command that fails or does not
answer raises SlurmError; accounting, which a site may lack, answers None instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from memscale.errors import MemscaleError

_SECONDS = 120.0
_MAX_ARRAY_SIZE = 1001
"""SLURM's default."""
_HELD = re.compile(r"held|JobHold|JobHeld", re.IGNORECASE)

_NEVER = re.compile(
    r"DependencyNeverSatisfied|BadConstraints|PartitionTimeLimit|PartitionNodeLimit|Invalid(?:Account|QOS)"
    r"|(?:Account|QOS)NotAllowed|(?:Assoc|QOS)M(?:ax|in)\w*(?:PerJob|NotSatisfied)|ReservationDeleted"
)
"""Reasons why a waiting job will never start as it is."""
_FULL = re.compile(r"(?:Assoc|QOS)(?:Max|Grp)\w*Submit\w*|temporarily unable to accept job", re.IGNORECASE)
"""What sbatch says where a user, an account, a QOS or the cluster may have no more jobs in the queue."""
_UNCLEAR = re.compile(r"timed out|Unable to contact|Zero Bytes|communication", re.IGNORECASE)
"""What sbatch says where the job may have been taken all the same."""

WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
AT_WORK = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
)
HALTED = frozenset({"STOPPED", "SUSPENDED"})
"""At work, but without its processors until somebody resumes it."""
ENDED = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip


class SlurmError(MemscaleError):
    """SLURM refused a job or a question."""


class RefusedError(SlurmError):
    """SLURM does not take a job as it is."""


class FullError(RefusedError):
    """SLURM takes no more jobs now: a user, an account, a QOS or the cluster has as many as it may have."""


def refused_by(said: str) -> type[RefusedError] | None:
    """Return the error that `sbatch` ended in by what it said; None where it may have taken the job all the same."""
    if _UNCLEAR.search(said):
        return None
    return FullError if _FULL.search(said) else RefusedError


@dataclass(frozen=True, kw_only=True)
class QueueEntry:
    """A job, or one entry of an array, that the controller still knows as alive."""

    job_id: str
    name: str
    state: str
    """SLURM's state."""
    reason: str
    node: str

    @property
    def waiting(self) -> bool:
        """Whether it has not started, or waits to start again."""
        return self.state in WAITING

    @property
    def held(self) -> bool:
        """Whether it waits for a person."""
        return self.waiting and (
            self.state not in ("PENDING", "REQUEUED") or _HELD.search(self.reason) is not None or self.never_starts
        )

    @property
    def partition_is_down(self) -> bool:
        """Whether it waits for its partition to be up again."""
        return self.waiting and self.reason in ("PartitionDown", "PartitionInactive")

    @property
    def never_starts(self) -> bool:
        """Whether it waits for what it will never get as it is."""
        return self.waiting and _NEVER.search(self.reason) is not None


@dataclass(frozen=True, kw_only=True)
class Record:
    """The state of a job, or how it ended, from the accounting or the controller."""

    state: str
    exit_code: str
    """`status:signal`."""
    node: str
    source: str
    """The command that it comes from."""

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.state not in WAITING | AT_WORK

    @property
    def evidence(self) -> str:
        """SLURM's record of the job's end in words: the command, the state, the node and the exit code."""
        where = f" on {self.node}" if self.node else ""
        return f"{self.source}: {self.state}{where}, exit code {self.exit_code}"


def queue(users: Sequence[str] = ()) -> dict[str, QueueEntry]:
    """Return every job of `users` (none named: ours) that is pending or at work, by id.

    Raises SlurmError where squeue does not answer.

    States that memscale does not know are kept: they are shown, and never taken for an end.
    """
    answer = ask("squeue", of_users(users), "--noheader", "--array", "--format=%F|%K|%T|%N|%j|%r")
    entries = {}
    for line in answer.splitlines():
        array, index, state, node, name, reason = (part.strip() for part in line.split("|", 5))
        if state in ENDED:
            continue  # squeue shows jobs for a moment after their end
        job_id = f"{array}_{index}" if index.isdigit() else array
        entries[job_id] = QueueEntry(job_id=job_id, name=name, state=state, reason=reason, node=node)
    return entries


def of_users(users: Sequence[str]) -> str:
    """Return the option by which squeue shows the jobs of `users`; none named: ours."""
    return f"--user={','.join(users)}" if users else "--me"


def accounted(arrays: Iterable[str]) -> Mapping[str, Sequence[Record]] | None:
    """Return the records of all elements of these arrays (ids without the element's index), by id, the oldest first.

    A requeued job has several. None where there is no accounting, or it does not answer.
    """
    asked = sorted(set(arrays))
    if not asked or shutil.which("sacct") is None:
        return {} if not asked else None
    fields = "--format=JobID,State,ExitCode,NodeList"
    options = ("--noheader", "--parsable2", "--allocations", "--duplicates", f"--jobs={','.join(asked)}")
    try:
        answer = ask("sacct", *options, fields)
    except SlurmError:
        return None
    records: dict[str, list[Record]] = {}
    for line in answer.splitlines():
        job_id, state, exit_code, node = line.split("|")[:4]
        state = state.split()[0] if state else "UNKNOWN"  # CANCELLED by 1000
        node = "" if node == "None assigned" else node
        records.setdefault(job_id, []).append(Record(state=state, exit_code=exit_code, node=node, source="sacct"))
    return records


def shown(job_id: str) -> Record | None:
    """Return what the controller remembers of a job: for some minutes after its end. None where it does not."""
    try:
        answer = ask("scontrol", "--oneliner", "show", "job", job_id)
    except SlurmError:
        return None
    found = dict(re.findall(r"(\w+)=(\S*)", answer))
    if "JobState" not in found:
        return None
    node = found.get("NodeList", "")
    return Record(
        state=found["JobState"],
        exit_code=found.get("ExitCode", ""),
        node="" if node == "(null)" else node,
        source="scontrol",
    )


def address_of_first(nodes: str) -> str:
    """Return the address of the first node of a list such as SLURM_JOB_NODELIST (n1,n4 or n[07-12]).

    Its name where SLURM's commands are not at hand, as in a container.
    """
    name = re.sub(r"^([^\[,]+)(?:\[(\d+))?.*", r"\1\2", nodes)
    try:
        found = re.search(r"NodeAddr=(\S+)", ask("scontrol", "--oneliner", "show", "node", name))
    except SlurmError:
        return name
    return found.group(1) if found else name


def split_nodes(nodes: str) -> list[str]:
    """Return the parts of a list of nodes, brackets kept whole: ['a[1,3]', 'b2'] of 'a[1,3],b2'."""
    return [part for part in re.split(r",(?![^\[]*\])", nodes) if part]


def max_array_size() -> int:
    """Return one more than the largest index of an array; SLURM's default where it does not report it."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return int(found.group(1)) if found else _MAX_ARRAY_SIZE


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs, elements of arrays or whole arrays; those that have ended meanwhile are ignored."""
    ids = list(job_ids)
    for start in range(0, len(ids), 500):
        subprocess.run(
            ["scancel", "--quiet", *ids[start : start + 500]],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )


def ask(*command: str, given: str | None = None) -> str:
    """Return what a command prints. Raises SlurmError where it fails, is not there or does not answer."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]} is not installed here; start the sweep where SLURM's commands are") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} did not answer in {_SECONDS:.0f} s; look at: scontrol ping") from None
    if done.returncode != 0:
        message = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise SlurmError(f"{command[0]} failed: {message}. Look at the cluster (scontrol ping), then start again")
    return done.stdout


def leave_job() -> None:
    """Remove what SLURM put into the environment of the job that this process is in, if it is in one.

    sbatch and submitit would take the job's options for those of the jobs that they submit.
    """
    if "SLURM_JOB_ID" in os.environ:
        for name in list(os.environ):
            if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")) and name != "SLURM_CONF":
                del os.environ[name]
