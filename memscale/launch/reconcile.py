"""The reconcile loop's one step, the same on this machine and on SLURM: observe the runs, decide, submit.

`reconcile` compares what a plan asks for with what the files and the scheduler show, and does what is missing:

1. adopt jobs that a launcher left which died while it submitted them;
2. observe the runs of a stage, and write the outcomes of attempts that could not;
3. decide for every run that has no job: submit it, or give it up (`memscale.launch.retry`);
4. submit, or where nothing may be submitted any more (a cancel, a full disk, one error in several runs, the sweep's
   limit) stop the jobs that are there;
5. open the next stage once nothing is left in this one.

Whoever calls it holds the sweep's lock: a launcher, or a controller job on SLURM. It can be killed at any point; the
next call goes on from the files. A run is submitted only while no job is there for it and its last one is known to have
ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from memscale.launch.costs import done_names, launcher_of
from memscale.launch.executor import Executor, RunStatus, Submitted, write_new_outcomes
from memscale.launch.job_requests import Submittable, job_requests
from memscale.launch.nodes import avoided, own, suspicious_nodes
from memscale.launch.retry import Decision, decide, same_fault
from memscale.launch.stages import open_next_stage, opened_stage, reopen, run_paths
from memscale.launch.states import halt_reason
from memscale.launch.usage import gpu_hours
from memscale.planning.plan import Plan
from memscale.records.atomic import write_bytes
from memscale.records.attempts import Outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths


@dataclass(frozen=True, kw_only=True)
class EndedAttempt:
    """An attempt that was found to have ended, and what follows."""

    name: str
    """The run."""
    outcome: Outcome
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one reconcile step found and did."""

    plan: Plan
    """The plan, as far as it is open now."""
    stage: str
    """The stage that has work left; the last open one where none has."""
    num_done: int
    num_alive: int
    """Jobs that wait or are at work, without those `submitted` now."""
    submitted: int = 0
    unsettled: bool = False
    """Whether something is not known yet: look again in a moment."""
    ended: tuple[EndedAttempt, ...] = ()
    given_up: dict[str, str] = field(default_factory=dict)
    """Run -> why it is not tried again."""
    halted: str = ""
    """Why nothing is submitted any more; '' where it is."""
    refused: str = ""
    """Why the scheduler refused a job as it is; '' where it refused none."""
    full: str = ""
    """Why the scheduler takes no more jobs now; '' where it does."""
    messages: tuple[str, ...] = ()
    """What happened beside attempts that ended, a line each."""

    @property
    def over(self) -> bool:
        """Whether nothing more happens until a person acts."""
        return not (self.num_alive or self.submitted or self.unsettled or self.full)


@dataclass(frozen=True, kw_only=True)
class _StageView:
    """A stage: its runs' statuses, and what is decided about them."""

    name: str
    statuses: Sequence[RunStatus]
    suspicious: Sequence[str]
    """Nodes that get no job."""
    submittable: Sequence[Submittable]
    given_up: dict[str, str]
    ended: Sequence[EndedAttempt]

    @property
    def num_alive(self) -> int:
        return sum(one.state in ("working", "queued") for one in self.statuses)

    @property
    def unsettled(self) -> bool:
        return any(one.state == "unsettled" for one in self.statuses)

    @property
    def has_work(self) -> bool:
        return bool(self.num_alive or self.submittable or self.unsettled)


@dataclass(kw_only=True)
class _Found:
    """What a step has found so far, over the stages."""

    adopted: bool
    """Whether every job that SLURM may have of the sweep is known."""
    given_up: dict[str, str] = field(default_factory=dict)
    ended: list[EndedAttempt] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def note(self, taken: Submitted, *, num_left: int) -> None:
        """Note which runs got no job, and why; `num_left` of them are submitted when there is room."""
        self.given_up |= {folder.rpartition("-")[0]: why for folder, why in taken.refused.items()}
        if taken.full:
            self.messages.append(f"{num_left} runs wait for room in the queue: {taken.full}")


def reconcile(
    launch: Launch,
    plan: Plan,
    paths: SweepPaths,
    executor: Executor,
    *,
    should_stop: Callable[[], str] = lambda: "",
) -> Step:
    """Take one step of a sweep, and return what it found and did.

    Args:
        launch: What the sweep was launched with.
        plan: The launched plan, opened or not: what its plan file opened is opened again.
        paths: The sweep's folder, whose lock the caller holds.
        executor: The scheduler.
        should_stop: Why the launcher wants everything to stop; '' to go on. The cancel file asks for the same.

    Raises:
        SlurmError: SLURM does not answer or refuses a job. Nothing is lost; take the step again.
        RecordError: A file of a run is damaged.

    """
    plan = reopen(plan, paths)
    found = _Found(adopted=executor.refresh())
    statuses_before: list[RunStatus] = []
    stage = plan.stages[0]
    for each in plan.stages:
        if each == plan.next_stage:
            opened = open_next_stage(plan, paths)
            if opened is None:
                break
            plan = opened
            found.messages += opened_stage(plan, each)
        stage = each
        view = _look(stage, plan, paths, executor, launch, statuses_before)
        statuses_before += view.statuses
        found.given_up |= view.given_up
        found.ended += view.ended
        if view.has_work:
            return _submit_or_halt(plan, view, launch, paths, executor, found, should_stop)
    return Step(
        plan=plan,
        stage=stage,
        num_done=_num_done(plan, paths),
        num_alive=0,
        unsettled=not found.adopted,
        ended=tuple(found.ended),
        given_up=found.given_up,
        halted=should_stop() or halt_reason(paths),
        messages=tuple(found.messages),
    )


