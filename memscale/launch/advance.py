"""One step of a sweep on SLURM: look at it, write down what ended, submit what has to be trained, open the next stage.

Whoever takes the step holds the sweep's lock: the launcher, a job that looks after the sweep, or somebody who follows
it. Any of them can die at any point, and the next step goes on from the files. A run is submitted only while no job is
there for it and its last one is known to have ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memscale.config.launcher import Launcher
from memscale.launch.convert import choices_of, plan_file, run_file
from memscale.launch.costs import cost_of, done_names, known_speeds, launcher_of, learn_speed
from memscale.launch.local import worker_arguments
from memscale.launch.nodes import avoided, own, suspicious_nodes
from memscale.launch.pool import Task, half_micro_batch
from memscale.launch.retry import decide, same_fault
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.slurm.arrays import Order, recover, submit
from memscale.launch.slurm.snapshot import End, Fleet, Standing, fleet_of
from memscale.launch.sweep import is_done, is_tuned, run_paths, tuning_losses
from memscale.launch.usage import gpu_hours
from memscale.launch.workers import workers_for
from memscale.planning.forecast import Speeds
from memscale.planning.plan import STAGES, Plan, choose_rates, make_plan, open_compare
from memscale.planning.planned_runs import PlannedRun
from memscale.records.atomic import write_bytes
from memscale.records.attempts import attempt_numbers, read_outcome, record_unmade, write_outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import read_plan_file, write_plan_file
from memscale.records.run_file import write_run_file


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step found and did."""

    plan: Plan
    num_done: int
    num_alive: int
    """Jobs that are pending or at work."""
    submitted: int = 0
    unsettled: bool = False
    """Something is not known yet: look again in a moment."""
    given_up: dict[str, str] = field(default_factory=dict)
    """Run -> why it is not tried again."""
    halted: str = ""
    """Why nothing is submitted any more."""
    said: tuple[str, ...] = ()
    """What happened, a line each."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do for anybody but a person."""
        return not (self.num_alive or self.submitted or self.unsettled)


def reopened(launch: Launch, paths: SweepPaths) -> Plan:
    """Make the launched plan again, opened as far as it was on disk."""
    plan = make_plan(launch.sweep, launch.digests)
    stored = read_plan_file(paths, plan.plan_hash)
    return open_compare(plan, choices_of(stored)) if stored is not None and stored.choices else plan


