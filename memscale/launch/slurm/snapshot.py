"""The status of every run of a sweep on SLURM: its files, one `squeue`, one `sacct`, `scontrol`, and a bounded grace.

SLURM's queue is asked before the files are read. What ended before `squeue` answered has written its files by then, so
a run that ends meanwhile is observed as working or as ended, never as lost.

The job of an attempt that wrote no outcome may be missing from the queue. How it ended is decided

1. after `_SETTLE_SECONDS`, where SLURM has a record of the job's end: a shared file system may show a file late;
2. after the launcher's `grace_seconds`, where SLURM knows nothing of the job.

Until then the run is unsettled. This module only observes; `memscale.launch.reconcile` acts on what it finds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from memscale.errors import RecordError
from memscale.launch.executor import NewOutcome, RunStatus
from memscale.launch.slurm import commands
from memscale.launch.slurm.arrays import job_output
from memscale.launch.slurm.commands import QueueEntry, Record
from memscale.launch.slurm.endings import UNEXPLAINED, cause_of, refined
from memscale.records.atomic import read_json, write_json
from memscale.records.attempts import Outcome, attempt_numbers, job_id, read_outcome, unrecorded_outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.submissions import ArrayElement, Refusal, Submission, read_refusals, submissions

_FORMAT = 1
_SETTLE_SECONDS = 5.0
_MOST_SHOWN = 20
"""Jobs asked of scontrol at one look."""


@dataclass(frozen=True)
class _Attempt:
    number: int
    job_id: str | None
    outcome: Outcome | None


@dataclass(kw_only=True)
class _Seen:
    """The state of a run without a result, by its files and the queue."""

    paths: RunPaths
    place: ArrayElement | None
    entry: QueueEntry | None
    held: bool
    attempts: list[_Attempt]

    @property
    def at_work(self) -> bool:
        return self.held or (self.entry is not None and not self.entry.waiting)

    @property
    def unrecorded(self) -> list[_Attempt]:
        """Attempts that have ended without an outcome."""
        if self.at_work:
            return []
        return [attempt for attempt in self.attempts if attempt.outcome is None]

    @property
    def never_started(self) -> bool:
        """Whether its job left the queue before it made an attempt."""
        place = self.place
        if place is None or place.job_id is None or self.entry is not None or self.held:
            return False
        return not any(
            attempt.job_id == place.job_id
            or (attempt.outcome is not None and attempt.outcome.started > place.submission.submitted)
            for attempt in self.attempts
        )

    @property
    def unexplained_jobs(self) -> set[str]:
        """The jobs whose end SLURM has to be asked about."""
        jobs = {attempt.job_id for attempt in self.unrecorded}
        jobs |= {one.job_id for one in self.attempts[-1:] if one.outcome and one.outcome.cause in UNEXPLAINED}
        if self.never_started and self.place is not None:
            jobs.add(self.place.job_id)
        return {job for job in jobs if job is not None}


@dataclass(kw_only=True)
class SweepSnapshot:
    """A sweep's jobs at one moment; `observe` combines them with the files of runs.

    The queue has to be asked (`commands.queue`) right before this is made. See the module for how ends are decided.
    """

    paths: SweepPaths
    grace_seconds: float
    launched: float
    queue: Mapping[str, QueueEntry]
    now: float = field(default_factory=time.time)
    _places: dict[str, ArrayElement] = field(default_factory=dict)
    _submissions: dict[str, Submission] = field(default_factory=dict)
    """By the id of their array."""
    _since: dict[str, float] = field(default_factory=dict)
    _unseen: dict[str, float] = field(default_factory=dict)
    _kept: Mapping[str, float] = field(default_factory=dict)
    """What the file holds."""
    _records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    _refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By the name of the run's folder."""

    def __post_init__(self) -> None:
        self._since = self._kept = _read_unseen(self.paths)
        for submission in submissions(self.paths):
            if submission.array is not None and not submission.void:
                self._submissions[submission.array] = submission
                for index, run in enumerate(submission.runs):
                    self._places[run] = ArrayElement(submission=submission, index=index)
        self._refusals = read_refusals(self.paths)

    def observe(self, folders: Iterable[RunPaths]) -> list[RunStatus]:
        """Return the status of each run.

        Raises:
            RecordError: A file of a run is damaged.

        """
        statuses: list[RunStatus | _Seen] = [self._see(folder) for folder in folders]
        self._ask([one for one in statuses if isinstance(one, _Seen)])
        return [self._status(one) if isinstance(one, _Seen) else one for one in statuses]

    def remember(self) -> None:
        """Write since when the unsettled jobs have been missing, of all runs that were observed."""
        if self._unseen != self._kept:
            write_json(self.paths.unseen, {"since": self._unseen}, format=_FORMAT)
            self._kept = dict(self._unseen)

    def _see(self, paths: RunPaths) -> RunStatus | _Seen:
        place = self._places.get(paths.root.name)
        entry = self._entry(place)
        numbers = list(attempt_numbers(paths))  # read before the result: who has no attempt has no result either
        if numbers and paths.result.exists():
            return RunStatus(paths=paths, state="done")
        held = bool(numbers) and is_held(paths.lease)
        attempts = [_Attempt(number, job_id(paths, number), read_outcome(paths, number)) for number in numbers]
        return _Seen(paths=paths, place=place, entry=entry, held=held, attempts=attempts)

    def _entry(self, place: ArrayElement | None) -> QueueEntry | None:
        entry = self.queue.get(place.job_id) if place is not None and place.job_id is not None else None
        # A cluster set up anew counts its jobs from one again.
        return entry if entry is not None and place is not None and entry.name == place.submission.name else None

    def _ask(self, seen: Sequence[_Seen]) -> None:
        """Ask how jobs ended: the accounting first, then the controller for those that it has no end of."""
        jobs = set().union(*(one.unexplained_jobs for one in seen))
        found = commands.accounted(job.partition("_")[0] for job in jobs) or {}
        self._records = {job: found.get(job, ()) for job in jobs}
        unended = [job for job in sorted(jobs) if job not in self.queue and not _has_ended(self._records[job])]
        for job in unended[:_MOST_SHOWN]:
            record = commands.shown(job)
            if record is not None and record.ended:
                self._records = {**self._records, job: (record,)}

    def _status(self, seen: _Seen) -> RunStatus:
        new_outcomes, waits = self._new_outcomes(seen)
        written = {end.number: end.outcome for end in new_outcomes}
        outcomes = [written.get(attempt.number, attempt.outcome) for attempt in seen.attempts]
        outcomes += [end.outcome for end in new_outcomes if end.number is None]
        if seen.at_work:
            state = "working"
        elif seen.entry is not None:
            state = "queued"
        elif waits:
            state = "unsettled"
        else:
            state = "unsubmitted"
        if state in ("unsubmitted", "queued") and seen.paths.stop.exists():
            state = "cancelled"
        return RunStatus(
            paths=seen.paths,
            state=state,
            entry=seen.entry,
            trains_on=seen.entry.node if seen.held and seen.entry is not None else "",
            outcomes=tuple(one for one in outcomes if one is not None and one.started >= self.launched),
            new_outcomes=tuple(new_outcomes),
            refusal=self._refusals.get(seen.paths.root.name) if state == "unsubmitted" else None,
        )

    def _new_outcomes(self, seen: _Seen) -> tuple[list[NewOutcome], bool]:
        """Return the outcomes that can be decided, and whether another one cannot be yet."""
        new_outcomes, waits = [], False
        for attempt in seen.unrecorded:
            record = self._record(seen, attempt)
            if attempt.job_id is not None and not self._settled(attempt.job_id, record, seen.entry):
                waits = True
                continue
            outcome = self._unrecorded(seen, attempt, record)
            new_outcomes.append(NewOutcome(number=attempt.number, job_id=attempt.job_id, outcome=outcome))
        last = seen.attempts[-1] if seen.attempts else None
        if last is not None and last.outcome is not None and last.job_id is not None:
            better = refined(last.outcome, self._record(seen, last))
            if better != last.outcome:
                new_outcomes.append(NewOutcome(number=last.number, job_id=last.job_id, outcome=better))
        if seen.never_started and seen.place is not None and seen.place.job_id is not None:
            job = seen.place.job_id
            record = _last_end(self._records.get(job, ()))
            if self._settled(job, record, None):
                cause, evidence, trace = cause_of(record, job_output(self.paths, seen.place.submission, job))
                host = record.node if record is not None else ""
                outcome = unrecorded_outcome(seen.paths, None, cause, evidence, trace=trace, host=host)
                new_outcomes.append(NewOutcome(number=None, job_id=job, outcome=outcome))
            else:
                waits = True
        return new_outcomes, waits

    def _settled(self, job: str, record: Record | None, entry: QueueEntry | None) -> bool:
        """Whether a job without an outcome has been missing for long enough to decide how it ended."""
        since = self._since.get(job, self.now)
        self._unseen[job] = since
        known = record is not None or entry is not None
        return self.now - since >= (_SETTLE_SECONDS if known else self.grace_seconds)

    def _record(self, seen: _Seen, attempt: _Attempt) -> Record | None:
        """SLURM's record of an attempt's end; a job that was requeued has a record for each time it ran."""
        if attempt.job_id is None:
            return None
        records = [record for record in self._records.get(attempt.job_id, ()) if record.ended]
        place = [one.number for one in seen.attempts if one.job_id == attempt.job_id].index(attempt.number)
        if place < len(records):
            return records[place]
        return records[-1] if records and seen.entry is None else None

    def _unrecorded(self, seen: _Seen, attempt: _Attempt, record: Record | None) -> Outcome:
        if attempt.job_id is None:
            return unrecorded_outcome(seen.paths, attempt.number, "lost", "it left no outcome")
        if record is None and seen.entry is not None:
            why = f"SLURM put its job {attempt.job_id} back into the queue ({seen.entry.reason}), and gave no reason"
            return unrecorded_outcome(seen.paths, attempt.number, "stopped", why)
        submission = self._submissions.get(attempt.job_id.partition("_")[0])
        output = job_output(self.paths, submission, attempt.job_id) if submission else seen.paths.root / "no output"
        cause, evidence, trace = cause_of(record, output)
        return unrecorded_outcome(seen.paths, attempt.number, cause, evidence, trace=trace)


def snapshot_of(launch: Launch, paths: SweepPaths, queue: Mapping[str, QueueEntry]) -> SweepSnapshot:
    """Return the snapshot of a launched sweep, with the queue as it was just asked."""
    grace_seconds = launch.sweep.launcher.grace_seconds
    return SweepSnapshot(paths=paths, grace_seconds=grace_seconds, launched=launch.launched, queue=queue)


def _has_ended(records: Sequence[Record]) -> bool:
    return any(record.ended for record in records)


def _last_end(records: Sequence[Record]) -> Record | None:
    return next((record for record in reversed(records) if record.ended), None)


def _read_unseen(paths: SweepPaths) -> dict[str, float]:
    try:
        return dict(read_json(paths.unseen, format=_FORMAT)["since"])
    except RecordError:
        return {}
