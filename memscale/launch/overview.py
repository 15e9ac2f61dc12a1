"""The state of every run of a launched sweep, for a person: files first, and on SLURM what the queue adds to them.

`planned queued running done failed lost damaged`, each with its evidence and what mends it. This module only reads.
Whatever is broken in one run's folder is told as that run's state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memscale.launch.code_differences import code_differences
from memscale.launch.data_check import data_changed
from memscale.launch.finished_runs import FinishedRuns
from memscale.launch.job_states import needs_a_person, state_on_slurm
from memscale.launch.nodes import suspicious_nodes
from memscale.launch.planned import sweep_file_changed
from memscale.launch.slurm import commands
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.slurm.controllers import controllers
from memscale.launch.slurm.snapshot import SweepSnapshot, snapshot_of
from memscale.launch.states import DONE, NEEDS_ATTENTION, RUNNING, RunState, halt_reason, read_state
from memscale.records.attempts import codes_of, job_id
from memscale.records.launch_file import Launch, read_launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import is_held
from memscale.records.plan_file import PlanFile, PlanRow
from memscale.records.submissions import users_of

if TYPE_CHECKING:
    import pandas as pd

ORDER = ("damaged", "failed", "lost", "running", "queued", "planned", "done")
"""States, those that need a person first."""
_HELD = "the jobs that look after the sweep are held, so nobody takes its next step: scontrol release {ids}"


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run of the plan, and its state for a person."""

    row: PlanRow
    state: RunState
    job_id: str | None = None
    node: str | None = None
    held: bool = False
    """Whether its job waits for a person, or was refused."""
    codes: tuple[str, ...] = ()
    """Digests of the code that trained it."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.row.tokens // self.row.batch_tokens

    @property
    def step(self) -> int | None:
        """Optimizer steps done by the last heartbeat; None before the first."""
        if self.state.heartbeat is not None:
            return self.state.heartbeat.step
        return self.num_steps if self.state.state == "done" else None


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """The state of every run of a launched sweep, those that need a person first."""

    sweep: str
    plan_hash: str
    runs: Sequence[RunLine]
    scheduled: bool
    """Whether a launcher or a controller job takes the sweep's steps."""
    halted: str
    """Why nothing is started any more; '' where it may be."""
    slurm_is_silent: str
    """Why SLURM could not be queried; '' where it answered, or the launcher is local."""
    data_changed: str = ""
    """Which file of the prepared data was changed since it was verified; '' where none was."""
    sweep_changed: str = ""
    """That the sweep's YAML file was changed since the launch; '' where it was not."""
    code_differs: str = ""
    """Which runs were trained with which code; '' where it was the same for all."""
    controllers_held: str = ""
    """That the jobs which take the sweep's steps are held, and what to do; '' where they are not."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of runs by state."""
        return dict(Counter(run.state.state for run in self.runs))

    @property
    def state(self) -> str:
        """`done`, `running`, or `needs_attention` where nothing more happens until a person acts."""
        states = set(self.counts)
        if states <= {"done"}:
            return DONE
        moving = any(
            run.state.state == "running" or (run.state.state == "queued" and not run.held) for run in self.runs
        )
        waits = self.scheduled and "planned" in states and not any(run.held for run in self.runs)
        return RUNNING if moving or waits else NEEDS_ATTENTION

    def to_json(self) -> dict[str, Any]:
        """Return what `memscale status --json` prints; documented in docs/interfaces.md."""
        return {
            "format": 1,
            "sweep": self.sweep,
            "plan_hash": self.plan_hash,
            "counts": self.counts,
            "scheduled": self.scheduled,
            "halted": self.halted,
            "slurm_is_silent": self.slurm_is_silent,
            "data_changed": self.data_changed,
            "sweep_changed": self.sweep_changed,
            "code_differs": self.code_differs,
            "controllers_held": self.controllers_held,
            "runs": [_run_json(run) for run in self.runs],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a row a run, with the columns of `runs[]` in docs/interfaces.md."""
        import pandas as pd

        return pd.DataFrame([_run_json(run) for run in self.runs])


def _run_json(run: RunLine) -> dict[str, Any]:
    return {
        "name": run.row.name,
        "run_id": run.row.run_id,
        "state": run.state.state,
        "cause": run.state.cause,
        "evidence": run.state.evidence,
        "attempts": run.state.attempts,
        "step": run.step,
        "num_steps": run.num_steps,
        "job_id": run.job_id,
        "node": run.node,
        "advice": run.state.advice,
    }


def sweep_status(paths: SweepPaths, plan: PlanFile) -> SweepStatus:
    """Return the state of every run of a plan.

    Raises:
        RecordError: A file of the sweep is damaged; one of a run is told as the run's state.

    """
    launch = read_launch(paths) if plan.launcher == "slurm" else None
    halted = halt_reason(paths)
    scheduled, silent, held = is_held(paths.lock), "", list[str]()
    snapshot: SweepSnapshot | None = None
    if launch is not None:
        try:
            queue = commands.queue(users_of(paths))
            there = [entry for kind in controllers(paths, queue, None).values() for entry in kind]
            held = [entry.job_id for entry in there if entry.held]
            scheduled = scheduled or len(held) < len(there)
            snapshot = snapshot_of(launch, paths, queue)
        except SlurmError as error:
            silent = str(error)
    lines = _lines(paths, plan, launch, snapshot, scheduled=scheduled and not halted)
    return SweepStatus(
        sweep=plan.sweep,
        plan_hash=plan.plan_hash,
        runs=sorted(lines, key=lambda line: (not line.held, ORDER.index(line.state.state))),
        scheduled=scheduled,
        halted=halted,
        slurm_is_silent=silent,
        data_changed=data_changed(paths, plan),
        sweep_changed=sweep_file_changed(paths),
        code_differs=_code_differs(paths, plan, lines),
        controllers_held="" if scheduled or not held else _HELD.format(ids=" ".join(held)),
    )


def _code_differs(paths: SweepPaths, plan: PlanFile, lines: Sequence[RunLine]) -> str:
    runs = [
        (line.row.name, folder, line.codes)
        for line in lines
        if line.codes and (folder := plan.run_paths(paths, line.row)) is not None
    ]
    return code_differences(plan.sweep, runs)


def _lines(
    paths: SweepPaths, plan: PlanFile, launch: Launch | None, snapshot: SweepSnapshot | None, *, scheduled: bool
) -> list[RunLine]:
    finished = FinishedRuns(paths)
    lines: list[RunLine] = []
    open_rows: list[tuple[PlanRow, RunPaths]] = []
    for row in plan.runs:
        folder = plan.run_paths(paths, row)
        if folder is None:
            lines.append(RunLine(row=row, state=_waiting("its stage is not open")))
        elif (run := finished.find(folder)) is not None:
            lines.append(RunLine(row=row, state=run.state, job_id=run.job_id, node=run.node, codes=run.codes))
        else:
            open_rows.append((row, folder))
    finished.keep()
    if snapshot is None or launch is None:
        states = [read_state(folder, queued=scheduled) for _, folder in open_rows]
    else:
        statuses = snapshot.observe(folder for _, folder in open_rows)
        done_on = {line.node for line in lines if line.state.state == "done" and line.node}
        bad = suspicious_nodes(statuses, done_on=done_on)
        states = [state_on_slurm(status, launch, bad, scheduled=scheduled) for status in statuses]
    for i, ((row, folder), state) in enumerate(zip(open_rows, states, strict=True)):
        entry = statuses[i].entry if snapshot is not None and launch is not None else None
        node = state.heartbeat.host if state.heartbeat is not None and state.state == "running" else None
        lines.append(
            RunLine(
                row=row,
                state=state,
                job_id=entry.job_id if entry is not None else job_id(folder) if state.attempts else None,
                node=node or (entry.node if entry is not None and entry.node else None),
                held=needs_a_person(statuses[i]) if snapshot is not None and launch is not None else False,
                codes=codes_of(folder) if state.attempts else (),
            )
        )
    return lines


def _waiting(evidence: str) -> RunState:
    return RunState(state="planned", cause=None, evidence=evidence, attempts=0, heartbeat=None, advice="")