def take_step(launch: Launch, paths: SweepPaths) -> Step:
    """The caller holds the sweep's lock. Raises SlurmError where SLURM does not answer or refuses a job, and has then
    lost nothing; RecordError for damaged files."""
    plan = reopened(launch, paths)
    queue = slurm_commands.queue()
    settled = recover(paths, queue)
    fleet = fleet_of(launch, paths, queue)
    said: list[str] = []
    given_up: dict[str, str] = {}
    before: list[Standing] = []
    for stage in STAGES:
        if stage == "compare" and not plan.is_open:
            if not is_tuned(plan, paths):
                break
            plan = open_compare(plan, choose_rates(plan, tuning_losses(plan, paths)))
            write_plan_file(paths, plan_file(plan, Path(launch.data_folder)))
            said.append("every family's rates are chosen: the compared runs are open")
        view = _look(plan.stage(stage), fleet, launch, before)
        before += view.standings
        given_up |= view.given_up
        said += view.said
        if view.open:
            return _act(plan, view, launch, paths, settled=settled, given_up=given_up, said=said)
    return Step(
        plan=plan,
        num_done=_num_done(plan, paths),
        num_alive=0,
        unsettled=not settled,
        given_up=given_up,
        halted=_halt_reason(paths),
        said=tuple(said),
    )


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A run to be submitted."""

    run: PlannedRun
    half_micro_batch: bool
    avoid: tuple[str, ...]
    """Nodes of its last faults."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """A stage: what is there, what is to be submitted, what is given up."""

    standings: Sequence[Standing]
    bad: Sequence[str]
    """Suspicious nodes."""
    wanted: Sequence[_Wanted]
    given_up: dict[str, str]
    said: list[str]

    @property
    def num_alive(self) -> int:
        return sum(one.kind in ("working", "queued") for one in self.standings)

    @property
    def unsettled(self) -> bool:
        return any(one.kind == "unsettled" for one in self.standings)

    @property
    def open(self) -> bool:
        return bool(self.num_alive or self.wanted or self.unsettled)


def _look(runs: Sequence[PlannedRun], fleet: Fleet, launch: Launch, before: Sequence[Standing]) -> _View:
    """Look at the runs of a stage, write down what ended, and decide for each. `before`: runs of earlier stages."""
    standings = fleet.stand(run_paths(fleet.paths, run) for run in runs)
    fleet.remember()
    bad = suspicious_nodes([*before, *standings])
    wanted, given_up, said = [], {}, []
    for run, standing in zip(runs, standings, strict=True):
        for end in standing.ends:
            _write_end(standing.paths, end)
            said.append(f"{run.name} {end.outcome.cause}: {end.outcome.evidence}")
        outcomes = own(standing.outcomes, bad)
        decision = decide(outcomes, launch.sweep.launcher.retries) if outcomes else None
        if standing.kind == "cancelled":
            given_up[run.name] = "cancelled; starting the sweep again goes on with it"
        elif standing.kind in ("idle", "queued") and decision is not None and not decision.again:
            given_up[run.name] = decision.reason
        elif standing.kind == "idle":
            half = decision is not None and decision.half_micro_batch
            wanted.append(_Wanted(run=run, half_micro_batch=half, avoid=avoided(standing.outcomes)))
        if run.name in given_up and standing.element is not None:  # SLURM would put it back into the queue for ever
            slurm_commands.cancel([standing.element.job_id])
    return _View(standings=standings, bad=bad, wanted=wanted, given_up=given_up, said=said)


def _write_end(paths: RunPaths, end: End) -> None:
    if end.number is not None:
        write_outcome(paths, end.number, end.outcome)
    elif end.job_id is not None:
        record_unmade(paths, end.job_id, end.outcome)


def _act(
    plan: Plan,
    view: _View,
    launch: Launch,
    paths: SweepPaths,
    *,
    settled: bool,
    given_up: dict[str, str],
    said: list[str],
) -> Step:
    """Submit what is wanted, or end all where nothing may be submitted any more."""
    submitted = 0
    halted = _halt_reason(paths) or _new_reason(plan, view, launch, paths)
    if halted:
        stop_all(view.standings)
    elif settled and view.wanted:
        submitted = _submit(plan, launch, paths, view)
        said.append(f"{submitted} runs submitted")
    return Step(
        plan=plan,
        num_done=_num_done(plan, paths),
        num_alive=view.num_alive,
        submitted=submitted,
        unsettled=view.unsettled or not settled,
        given_up=given_up,
        halted=halted,
        said=tuple(said),
    )


def _num_done(plan: Plan, paths: SweepPaths) -> int:
    return len(done_names(paths.root, plan.runs))


def _halt_reason(paths: SweepPaths) -> str:
    """Why nothing may be submitted, as the cancel file has it; '' without one."""
    return (paths.cancel.read_text().strip() or "memscale cancel") if paths.cancel.exists() else ""


def _new_reason(plan: Plan, view: _View, launch: Launch, paths: SweepPaths) -> str:
    """Why nothing may be submitted from now on, which is then kept in the cancel file; '' where all is well."""
    lasts = [outcomes[-1] for one in view.standings if (outcomes := own(one.outcomes, view.bad))]
    fault, why = same_fault(lasts), ""
    if fault is not None:
        why = f"several runs failed with one and the same error: {fault.evidence}"
    elif any(outcome.cause == "disk_full" for outcome in lasts):
        why = "the disk is full: free space where the runs lie (MEMSCALE_RUNS moves them), then start again"
    limit = launch.sweep.limits.gpu_hours
    if not why and limit is not None:
        used = gpu_hours(
            (
                (run_paths(paths, run), launcher_of(plan.sweep, run).processes_per_run)
                for run in plan.runs
                if run.run_id is not None
            ),
            now=time.time(),
        )
        if used > limit:
            why = f"its runs have used {used:.3g} hours, and limits.gpu_hours is {limit:g}"
    if why:
        write_bytes(paths.cancel, f"{why}\n".encode())
    return why


def take_from_queue(launch: Launch, paths: SweepPaths, run: RunPaths) -> None:
    """Cancel the job of a run that waits in the queue, if there is one. Raises SlurmError."""
    (standing,) = fleet_of(launch, paths, slurm_commands.queue()).stand([run])
    if standing.element is not None and standing.element.waiting:
        slurm_commands.cancel([standing.element.job_id])


def stop_all(standings: Sequence[Standing]) -> None:
    """Ask the runs at work to leave with a checkpoint, and take the waiting jobs out of the queue."""
    for standing in standings:
        if standing.kind == "working":
            write_bytes(standing.paths.stop, b"")
    slurm_commands.cancel(
        standing.element.job_id
        for standing in standings
        if standing.element is not None and standing.element.waiting
    )  # fmt: skip


def _submit(plan: Plan, launch: Launch, paths: SweepPaths, view: _View) -> int:
    """Submit the wanted runs, those that take longest first; return how many."""
    speeds: dict[Launcher, Speeds] = {}
    orders: list[tuple[float, Order]] = []
    for wanted in view.wanted:
        run = wanted.run
        folder, asks = run_paths(paths, run), launcher_of(plan.sweep, run)
        if not folder.run.exists():
            write_run_file(folder.run, run_file(plan.sweep, run))
        (worker, *_) = workers = workers_for(asks, 1)
        if asks not in speeds:
            speeds[asks] = known_speeds(workers, asks)
        seconds = speeds[asks].run_seconds(cost_of(plan.sweep, run, done=False))
        task = Task(name=run.name, paths=folder, seconds=seconds)
        micro_batch = half_micro_batch(folder) if wanted.half_micro_batch else None
        arguments = worker_arguments(task, worker, micro_batch, launcher=asks, data_folder=Path(launch.data_folder))
        order = Order(paths=folder, arguments=tuple(arguments), asks=asks, avoid=wanted.avoid)
        orders.append((seconds, order))
    longest_first = [order for _, order in sorted(orders, key=lambda one: -one[0])]
    done = submit(
        paths, launch.sweep.launcher, Path(launch.code), longest_first, alive=view.num_alive, exclude=view.bad
    )
    return sum(len(one.runs) for one in done)


def learn_speeds(plan: Plan, paths: SweepPaths) -> None:
    """Keep the speeds of the runs that are done, for later forecasts."""
    for run in plan.runs:
        folder = run_paths(paths, run) if is_done(paths, run) else None
        numbers = list(attempt_numbers(folder)) if folder is not None else []
        outcome = read_outcome(folder, numbers[-1]) if folder is not None and len(numbers) == 1 else None
        if folder is not None and outcome is not None:
            learn_speed(plan.sweep, run, folder, outcome, workers_for(launcher_of(plan.sweep, run), 1))
