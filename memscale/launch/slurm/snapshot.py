"""How every run of a sweep on SLURM stands: its files first, then one squeue, one sacct, scontrol, and a bounded grace.

SLURM is asked before the files are read: what ended before squeue answered has written its files by then, so a run that
ends meanwhile is seen as at work or as ended, never as lost. A job that squeue does not show and that left no word is
unsettled for a moment where somebody remembers how it ended (a shared file system lags), for the launcher's
`grace_seconds` where nobody does, and then its end is written. Looks only; `memscale.launch.advance` acts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from memscale.errors import RecordError
from memscale.launch.pool import unspoken
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.slurm.arrays import job_output
from memscale.launch.slurm.commands import Element, Record
from memscale.launch.slurm.endings import UNEXPLAINED, cause_of, refined
from memscale.records.atomic import read_json, write_json
from memscale.records.attempts import Outcome, attempt_numbers, job_id, read_outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.submissions import Submission, Task, submissions

_FORMAT = 1
_SETTLE_SECONDS = 5.0
_MOST_SHOWN = 20
"""Jobs asked of scontrol at one look."""
STANDINGS = ("done", "cancelled", "working", "queued", "unsettled", "idle")


@dataclass(frozen=True, kw_only=True)
class End:
    """An end to be written: of an attempt, or (None) of a job that made no attempt."""

    number: int | None
    job_id: str | None
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run as it stands."""

    paths: RunPaths
    kind: str
    """One of STANDINGS. idle: no job is there for it; cancelled: no job may be, somebody asked it to stop."""
    element: Element | None = None
    trains_on: str = ""
    """The node where a worker holds its lease."""
    outcomes: tuple[Outcome, ...] = ()
    """Of its ended attempts since the launch, the last one last."""
    ends: tuple[End, ...] = ()
    """Among `outcomes`, those that are not written yet, or otherwise."""


@dataclass(frozen=True)
class _Attempt:
    number: int
    job_id: str | None
    outcome: Outcome | None


@dataclass(kw_only=True)
class _Seen:
    """What the files and the queue say of a run."""

    paths: RunPaths
    task: Task | None
    element: Element | None
    held: bool
    attempts: list[_Attempt]

    @property
    def at_work(self) -> bool:
        return self.held or (self.element is not None and not self.element.waiting)

    @property
    def unspoken(self) -> list[_Attempt]:
        """Attempts that are over without a word."""
        if self.at_work:
            return []
        return [attempt for attempt in self.attempts if attempt.outcome is None]

    @property
    def unmade(self) -> bool:
        """Whether its job has left the queue without an attempt."""
        task = self.task
        if task is None or task.job_id is None or self.element is not None or self.held:
            return False
        return not any(
            attempt.job_id == task.job_id
            or (attempt.outcome is not None and attempt.outcome.started > task.submission.submitted)
            for attempt in self.attempts
        )

    @property
    def asks(self) -> set[str]:
        """The jobs whose end SLURM must be asked about."""
        jobs = {attempt.job_id for attempt in self.unspoken}
        jobs |= {one.job_id for one in self.attempts[-1:] if one.outcome and one.outcome.cause in UNEXPLAINED}
        if self.unmade and self.task is not None:
            jobs.add(self.task.job_id)
        return {job for job in jobs if job is not None}