def _look(
    stage: str, plan: Plan, paths: SweepPaths, executor: Executor, launch: Launch, before: Sequence[RunStatus]
) -> _StageView:
    """Observe the runs of a stage, write new outcomes, and decide for each run. `before`: runs of earlier stages."""
    runs = plan.stage(stage)
    statuses = executor.observe(run_paths(paths, run) for run in runs)
    suspicious = suspicious_nodes([*before, *statuses])
    submittable: list[Submittable] = []
    given_up: dict[str, str] = {}
    ended: list[EndedAttempt] = []
    for run, status in zip(runs, statuses, strict=True):
        write_new_outcomes(status)
        counted = own(status.outcomes, suspicious)
        decision = decide(counted, launch.sweep.launcher.retries) if counted else Decision(again=True)
        outcomes = [new.outcome for new in status.new_outcomes] if status.just_ended is None else [status.just_ended]
        ended += [EndedAttempt(name=run.name, outcome=outcome, decision=decision) for outcome in outcomes]
        if status.state == "cancelled":
            given_up[run.name] = "cancelled; starting the sweep again goes on with it"
        elif status.state in ("unsubmitted", "queued") and not decision.again:
            given_up[run.name] = decision.reason
        elif status.state == "unsubmitted":
            avoid = avoided(status.outcomes)
            submittable.append(Submittable(run=run, half_micro_batch=decision.half_micro_batch, avoid=avoid))
        if run.name in given_up:  # a scheduler that requeues would start it for ever
            executor.withdraw([status])
    return _StageView(
        name=stage,
        statuses=statuses,
        suspicious=suspicious,
        submittable=submittable,
        given_up=given_up,
        ended=ended,
    )


def _submit_or_halt(
    plan: Plan,
    view: _StageView,
    launch: Launch,
    paths: SweepPaths,
    executor: Executor,
    found: _Found,
    should_stop: Callable[[], str],
) -> Step:
    """Submit what is submittable, or stop all jobs where nothing may be submitted any more."""
    taken, num_alive = Submitted(num_runs=0), view.num_alive
    halted = should_stop() or halt_reason(paths) or _new_reason(plan, view, launch, paths)
    if halted:
        executor.stop(view.statuses)
    elif found.adopted and view.submittable:
        requests = job_requests(plan, paths, view.submittable)
        taken = executor.submit(requests, num_alive=num_alive, exclude=view.suspicious)
        found.note(taken, num_left=len(requests) - taken.num_runs - len(taken.refused))
    return Step(
        plan=plan,
        stage=view.name,
        num_done=_num_done(plan, paths),
        num_alive=num_alive,
        submitted=taken.num_runs,
        refused=next(iter(taken.refused.values()), ""),
        full=taken.full,
        unsettled=view.unsettled or not found.adopted,
        ended=tuple(found.ended),
        given_up=found.given_up,
        halted=halted,
        messages=tuple(found.messages),
    )


def _num_done(plan: Plan, paths: SweepPaths) -> int:
    return len(done_names(paths.root, plan.runs))


def _new_reason(plan: Plan, view: _StageView, launch: Launch, paths: SweepPaths) -> str:
    """Return why nothing may be submitted from now on, and write it to the cancel file; '' where all is well."""
    lasts = [outcomes[-1] for one in view.statuses if (outcomes := own(one.outcomes, view.suspicious))]
    fault, why = same_fault(lasts), ""
    if fault is not None:
        why = f"several runs failed with one and the same error: {fault.evidence}"
    elif any(outcome.cause == "disk_full" for outcome in lasts):
        why = "the disk is full: free space where the runs lie (MEMSCALE_RUNS moves them), then start again"
    limit = launch.sweep.limits.gpu_hours
    if not why and limit is not None:
        opened = [run for run in plan.runs if run.run_id is not None]
        used = gpu_hours(
            ((run_paths(paths, run), launcher_of(plan.sweep, run).processes_per_run) for run in opened),
            now=time.time(),
        )
        if used > limit:
            why = f"its runs have used {used:.3g} hours, and limits.gpu_hours is {limit:g}"
    if why:
        write_bytes(paths.cancel, f"{why}\n".encode())
    return why
