"""Starts a planned sweep, or goes on with it: prepares what the workers need, and hands it to the reconcile loop.

On this machine the loop runs here until the sweep is over. On SLURM the first step is taken here; controller jobs take
the later ones, unless the launcher is to stay (`launcher.detach=false`).
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

from memscale.errors import MemscaleError, PlanError, RecordError
from memscale.launch.code_snapshot import module_command, take_snapshot
from memscale.launch.costs import launcher_of
from memscale.launch.finished_runs import damaged_runs
from memscale.launch.follow import Follower
from memscale.launch.local import LocalExecutor
from memscale.launch.planned import PlannedSweep, keep_sweep_file, sweep_paths
from memscale.launch.progress import Output, Progress
from memscale.launch.reconcile import Step
from memscale.launch.resolution import keep_resolution
from memscale.launch.slurm.arrays import waiting_jobs
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.slurm.executor import SlurmExecutor
from memscale.launch.slurm.script import requests_changed
from memscale.launch.stages import is_done, reopen, write_files
from memscale.launch.states import RUNNING
from memscale.launch.stop_request import StopRequest
from memscale.launch.workers import workers_for
from memscale.planning.plan import Plan, make_plan
from memscale.records.access import make_folder, modes_of
from memscale.records.launch_file import Launch, read_launch, write_launch
from memscale.records.layout import SweepPaths, runs_root
from memscale.records.lease import Lease, LeaseTakenError
from memscale.records.plan_file import is_finished

_LOCK_SECONDS = 60.0
"""A controller job holds the lock for a moment."""


@dataclass(frozen=True, kw_only=True)
class SweepOutcome:
    """What came of starting a sweep, or of taking its next steps."""

    state: str
    """`done` (every run has a result), `running` (jobs are there) or `needs_attention`."""
    num_runs: int
    num_done: int
    submitted: int = 0
    """Runs submitted by the last step."""
    given_up: dict[str, str] = field(default_factory=dict)
    """Run -> why it is not tried again."""
    stopped: str = ""
    """Why it was stopped before its end; '' where it was not."""


def start(planned: PlannedSweep, output: Output) -> SweepOutcome:
    """Train what a planned sweep lacks, evaluate, record and report it; on SLURM, submit it.

    Args:
        planned: The sweep.
        output: Where a person reads how far it is.

    Raises:
        MemscaleError: Somebody else launches the sweep, the data or MLflow's store cannot be prepared, SLURM refuses.

    """
    _check_batches(planned.plan)
    make_folder(planned.paths.root)
    with modes_of(planned.paths.root):
        return _start(planned, output)


def _start(planned: PlannedSweep, output: Output) -> SweepOutcome:
    sweep, paths = planned.plan.sweep, planned.paths
    on_slurm = sweep.launcher.name == "slurm"
    try:
        with Lease(paths.lock, f"the sweep {sweep.name}", seconds=_LOCK_SECONDS if on_slurm else 0.0):
            if not on_slurm:
                return _train_here(planned, output)
            follower = _on_slurm(planned, output)
            step = follower.locked_step()
    except LeaseTakenError as error:
        raise MemscaleError(
            f"{error}. Follow it with: make watch SWEEP={sweep.name}; stop it with: make cancel SWEEP={sweep.name}"
        ) from None
    if step.refused and not (step.submitted or step.num_alive):
        raise SlurmError(step.refused)
    output.line(f"{step.submitted} runs submitted, {step.num_alive} in the queue before, {step.num_done} done")
    for message in (*step.messages, *(f"{run} has no job: {why}" for run, why in step.given_up.items())):
        output.line(message)
    if step.over or not sweep.launcher.detach:
        return _followed(follower, to_the_end=True)
    output.line(f"jobs of one core look after it: you may log out. Follow it with: make watch SWEEP={sweep.name}")
    output.line(f"stop it with: make cancel SWEEP={sweep.name}; its report will be {paths.report}")
    return _outcome(step, RUNNING)


def reconcile_launched(name: str, output: Output, *, to_the_end: bool = False) -> SweepOutcome:
    """Take the next step of a sweep that was launched on SLURM; what its controller jobs do. Safe at any time.

    Args:
        name: The sweep.
        output: Where a person reads what happened.
        to_the_end: Go on until every run has ended.

    Raises:
        RecordError: The sweep was not launched on SLURM, or a file of it is damaged.

    """
    paths = sweep_paths(name)
    with modes_of(paths.root):
        follower = launched_follower(paths, output)
        outcome = _followed(follower, to_the_end=to_the_end)
        if outcome.state == RUNNING:
            follower.syncer.once()
    return outcome


def launched_follower(paths: SweepPaths, output: Output) -> Follower:
    """Return what takes the steps of a sweep that was launched on SLURM. Raises RecordError where it was not."""
    launch = read_launch(paths)
    if launch is None:
        name = paths.root.name
        raise RecordError(
            f"the sweep '{name}' was not launched on SLURM in {paths.root.parent}; start it with: "
            f"make sweep SWEEP={name} LAUNCHER=slurm"
        )
    plan = make_plan(launch.sweep, launch.plan_digests)
    if not paths.plan(plan.plan_hash).exists():  # launched by a version that plans otherwise: its runs are used
        write_files(plan, paths)
    return _follower(launch, plan, paths, output)


def _follower(launch: Launch, plan: Plan, paths: SweepPaths, output: Output) -> Follower:
    def report(step: Step) -> None:
        for one in step.ended:
            output.line(f"{one.name} {one.outcome.cause}: {one.outcome.evidence}")
        for message in step.messages:
            output.line(message)
        if step.submitted:
            output.line(f"{step.submitted} runs submitted")

    executor = SlurmExecutor.for_this_process(launch, paths)
    return Follower(launch=launch, plan=plan, paths=paths, executor=executor, output=output, on_step=report)


def _followed(follower: Follower, *, to_the_end: bool) -> SweepOutcome:
    step = follower.follow(to_the_end=to_the_end)
    if step is None:
        return SweepOutcome(state=RUNNING, num_runs=len(follower.plan.runs), num_done=0)
    return _outcome(step, follower.conclude(step) if step.over else RUNNING)


def _outcome(step: Step, state: str) -> SweepOutcome:
    return SweepOutcome(
        state=state,
        num_runs=len(step.plan.runs),
        num_done=step.num_done,
        submitted=step.submitted,
        given_up=step.given_up,
        stopped=step.halted,
    )


def _train_here(planned: PlannedSweep, output: Output) -> SweepOutcome:
    """Run the loop here until the sweep is over; the lock is held."""
    launch = _prepare(planned, output)
    sweep, paths = planned.plan.sweep, planned.paths
    progress = Progress(output=output, paths=paths, workers=workers_for(sweep.launcher, len(planned.plan.runs)))
    with StopRequest(cancel_file=paths.cancel) as stop:
        executor = LocalExecutor(workers=progress.workers, launched=launch.launched, should_stop=stop)
        follower = Follower(
            launch=launch,
            plan=planned.plan,
            paths=paths,
            executor=executor,
            output=output,
            on_step=progress.report,
            on_tick=lambda: _tick(progress, executor, follower),
            should_stop=stop,
            holds_lock=True,
        )
        with executor:
            step = follower.follow(to_the_end=True)
    assert step is not None
    return _outcome(step, follower.conclude(step))


def _tick(progress: Progress, executor: LocalExecutor, follower: Follower) -> None:
    progress.tick([folder.rpartition("-")[0] for folder in executor.running])
    follower.syncer.now_and_then()


def _on_slurm(planned: PlannedSweep, output: Output) -> Follower:
    """Write what the jobs read; the lock is held."""
    before = None
    with suppress(RecordError):  # a damaged file is written anew
        before = read_launch(planned.paths)
    follower = _follower(_prepare(planned, output), planned.plan, planned.paths, output)
    write_launch(planned.paths, follower.launch)
    if before is not None:
        _say_what_waits(before, follower, output)
    return follower


def _say_what_waits(before: Launch, follower: Follower, output: Output) -> None:
    """Say that jobs in the queue keep what they asked for, where the launcher asks for something else now."""
    changed = requests_changed(before.sweep.launcher, follower.launch.sweep.launcher)
    waiting = waiting_jobs(follower.paths) if changed else 0
    if waiting:
        name = follower.plan.sweep.name
        output.line(
            f"{waiting} jobs wait in the queue with the {', '.join(changed)} of the launch before, and keep them. To"
            f" submit them with the new ones: make cancel SWEEP={name}, then the same command again"
        )


def _prepare(planned: PlannedSweep, output: Output) -> Launch:
    """Prepare the data and MLflow's store, and write the files of the runs that are left.

    MLflow's store is made by a process of its own, so that mlflow is not imported here, before a job can open it.
    """
    from memscale.launch.budget_data import prepare_plan

    paths, sweep = planned.paths, planned.plan.sweep
    paths.cancel.unlink(missing_ok=True)
    store = subprocess.Popen([*module_command("memscale.tracking"), "--create"], stdin=subprocess.DEVNULL)
    prepare_plan(planned.plan, runs_root(), lambda what, share: output.line(f"data: {what} {share:.0%}"))
    if store.wait() != 0:
        raise MemscaleError("MLflow's store cannot be opened, see above; no run was started")
    launch = Launch.of_plan(
        sweep,
        planned.plan.digests,
        launched=round(time.time(), 3),
        code=str(take_snapshot(paths.code, record_diff=sweep.launcher.record_diff))
        if sweep.launcher.name == "slurm"
        else "",
        python=sys.executable,
    )
    plan = reopen(planned.plan, paths)
    write_files(plan, paths, forget_stops=True)
    keep_sweep_file(paths)
    keep_resolution(plan, paths)
    if not all(is_done(paths, run) for run in plan.runs):
        paths.finished.unlink(missing_ok=True)
    return launch


def _check_batches(plan: Plan) -> None:
    """Raise PlanError where a run has more processes than a batch has sequences."""
    for run in plan.runs:
        processes = launcher_of(plan.sweep, run).processes_per_run
        sequences = run.batch_tokens // plan.sweep.scale.sequence_length
        if sequences < processes:
            raise PlanError(
                f"{run.name} has {sequences} sequences a batch, too few for its {processes} processes, one a GPU. "
                "Lower launcher.gpus_per_run or launcher.nodes_per_run, or raise scale.batch_tokens"
            )


def nothing_to_train(planned: PlannedSweep, runs_left: int) -> bool:
    """Whether a sweep is complete: all runs done and whole, reported and mirrored."""
    finished = runs_left == 0 and is_finished(planned.paths, planned.plan.plan_hash)
    return finished and not damaged_runs(planned.paths, planned.plan)