@dataclass(kw_only=True)
class Fleet:
    """One look at a sweep. `queue` is what `slurm_commands.queue` gave just before it."""

    paths: SweepPaths
    grace_seconds: float
    launched: float
    queue: Mapping[str, Element]
    now: float = field(default_factory=time.time)
    _tasks: dict[str, Task] = field(default_factory=dict)
    _submissions: dict[str, Submission] = field(default_factory=dict)
    """By the id of their array."""
    _since: dict[str, float] = field(default_factory=dict)
    _unseen: dict[str, float] = field(default_factory=dict)
    _kept: Mapping[str, float] = field(default_factory=dict)
    """What the file holds."""
    _records: Mapping[str, Sequence[Record]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._since = self._kept = _read_unseen(self.paths)
        for submission in submissions(self.paths):
            if submission.array is not None and not submission.void:
                self._submissions[submission.array] = submission
                self._tasks.update({run: Task(submission=submission, index=i) for i, run in enumerate(submission.runs)})

    def stand(self, folders: Iterable[RunPaths]) -> list[Standing]:
        """Look at these runs. Raises RecordError for damaged files."""
        standings: list[Standing | _Seen] = [self._see(folder) for folder in folders]
        self._ask([one for one in standings if isinstance(one, _Seen)])
        return [self._judge(one) if isinstance(one, _Seen) else one for one in standings]

    def remember(self) -> None:
        """Keep since when the jobs have been missing that are unsettled, of all that was looked at."""
        if self._unseen != self._kept:
            write_json(self.paths.unseen, {"since": self._unseen}, format=_FORMAT)
            self._kept = dict(self._unseen)

    def _see(self, paths: RunPaths) -> Standing | _Seen:
        task = self._tasks.get(paths.root.name)
        element = self._element(task)
        numbers = list(attempt_numbers(paths))  # read before the result: who has no attempt has no result either
        if numbers and paths.result.exists():
            return Standing(paths=paths, kind="done")
        held = bool(numbers) and is_held(paths.lease)
        attempts = [_Attempt(number, job_id(paths, number), read_outcome(paths, number)) for number in numbers]
        return _Seen(paths=paths, task=task, element=element, held=held, attempts=attempts)

    def _element(self, task: Task | None) -> Element | None:
        element = self.queue.get(task.job_id) if task is not None and task.job_id is not None else None
        # A cluster set up anew counts its jobs from one again.
        return element if element is not None and task is not None and element.name == task.submission.name else None

    def _ask(self, seen: Sequence[_Seen]) -> None:
        """Learn how jobs ended: from the accounting, and where it has no end of them from the controller."""
        jobs = set().union(*(one.asks for one in seen))
        found = slurm_commands.accounted(job.partition("_")[0] for job in jobs) or {}
        self._records = {job: found.get(job, ()) for job in jobs}
        untold = [job for job in sorted(jobs) if job not in self.queue and not _ends(self._records[job])]
        for job in untold[:_MOST_SHOWN]:
            record = slurm_commands.shown(job)
            if record is not None and record.ended:
                self._records = {**self._records, job: (record,)}

    def _judge(self, seen: _Seen) -> Standing:
        ends, waits = self._ends_of(seen)
        written = {end.number: end.outcome for end in ends}
        outcomes = [written.get(attempt.number, attempt.outcome) for attempt in seen.attempts]
        outcomes += [end.outcome for end in ends if end.number is None]
        if seen.at_work:
            kind = "working"
        elif seen.element is not None:
            kind = "queued"
        elif waits:
            kind = "unsettled"
        else:
            kind = "idle"
        if kind in ("idle", "queued") and seen.paths.stop.exists():
            kind = "cancelled"
        return Standing(
            paths=seen.paths,
            kind=kind,
            element=seen.element,
            trains_on=seen.element.node if seen.held and seen.element is not None else "",
            outcomes=tuple(one for one in outcomes if one is not None and one.started >= self.launched),
            ends=tuple(ends),
        )

    def _ends_of(self, seen: _Seen) -> tuple[list[End], bool]:
        """The ends that can be told, and whether another has to be waited for."""
        ends, waits = [], False
        for attempt in seen.unspoken:
            record = self._record(seen, attempt)
            if attempt.job_id is not None and not self._settled(attempt.job_id, record, seen.element):
                waits = True
                continue
            outcome = self._unspoken(seen, attempt, record)
            ends.append(End(number=attempt.number, job_id=attempt.job_id, outcome=outcome))
        last = seen.attempts[-1] if seen.attempts else None
        if last is not None and last.outcome is not None and last.job_id is not None:
            told = refined(last.outcome, self._record(seen, last))
            if told != last.outcome:
                ends.append(End(number=last.number, job_id=last.job_id, outcome=told))
        if seen.unmade and seen.task is not None and seen.task.job_id is not None:
            job = seen.task.job_id
            record = _last_end(self._records.get(job, ()))
            if self._settled(job, record, None):
                cause, evidence, trace = cause_of(record, job_output(self.paths, seen.task.submission, job))
                outcome = unspoken(seen.paths, None, cause, evidence, trace=trace, host=record.node if record else "")
                ends.append(End(number=None, job_id=job, outcome=outcome))
            else:
                waits = True
        return ends, waits

    def _settled(self, job: str, record: Record | None, element: Element | None) -> bool:
        """Whether a job that left no word has been missing for long enough to believe it."""
        since = self._since.get(job, self.now)
        self._unseen[job] = since
        known = record is not None or element is not None
        return self.now - since >= (_SETTLE_SECONDS if known else self.grace_seconds)

    def _record(self, seen: _Seen, attempt: _Attempt) -> Record | None:
        """What SLURM says of an attempt's end; a job that was requeued has a record for each time it ran."""
        if attempt.job_id is None:
            return None
        records = [record for record in self._records.get(attempt.job_id, ()) if record.ended]
        place = [one.number for one in seen.attempts if one.job_id == attempt.job_id].index(attempt.number)
        if place < len(records):
            return records[place]
        return records[-1] if records and seen.element is None else None

    def _unspoken(self, seen: _Seen, attempt: _Attempt, record: Record | None) -> Outcome:
        if attempt.job_id is None:
            return unspoken(seen.paths, attempt.number, "lost", "it left no word")
        if record is None and seen.element is not None:
            why = (
                f"SLURM put its job {attempt.job_id} back into the queue ({seen.element.reason}), and left no word why"
            )
            return unspoken(seen.paths, attempt.number, "stopped", why)
        submission = self._submissions.get(attempt.job_id.partition("_")[0])
        output = job_output(self.paths, submission, attempt.job_id) if submission else seen.paths.root / "no output"
        cause, evidence, trace = cause_of(record, output)
        return unspoken(seen.paths, attempt.number, cause, evidence, trace=trace)


def fleet_of(launch: Launch, paths: SweepPaths, queue: Mapping[str, Element]) -> Fleet:
    """The look at a launched sweep."""
    grace_seconds = launch.sweep.launcher.grace_seconds
    return Fleet(paths=paths, grace_seconds=grace_seconds, launched=launch.launched, queue=queue)


def _ends(records: Sequence[Record]) -> bool:
    return any(record.ended for record in records)


def _last_end(records: Sequence[Record]) -> Record | None:
    return next((record for record in reversed(records) if record.ended), None)


def _read_unseen(paths: SweepPaths) -> dict[str, float]:
    try:
        return dict(read_json(paths.unseen, format=_FORMAT)["since"])
    except RecordError:
        return {}
