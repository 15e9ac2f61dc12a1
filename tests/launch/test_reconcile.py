"""The step of the reconcile loop: what is decided from what an executor observes, whichever executor it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.launch.costs import cost_of, known_speeds
from memscale.launch.executor import Executor, JobRequest, RunStatus, Submitted
from memscale.launch.reconcile import Step, reconcile
from memscale.launch.stages import run_paths, write_files
from memscale.launch.workers import workers_for
from memscale.planning.plan import Plan, make_plan
from memscale.records.atomic import read_json, write_json
from memscale.records.attempts import Outcome, new_attempt, write_outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import read_plan_file
from tests.planning.shipped import BY_FLOPS

DIGESTS = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)


@dataclass(kw_only=True)
class FakeExecutor:
    """Starts nothing: what it is asked for is kept, and what it observes is set by the test."""

    reports_ends: ClassVar[bool] = True
    states: dict[str, str] = field(default_factory=dict)
    """By run's folder; unsubmitted where none is set."""
    outcomes: dict[str, tuple[Outcome, ...]] = field(default_factory=dict)
    adopted: bool = True
    room: int = 1000
    refused: dict[str, str] = field(default_factory=dict)
    full: str = ""
    requests: list[JobRequest] = field(default_factory=list)
    stopped: int = 0
    withdrawn: list[str] = field(default_factory=list)

    def refresh(self) -> bool:
        return self.adopted

    def observe(self, runs: Iterable[RunPaths]) -> list[RunStatus]:
        return [self._status(run) for run in runs]

    def _status(self, run: RunPaths) -> RunStatus:
        name = run.root.name
        state = "done" if run.result.exists() else self.states.get(name, "unsubmitted")
        return RunStatus(paths=run, state=state, outcomes=self.outcomes.get(name, ()))

    def submit(self, requests: Sequence[JobRequest], **_: object) -> Submitted:
        taken = [one for one in requests if one.paths.root.name not in self.refused][: self.room]
        self.requests += taken
        return Submitted(num_runs=len(taken), refused=self.refused, full=self.full)

    def stop(self, statuses: Sequence[RunStatus]) -> None:
        self.stopped += len(statuses)

    def withdraw(self, statuses: Iterable[RunStatus]) -> None:
        self.withdrawn += [status.paths.root.name for status in statuses]

    def tend(self, **_: object) -> None:
        raise AssertionError("the loop does this, not the step")

    def wait(self, _: Callable[[], None]) -> None:
        raise AssertionError("the loop does this, not the step")


@dataclass(frozen=True)
class Sweep:
    launch: Launch
    plan: Plan
    paths: SweepPaths
    executor: FakeExecutor

    def step(self, stop: str = "") -> Step:
        executor: Executor = self.executor
        return reconcile(self.launch, self.plan, self.paths, executor, should_stop=lambda: stop)

    def tuning(self) -> list[RunPaths]:
        return [run_paths(self.paths, run) for run in self.plan.stage("tune")]

    def finish(self, runs: Iterable[RunPaths], loss: float = 2.0) -> None:
        for run in runs:
            number = new_attempt(run, threads=1, device="cpu")
            write_outcome(run, number, outcome("done"))
            content = {"status": "done", "losses": {"mixture": {"nats_per_token": loss}}}
            write_json(run.result, content, format=1)


def outcome(cause: str, trace: str = "t") -> Outcome:
    return Outcome(cause=cause, evidence="it said so", started=10.0, ended=20.0, host="n1", trace=trace)


TUNED = ("recipe.tune.learning_rates=[0.004,0.01,0.025]", "recipe.tune.table_factors=[1,4]")


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    composed = load_sweep("memory_vs_moe", ["launcher=local", *BY_FLOPS, *TUNED]).sweep
    plan, paths = make_plan(composed, DIGESTS), SweepPaths(tmp_path / "memory_vs_moe")
    launch = Launch(launched=0.0, sweep=composed, digests=DIGESTS, code="", python="python")
    write_files(plan, paths, forget_stops=True)
    return Sweep(launch, plan, paths, FakeExecutor())


