"""The state of every run of a launched sweep, for a person: files first, and on SLURM what the queue adds to them.

`planned queued running done failed lost`, each with its evidence and what mends it. Looks only. What is done does not
change any more, so it is kept in one file; the next look has one `stat` a run for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memscale.errors import RecordError
from memscale.launch.nodes import own, suspicious_nodes
from memscale.launch.retry import Decision, decide
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.slurm.commands import AT_WORK, WAITING, SlurmError
from memscale.launch.slurm.controllers import controllers
from memscale.launch.slurm.snapshot import Fleet, Standing, fleet_of
from memscale.launch.states import RunState, read_state
from memscale.records.atomic import read_json, write_json
from memscale.records.attempts import host_of, job_id
from memscale.records.launch_file import Launch, read_launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.plan_file import PlanFile, PlanRow

_FORMAT = 1
_MANY_NEW = 20


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run of the plan and how it stands."""

    row: PlanRow
    state: RunState
    job_id: str | None = None
    node: str | None = None
    held: bool = False
    """Whether its job waits for a person."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    lines: Sequence[Line]
    scheduled: bool
    """Whether somebody, or a job, looks after the sweep."""
    halted: str
    """Why nothing is started any more; '' where it may be."""
    silent: str
    """Why SLURM could not be asked; '' where it answered, or has no part in it."""


def overview(paths: SweepPaths, plan: PlanFile) -> Overview:
    """Raises RecordError for damaged files."""
    launch = read_launch(paths) if plan.launcher == "slurm" else None
    halted = (paths.cancel.read_text().strip() or "memscale cancel") if paths.cancel.exists() else ""
    scheduled, silent = is_held(paths.lock), ""
    fleet: Fleet | None = None
    if launch is not None:
        try:
            queue = slurm_commands.queue()
            scheduled = scheduled or any(controllers(paths, queue, None).values())
            fleet = fleet_of(launch, paths, queue)
        except SlurmError as error:
            silent = str(error)
    return Overview(
        lines=_lines(paths, plan, launch, fleet, scheduled=scheduled and not halted),
        scheduled=scheduled,
        halted=halted,
        silent=silent,
    )


def _lines(
    paths: SweepPaths, plan: PlanFile, launch: Launch | None, fleet: Fleet | None, *, scheduled: bool
) -> list[Line]:
    finished = _Finished(paths)
    lines: list[Line] = []
    open_rows: list[tuple[PlanRow, RunPaths]] = []
    for row in plan.runs:
        folder = plan.run_paths(paths, row)
        if folder is None:
            lines.append(Line(row=row, state=_waiting("its stage is not open")))
        elif (line := finished.line(row, folder)) is not None:
            lines.append(line)
        else:
            open_rows.append((row, folder))
    finished.keep()
    if fleet is None or launch is None:
        states = [read_state(folder, queued=scheduled) for _, folder in open_rows]
    else:
        standings = fleet.stand(folder for _, folder in open_rows)
        done_on = {line.node for line in lines if line.state.state == "done" and line.node}
        bad = suspicious_nodes(standings, done_on=done_on)
        states = [_state(standing, launch, bad, scheduled=scheduled) for standing in standings]
    for i, ((row, folder), state) in enumerate(zip(open_rows, states, strict=True)):
        element = standings[i].element if fleet is not None and launch is not None else None
        node = state.heartbeat.host if state.heartbeat is not None and state.state == "running" else None
        lines.append(
            Line(
                row=row,
                state=state,
                job_id=element.job_id if element is not None else job_id(folder) if state.attempts else None,
                node=node or (element.node if element is not None and element.node else None),
                held=element is not None and element.held,
            )
        )
    return lines


def _waiting(evidence: str) -> RunState:
    return RunState(state="planned", cause=None, evidence=evidence, attempts=0, heartbeat=None, advice="")


def _state(standing: Standing, launch: Launch, bad: Sequence[str], *, scheduled: bool) -> RunState:
    """What a run's standing is called."""
    state = read_state(standing.paths)
    element, last = standing.element, standing.outcomes[-1] if standing.outcomes else None
    if state.state in ("running", "done") or state.cause == "diverged":
        return state
    if element is not None and standing.kind != "cancelled":
        return replace(state, state="queued", evidence=_told(element), advice=_release(element))
    if standing.kind == "unsettled":
        word = "queued" if scheduled else "lost"
        why = f"its job left the queue without a word; {launch.sweep.launcher.grace_seconds:.0f} s decide"
        return replace(state, state=word, cause="lost", evidence=why, advice="" if scheduled else state.advice)
    if standing.kind == "cancelled":
        return replace(state, state="planned", cause="cancelled", evidence="cancelled", advice="")
    if last is None:
        return replace(state, state="queued", evidence="", advice="") if scheduled and not state.attempts else state
    outcomes = own(standing.outcomes, bad)
    decision = decide(outcomes, launch.sweep.launcher.retries) if outcomes else Decision(again=True)
    if decision.again and scheduled:
        why = decision.reason or f"again, elsewhere: {last.host} is left out"
        evidence = f"{last.cause}: {last.evidence}; {why}"
        return replace(state, state="queued", cause=last.cause, evidence=evidence, advice="")
    return replace(state, cause=last.cause, evidence=f"{last.evidence} ({decision.reason})")


def _told(element: slurm_commands.Element) -> str:
    if element.word not in WAITING | AT_WORK:
        return f"SLURM says {element.word} of its job {element.job_id}, a word that memscale does not know"
    where = f" on {element.node}" if element.node else f" ({element.reason})" if element.reason else ""
    return f"its job {element.job_id} is {element.word}{where}"


def _release(element: slurm_commands.Element) -> str:
    if element.word not in WAITING | AT_WORK:
        return f"look at it: scontrol show job {element.job_id}"
    if not element.held:
        return ""
    if "Partition" in element.reason or "Constraints" in element.reason:
        return f"no node may ever take it: scancel {element.job_id}, mend the launcher's keys, then start again"
    return f"it is held, and waits for somebody: scontrol release {element.job_id}"


class _Finished:
    """The lines of runs that have a result, kept from look to look."""

    def __init__(self, paths: SweepPaths) -> None:
        self._path = paths.finished_runs
        self._kept: dict[str, list[Any]] = {}
        self._new = 0
        try:
            self._kept = read_json(self._path, format=_FORMAT)["runs"]
        except (RecordError, KeyError):
            self._kept = {}

    def line(self, row: PlanRow, folder: RunPaths) -> Line | None:
        """The line of a run that has a result; None for any other."""
        try:
            written = folder.result.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        name = folder.root.name
        kept = self._kept.get(name)
        if kept is None or kept[0] != written:
            state, job = read_state(folder), job_id(folder)
            node = host_of(folder, state.attempts) if state.attempts else None
            kept = [written, state.state, state.cause, state.evidence, state.attempts, state.advice, job, node]
            self._kept[name] = kept
            self._new += 1
        _, word, cause, evidence, attempts, advice, job, node = kept
        state = RunState(
            state=word, cause=cause, evidence=evidence, attempts=attempts, heartbeat=None, advice=advice
        )  # fmt: skip
        return Line(row=row, state=state, job_id=job, node=node)

    def keep(self) -> None:
        """Write what is new; it is no truth of its own, so a look that may not write has lost nothing."""
        if self._new >= _MANY_NEW:
            try:
                write_json(self._path, {"runs": self._kept}, format=_FORMAT)
            except PermissionError:
                return
