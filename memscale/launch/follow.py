"""The reconcile loop: step after step until nothing is left to do, then the report. One loop for every executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from memscale.launch.concluded import was_concluded
from memscale.launch.costs import launcher_of, learn_speed
from memscale.launch.executor import Executor
from memscale.launch.finish import finish
from memscale.launch.finished_runs import damaged_runs
from memscale.launch.progress import Output
from memscale.launch.reconcile import Step, reconcile
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.stages import is_done, run_paths
from memscale.launch.states import DONE, NEEDS_ATTENTION
from memscale.launch.syncer import Syncer
from memscale.launch.workers import workers_for
from memscale.planning.plan import Plan
from memscale.records.attempts import attempt_numbers, read_outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths
from memscale.records.lease import Lease, LeaseTakenError
from memscale.records.plan_file import is_finished

_REPORT_SECONDS = 1800.0
"""A report of thousands of runs and their mirror in MLflow take minutes."""


def no_stop() -> str:
    """Never ask to stop."""
    return ""


@dataclass(kw_only=True)
class Follower:
    """Takes the steps of one launched sweep."""

    launch: Launch
    plan: Plan
    paths: SweepPaths
    executor: Executor
    output: Output
    on_step: Callable[[Step], None]
    """Reports a step; see `memscale.launch.progress`."""
    on_tick: Callable[[], None] = lambda: None
    """Called while the loop waits."""
    should_stop: Callable[[], str] = no_stop
    """Why everything has to stop; '' to go on."""
    holds_lock: bool = False
    """Whether the caller holds the sweep's lock; otherwise it is taken for each step."""
    syncer: Syncer = field(init=False)

    def __post_init__(self) -> None:
        self.syncer = Syncer(paths=self.paths)

    def locked_step(self) -> Step:
        """Take a step; the sweep's lock is held. Raises SlurmError or RecordError (`reconcile`)."""
        step = reconcile(self.launch, self.plan, self.paths, self.executor, should_stop=self.should_stop)
        if not step.over:
            self.executor.tend(alive=True, submitted=step.submitted > 0)
        return step

    def follow(self, *, to_the_end: bool) -> Step | None:
        """Take steps until all runs have ended, or (not `to_the_end`) until nothing is unsettled.

        Returns:
            The last step; None where it could not be taken, because another process takes one or SLURM did not answer.

        Raises:
            SlurmError: SLURM did not answer, and (not `to_the_end`) takes no job that would try again.

        """
        while True:
            try:
                step = self._step()
            except SlurmError as error:
                self.output.line(str(error))
                step = None
                if not to_the_end:
                    self.executor.tend(alive=True, submitted=False)
            if step is not None:
                learn_speeds(step.plan, self.paths, [one.name for one in step.ended])
                self.on_step(step)
                if step.over:
                    return step
            if not to_the_end and (step is None or not step.unsettled):
                return step
            self.executor.wait(self.on_tick)

    def _step(self) -> Step | None:
        lock: AbstractContextManager[object] = nullcontext()
        if not self.holds_lock:
            lock = Lease(self.paths.lock, f"the sweep {self.paths.root.name}")
        try:
            with lock:
                return self.locked_step()
        except LeaseTakenError:
            self.output.line("another process is taking this sweep's next step")
        return None

    def conclude(self, step: Step) -> str:
        """Report what is over, build the report and mirror; return DONE or NEEDS_ATTENTION.

        Two controllers may find at once that a sweep is over. One builds the report, the other waits for it.
        """
        name = self.paths.root.name
        for run, why in step.given_up.items():
            self.output.line(f"{run} is not tried again: {why}")
        with Lease(self.paths.concluding, f"the report of {name}", seconds=_REPORT_SECONDS):
            all_done = self._finished(step.plan)
        if step.halted:
            self.output.line(f"stopped: {step.halted}; go on with: make sweep SWEEP={name}")
        return DONE if all_done and not step.halted else NEEDS_ATTENTION

    def _finished(self, plan: Plan) -> bool:
        """Build the report and mirror, unless that was done from these very results; return whether all is done."""
        if is_finished(self.paths, plan.plan_hash) and not damaged_runs(self.paths, plan):
            return True
        if was_concluded(self.paths, plan):
            self.output.line(f"the report was built from these results already: {self.paths.report}")
            return False
        if not self.executor.reports_ends:
            learn_speeds(plan, self.paths)
        all_done = finish(plan, self.paths, self.syncer, self.output)
        self.executor.tend(alive=False, submitted=False)
        return all_done


def learn_speeds(plan: Plan, paths: SweepPaths, names: Sequence[str] | None = None) -> None:
    """Record the speeds of finished runs, for later forecasts; `names` limits them to some."""
    for run in plan.runs:
        if (names is not None and run.name not in names) or not is_done(paths, run):
            continue
        folder = run_paths(paths, run)
        numbers = list(attempt_numbers(folder))
        outcome = read_outcome(folder, numbers[-1]) if len(numbers) == 1 else None
        if outcome is not None:
            learn_speed(plan.sweep, run, folder, outcome, workers_for(launcher_of(plan.sweep, run), 1))