def test_a_refused_run_is_given_up_and_a_full_queue_is_waited_for(sweep: Sweep) -> None:
    first, *others = [run.root.name for run in sweep.tuning()]
    sweep.executor.refused = {first: "sbatch said no"}
    sweep.executor.full, sweep.executor.room = "no room", 1
    step = sweep.step()
    assert step.given_up == {first.rpartition("-")[0]: "sbatch said no"}
    assert (step.refused, step.full, step.submitted, step.over) == ("sbatch said no", "no room", 1, False)
    assert step.messages == (f"{len(others) - 1} runs wait for room in the queue: no room",)
    sweep.executor.room = 0
    assert not sweep.step().over  # as soon as there is room, the others are submitted
    sweep.finish(sweep.tuning()[1:])
    sweep.executor.full = ""
    assert sweep.step().over  # the refused one is left: nothing happens until a person acts


def test_a_stage_is_submitted_whole_the_longest_first_and_the_next_waits_for_it(sweep: Sweep) -> None:
    step = sweep.step()
    tuning = {run.root.name for run in sweep.tuning()}
    assert {one.paths.root.name for one in sweep.executor.requests} == tuning
    assert (step.stage, step.submitted, step.num_alive, step.over) == ("tune", len(tuning), 0, False)
    launcher = sweep.plan.sweep.launcher
    speeds = known_speeds(workers_for(launcher, 1), launcher)
    seconds = {
        run_paths(sweep.paths, run).root.name: speeds.run_seconds(cost_of(sweep.plan.sweep, run, done=False))
        for run in sweep.plan.stage("tune")
    }
    asked = [seconds[one.paths.root.name] for one in sweep.executor.requests]
    assert asked == sorted(asked, reverse=True)
    assert asked[0] > asked[-1]
    sweep.executor.states = dict.fromkeys(tuning, "working")
    waiting = sweep.step()
    assert (waiting.submitted, waiting.num_alive) == (0, len(tuning))


def test_what_an_executor_has_no_room_for_is_asked_for_again(sweep: Sweep) -> None:
    sweep.executor.room = 2
    assert sweep.step().submitted == 2
    started = [one.paths.root.name for one in sweep.executor.requests]
    sweep.executor.states = dict.fromkeys(started, "working")
    sweep.step()
    names = [one.paths.root.name for one in sweep.executor.requests]
    assert len(set(names)) == len(names) == 4


def test_each_stage_opens_once_with_files_for_all_its_runs(sweep: Sweep) -> None:
    """The best is a learning rate inside the grid, and 12 times it for the table, beyond the 4 times of the grid."""

    def finish(plan: Plan, stage: str) -> None:
        for run in plan.stage(stage):
            assert run.run is not None
            rate, table = (
                run.run.optimizer.learning_rate,
                run.run.optimizer.table_learning_rate or 12 * run.run.optimizer.learning_rate,
            )
            loss = 2.0 + math.log(rate / 0.01) ** 2 + math.log(table / rate / 12) ** 2
            sweep.finish([run_paths(sweep.paths, run)], loss if stage != "compare" else 2.0)

    finish(sweep.plan, "tune")
    seen = []
    for _ in range(4):
        step = sweep.step()
        seen.append((step.stage, step.submitted, *step.messages))
        for run in step.plan.stage(step.stage):
            assert read_json(run_paths(sweep.paths, run).run, format=3)["run_id"] == run.run_id
        assert sweep.step().messages == ()  # whoever takes the next step finds the stage open
        stored = read_plan_file(sweep.paths)
        assert stored is not None
        assert [row.run_id for row in stored.runs] == [run.run_id for run in step.plan.runs]
        finish(step.plan, step.stage)
    assert seen == [
        ("tune-extended", 3, "the best rates of memory_plus lie at the edge of their grids: 3 runs beyond it are open"),
        (
            "tune-extended-2",
            3,
            "the best rates of memory_plus lie at the edge of their grids: 3 runs beyond it are open",
        ),
        ("tune-2", 12, "round 2 of the tuning is open: 12 runs of the best rates of dense, moe, memory_plus"),
        ("compare", 18, "every family's rates are chosen: the compared runs are open"),
    ]
    assert [(one.family_name, one.rates.learning_rate, one.at_edge) for one in step.plan.choices] == [
        ("dense", 0.01, False), ("moe", 0.01, False), ("memory_plus", 0.01, False),
    ]  # fmt: skip
    last = sweep.step()
    assert (last.over, last.num_done, last.given_up) == (True, len(step.plan.runs), {})


