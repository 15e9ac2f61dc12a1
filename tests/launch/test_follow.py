"""The loop around the reconcile step: who holds the lock, when it ends, and what follows."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.launch import follow
from memscale.launch.concluded import mark_concluded, state_of_results
from memscale.launch.follow import Follower
from memscale.launch.reconcile import EndedAttempt, Step
from memscale.launch.retry import Decision
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.stages import run_paths
from memscale.planning.plan import Plan, make_plan
from memscale.records.attempts import Outcome
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths
from memscale.records.lease import Lease, is_held
from memscale.records.plan_file import mark_finished

DIGESTS = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)


@dataclass
class Waits:
    """An executor of which only what the loop itself calls is there."""

    reports_ends: bool = True
    tended: list[tuple[bool, bool]] = field(default_factory=list)
    waits: int = 0

    def tend(self, *, alive: bool, submitted: bool) -> None:
        self.tended.append((alive, submitted))

    def wait(self, on_tick: Callable[[], None]) -> None:
        self.waits += 1
        on_tick()


@dataclass
class Lines:
    """Keeps what a person would read."""

    live_seconds: float = 0.0
    lines: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def live(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_sweep("memory_vs_moe", ["scale=laptop", "launcher=local"]).sweep, DIGESTS)


@pytest.fixture
def follower(plan: Plan, tmp_path: Path) -> Follower:
    launch = Launch(launched=0.0, sweep=plan.sweep, digests=DIGESTS, code="", python="python")
    paths = SweepPaths(tmp_path / "s")
    executor, output = Waits(), Lines()
    return Follower(
        launch=launch,
        plan=plan,
        paths=paths,
        executor=executor,
        output=output,
        on_step=lambda step: output.line(f"step of {step.num_alive}"),
    )


def step(plan: Plan, *, num_alive: int = 0, submitted: int = 0, unsettled: bool = False, halted: str = "") -> Step:
    return Step(
        plan=plan,
        stage="tune",
        num_done=0,
        num_alive=num_alive,
        submitted=submitted,
        unsettled=unsettled,
        halted=halted,
        given_up={"a": "diverged"} if not num_alive else {},
    )


def answers(monkeypatch: pytest.MonkeyPatch, paths: SweepPaths, *steps: Step | SlurmError) -> None:
    """Let the steps be these, one after another; the lock must be held for each."""
    left = list(steps)

    def reconcile(*_: object, **__: object) -> Step:
        assert is_held(paths.lock)
        found = left.pop(0)
        if isinstance(found, SlurmError):
            raise found
        return found

    monkeypatch.setattr(follow, "reconcile", reconcile)


def test_the_loop_goes_on_until_nothing_is_left_and_frees_the_lock_between_steps(
    follower: Follower, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, last = SlurmError("slurmctld is away"), step(plan)
    answers(monkeypatch, follower.paths, step(plan, submitted=2), away, step(plan, num_alive=1), last)
    follower.on_tick = lambda: follower.output.line(f"lock held: {is_held(follower.paths.lock)}")
    assert follower.follow(to_the_end=True) is last
    assert follower.output.lines == [
        "step of 0", "lock held: False", "slurmctld is away", "lock held: False", "step of 1", "lock held: False",
        "step of 0",
    ]  # fmt: skip
    assert follower.executor.tended == [(True, True), (True, False)]


def test_a_controller_that_slurm_refuses_sees_to_the_next_one_or_fails(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, follower.paths, SlurmError("squeue is away"), SlurmError("squeue is away"))
    assert follower.follow(to_the_end=False) is None
    assert follower.executor.tended == [(True, False)]

    def silent(**_: object) -> None:
        raise SlurmError("sbatch is away, too")

    monkeypatch.setattr(follower.executor, "tend", silent)
    with pytest.raises(SlurmError, match="sbatch is away, too"):  # the job's script then submits itself anew
        follower.follow(to_the_end=False)


def test_a_controller_takes_one_step_and_waits_only_for_what_is_unsettled(
    follower: Follower, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = step(plan, num_alive=3)
    answers(monkeypatch, follower.paths, step(plan, unsettled=True), at_work)
    assert follower.follow(to_the_end=False) is at_work
    assert follower.executor.waits == 1
    with Lease(follower.paths.lock, "the sweep"):
        assert follower.follow(to_the_end=False) is None
    assert "another process is taking" in follower.output.lines[-1]


@pytest.mark.parametrize(
    "all_done, halted, state",
    [(True, "", "done"), (False, "", "needs_attention"), (True, "Ctrl-C", "needs_attention")],
)
def test_what_is_over_is_reported_mirrored_and_its_controllers_are_cancelled(
    all_done: bool, halted: str, state: str, follower: Follower, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "finish", lambda *_: all_done)
    assert follower.conclude(step(plan, halted=halted)) == state
    told = "\n".join(follower.output.lines)
    assert "a is not tried again: diverged" in told
    assert ("stopped: Ctrl-C; go on with: make sweep SWEEP=s" in told) == bool(halted)
    assert follower.executor.tended == [(False, False)]


def test_what_is_finished_already_is_not_reported_twice(
    follower: Follower, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(follow, "finish")
    mark_finished(follower.paths, plan.plan_hash)
    assert follower.conclude(step(plan)) == "done"


def test_two_that_find_a_sweep_over_build_its_report_once(
    follower: Follower, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[float] = []

    def finish(plan: Plan, paths: SweepPaths, *_: object) -> bool:
        assert is_held(paths.concluding)
        built.append(time.monotonic())
        time.sleep(0.3)
        paths.report.write_text("the report", encoding="utf-8")
        mark_concluded(paths, plan, state_of_results(paths, plan))
        return False  # a run failed, so that nothing says that the sweep is finished

    monkeypatch.setattr(follow, "finish", finish)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(follower.conclude, [step(plan), step(plan)])) == ["needs_attention"] * 2
    assert len(built) == 1
    told = "\n".join(follower.output.lines)
    assert "built from these results already" in told
    tuned = next(run for run in plan.runs if run.run_id is not None)
    run_paths(follower.paths, tuned).root.mkdir()
    run_paths(follower.paths, tuned).result.write_text("{}", encoding="utf-8")
    follower.conclude(step(plan))
    assert len(built) == 2  # another result is there


def test_speeds_are_learned_from_runs_as_they_end_or_once_at_the_end(
    follower: Follower, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[object] = []
    monkeypatch.setattr(follow, "learn_speeds", lambda _, __, names=None: learned.append(names))
    monkeypatch.setattr(follow, "finish", lambda *_: True)
    outcome = Outcome(cause="done", evidence="", started=0.0, ended=1.0, host="h")
    ended = EndedAttempt(name="a", outcome=outcome, decision=Decision(again=False))
    over = Step(plan=plan, stage="tune", num_done=1, num_alive=0, ended=(ended,))
    answers(monkeypatch, follower.paths, over, over)
    for reports_ends in (True, False):
        follower.executor.reports_ends = reports_ends
        last = follower.follow(to_the_end=True)
        assert last is over
        follower.conclude(last)
    assert learned == [["a"], ["a"], None]
