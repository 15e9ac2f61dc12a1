"""What finished runs teach of this machine, and which runs are done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memscale.launch.costs import cost_of, done_names, known_speeds, learn_speed
from memscale.launch.workers import WorkerSpec
from memscale.planning.matrices import matrix_params
from memscale.planning.planned_runs import PlannedRun
from memscale.records.atomic import write_json
from memscale.records.attempts import Outcome, new_attempt
from memscale.records.layout import RunPaths
from memscale.records.speeds import read_speeds
from tests.planning.shipped import opened, planned

SLOTS = (WorkerSpec(number=0, threads=1, device="cpu", gpu=None, machine="here"),)
PLAN = opened(planned("memory_vs_moe", "scale=laptop"))


def _run(stage: str, family: str) -> PlannedRun:
    return next(run for run in PLAN.stage(stage) if run.family == family)


def _finished(root: Path, run: PlannedRun, *, tokens: int, train: float, evaluation: float | None) -> RunPaths:
    paths = RunPaths(root / f"{run.name}-{run.run_id}")
    new_attempt(paths, threads=1, device="cpu")
    result = {
        "status": "done",
        "achieved": {"tokens": tokens},
        "timings": {"train_seconds": train, "evaluation_seconds": evaluation or 0.0},
        "scores": {} if evaluation is None else {"task": {}},
    }
    write_json(paths.result, result, format=1)
    return paths


def _outcome(seconds: float) -> Outcome:
    return Outcome(cause="done", evidence="", started=100.0, ended=100.0 + seconds, host="here")


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path))


def test_a_finished_run_is_forecast_as_it_went(tmp_path: Path) -> None:
    for stage, family, evaluation in (("tune", "dense", None), ("compare", "moe", 5.0)):
        run = _run(stage, family)
        folder = _finished(tmp_path / "sweep", run, tokens=run.tokens, train=20.0, evaluation=evaluation)
        took = 20.0 + 3.0 + (evaluation or 0.0)
        learn_speed(PLAN.sweep, run, folder, _outcome(took), SLOTS)
        speeds = known_speeds(SLOTS, PLAN.sweep.launcher)
        assert speeds.run_seconds(cost_of(PLAN.sweep, run, done=False)) == pytest.approx(took)
    assert {point.source for point in read_speeds(tmp_path, "here")} == {"run"}


def test_a_run_that_diverged_early_is_no_faster_for_it(tmp_path: Path) -> None:
    run = _run("tune", "dense")
    folder = _finished(tmp_path / "sweep", run, tokens=run.tokens // 4, train=5.0, evaluation=None)
    learn_speed(PLAN.sweep, run, folder, _outcome(6.0), SLOTS)
    (point,) = read_speeds(tmp_path, "here")
    assert point.flops_per_second == pytest.approx(run.flops_train / 4 / 5.0, rel=0.01)


def test_an_interrupted_run_teaches_nothing(tmp_path: Path) -> None:
    run = _run("tune", "dense")
    folder = _finished(tmp_path / "sweep", run, tokens=run.tokens, train=5.0, evaluation=None)
    new_attempt(folder, threads=1, device="cpu")
    learn_speed(PLAN.sweep, run, folder, _outcome(6.0), SLOTS)
    assert read_speeds(tmp_path, "here") == ()


def test_only_runs_with_a_result_are_done(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    assert done_names(root, PLAN.runs) == frozenset()
    done, begun = _run("tune", "dense"), _run("tune", "moe")
    _finished(root, done, tokens=done.tokens, train=1.0, evaluation=None)
    (root / f"{begun.name}-{begun.run_id}").mkdir()
    waiting = replace(_run("compare", "dense"), run=None, run_id=None)
    assert done_names(root, [*PLAN.runs, waiting]) == {done.name}


def test_of_matrices_that_muon_optimises_one_moment_is_saved() -> None:
    muon = planned("memory_vs_moe", "scale=laptop", "recipe=muon")
    for run in muon.stage("compare"):
        cost = cost_of(muon.sweep, run, done=False)
        assert cost.single_moments == matrix_params(run.architecture) > 0
        assert cost_of(PLAN.sweep, run, done=False).single_moments == 0