def test_a_stage_does_not_open_while_a_family_has_no_tuning_run_that_ended_well(sweep: Sweep) -> None:
    runs = sweep.tuning()
    family = sweep.plan.stage("tune")[0].family_name
    siblings = [run for run in sweep.plan.stage("tune") if run.family_name == family]
    for run in siblings:
        sweep.executor.outcomes[run_paths(sweep.paths, run).root.name] = (outcome("bad_config", trace=run.name),)
    sweep.finish(run for run in runs if run.root.name not in sweep.executor.outcomes)
    step = sweep.step()
    assert (step.over, set(step.given_up)) == (True, {run.name for run in siblings})
    assert (step.stage, step.plan.is_open) == ("tune", False)  # the stage named has folders for its runs
    assert set(sweep.executor.withdrawn) == set(sweep.executor.outcomes)


@pytest.mark.parametrize(
    "causes, again, micro_batch",
    [
        (["stopped"], True, False),
        (["gpu_out_of_memory"], True, True),
        (["gpu_out_of_memory", "gpu_out_of_memory"], False, False),
        (["error", "error"], False, False),
        (["killed"], True, False),
        (["diverged"], False, False),
    ],
)
def test_retries_are_decided_by_the_cause_for_every_executor(
    causes: list[str], again: bool, micro_batch: bool, sweep: Sweep
) -> None:
    first, *others = sweep.tuning()
    sweep.executor.states = dict.fromkeys((one.root.name for one in others), "working")
    sweep.executor.outcomes[first.root.name] = tuple(outcome(cause) for cause in causes)
    step = sweep.step()
    assert (step.submitted == 1, bool(step.given_up)) == (again, not again)
    assert any("--micro-batch" in one.arguments for one in sweep.executor.requests) == micro_batch


@pytest.mark.parametrize("trace, halts", [("the same", True), (None, False)])
def test_one_error_in_three_runs_halts_the_sweep_and_says_so_in_its_cancel_file(
    trace: str | None, halts: bool, sweep: Sweep
) -> None:
    for run in sweep.tuning()[:3]:
        sweep.executor.outcomes[run.root.name] = (outcome("error", trace or run.root.name),)
    step = sweep.step()
    assert bool(step.halted) == halts
    assert (sweep.executor.stopped > 0, step.submitted == 0, sweep.paths.cancel.exists()) == (halts, halts, halts)
    if halts:
        assert "one and the same error" in sweep.paths.cancel.read_text()
        assert sweep.step().halted == step.halted


def test_a_full_disk_and_a_limit_halt_the_sweep(sweep: Sweep) -> None:
    first = sweep.tuning()[0]
    sweep.executor.outcomes[first.root.name] = (outcome("disk_full"),)
    assert "disk is full" in sweep.step().halted
    sweep.paths.cancel.unlink()
    sweep.executor.outcomes.clear()
    write_outcome(first, new_attempt(first, threads=1, device="cpu"), replace(outcome("stopped"), ended=10.0 + 7200))
    limits = replace(sweep.launch.sweep.limits, gpu_hours=1.9)
    limited = replace(sweep, launch=replace(sweep.launch, sweep=replace(sweep.launch.sweep, limits=limits)))
    assert "limits.gpu_hours is 1.9" in limited.step().halted


def test_a_stop_of_the_launcher_ends_everything_and_leaves_no_cancel_file(sweep: Sweep) -> None:
    sweep.executor.states[sweep.tuning()[0].root.name] = "working"
    step = sweep.step("Ctrl-C")
    assert (step.halted, step.submitted, step.over) == ("Ctrl-C", 0, False)
    assert sweep.executor.stopped
    assert not sweep.paths.cancel.exists()
    sweep.executor.states.clear()
    assert sweep.step("Ctrl-C").over


def test_nothing_is_submitted_while_jobs_may_be_unknown_or_unsettled(sweep: Sweep) -> None:
    sweep.executor.adopted = False
    step = sweep.step()
    assert (step.submitted, step.unsettled, step.over) == (0, True, False)
    sweep.executor.adopted = True
    sweep.executor.states = dict.fromkeys((one.root.name for one in sweep.tuning()), "unsettled")
    step = sweep.step()
    assert (step.submitted, step.unsettled, step.over) == (0, True, False)


def test_a_cancelled_run_is_given_up_while_the_others_go_on(sweep: Sweep) -> None:
    first, *others = sweep.tuning()
    sweep.executor.states[first.root.name] = "cancelled"
    step = sweep.step()
    assert step.submitted == len(others)
    assert list(step.given_up.values()) == ["cancelled; starting the sweep again goes on with it"]
    assert sweep.executor.withdrawn == [first.root.name]
