"""The verbs as Python functions: light to import, silent, and what they return is what the files say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from memscale import api
from memscale.errors import ConfigError, PlanError, RecordError
from memscale.launch.stages import run_paths, write_files
from memscale.records.atomic import write_json
from memscale.records.attempts import Outcome, new_attempt, write_outcome
from memscale.records.layout import SweepPaths
from memscale.records.lease import Lease
from tests.sweeps import NAME, environment, small_sweep, write_text

HEAVY = ("torch", "mlflow", "hydra", "pandas", "submitit")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path / "runs"


def overrides(folder: Path, *more: str) -> list[str]:
    return [*small_sweep(write_text(folder)), "scale=laptop", "launcher=local", *more]


def launched(folder: Path, runs: Path) -> tuple[api.SweepPlan, SweepPaths]:
    """A sweep whose files are as its launch leaves them, with nothing trained."""
    planned = api.plan(NAME, overrides(folder))
    paths = SweepPaths(runs / NAME)
    write_files(planned.plan, paths, forget_stops=True)
    return planned, paths


def end(planned: api.SweepPlan, paths: SweepPaths, number: int, cause: str, status: str | None = None) -> None:
    run = run_paths(paths, planned.plan.runs[number])
    outcome = Outcome(cause=cause, evidence="it said so", started=1.0, ended=2.0, host="n1")
    write_outcome(run, new_attempt(run, threads=1, device="cpu"), outcome)
    if status is not None:
        content = {"status": status, "losses": {"mixture": {"nats_per_token": 2.5}}, "scores": {}, "usage": {}}
        timings = {"train_seconds": 1.0, "tokens_per_second": 5.0, "evaluation_seconds": 0.0}
        write_json(run.result, {**content, "timings": timings, "peak_memory_bytes": 7}, format=1)


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import sys, memscale.api; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_plan_is_what_the_verb_prints_and_writes_nothing(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = overrides(tmp_path)
    planned = api.plan(NAME, asked)
    assert capfd.readouterr() == ("", "")
    assert not runs.exists()
    command = [sys.executable, "-m", "memscale.cli.main", "plan", NAME, "--json", *asked]
    told = subprocess.run(command, env=environment(runs), capture_output=True, text=True, check=True).stdout
    said = json.loads(told)
    assert said["plan_hash"] == planned.plan.plan_hash
    pd.testing.assert_frame_equal(planned.to_frame(), pd.DataFrame(said["runs"]))


def test_status_results_and_retry_say_what_the_files_say(runs: Path, tmp_path: Path) -> None:
    planned, paths = launched(tmp_path, runs)
    end(planned, paths, 0, "done", "done")
    end(planned, paths, 1, "diverged", "diverged")
    end(planned, paths, 2, "bad_config")
    seen = api.status(NAME)
    assert (seen.counts["done"], seen.counts["failed"], seen.state) == (1, 2, "needs_attention")
    assert [run.state.state for run in seen.runs[:2]] == ["failed", "failed"]
    assert list(seen.to_frame()["state"]) == [run["state"] for run in seen.to_json()["runs"]]
    table = api.results(NAME)
    rows = table.set_index("name")
    first, second, third = (run.name for run in planned.plan.runs[:3])
    assert list(rows.loc[[first, second, third], "status"]) == ["done", "diverged", "failed"]
    assert rows.loc[first, "loss_nats"] == 2.5
    assert paths.results_csv.read_text().count("\n") == len(table) + 1
    assert api.retry(NAME, first) == []
    assert sorted(api.retry(NAME)) == sorted([second, third])
    assert api.status(NAME).counts["failed"] == 1  # until the next launch, its last attempt is what counts
    assert not run_paths(paths, planned.plan.runs[1]).root.exists()


def test_cancel_asks_who_is_at_work_and_nobody_else(runs: Path, tmp_path: Path) -> None:
    planned, paths = launched(tmp_path, runs)
    assert not api.cancel(NAME)
    assert not paths.cancel.exists()
    with Lease(paths.lock, "the sweep"):
        assert api.cancel(NAME)
    assert paths.cancel.exists()
    first = planned.plan.runs[0]
    assert api.cancel(NAME, first.name)
    assert run_paths(paths, first).stop.exists()


def test_a_sweep_above_its_limits_or_launched_by_another_is_refused_before_anything_is_written(
    runs: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"limits\.gpu_hours is 1e-09"):
        api.run(NAME, overrides(tmp_path, "limits.gpu_hours=1e-9"))
    paths = SweepPaths(runs / NAME)
    with Lease(paths.lock, "the sweep"), pytest.raises(ValueError, match="make watch SWEEP"):
        api.run(NAME, overrides(tmp_path))
    assert {path.name for path in paths.root.iterdir()} == {"sweep.lock"}


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("verb", [api.status, api.results, api.report, api.retry, api.cancel, api.reconcile])
def test_a_sweep_that_was_not_launched_is_refused(verb: object) -> None:
    assert callable(verb)
    with pytest.raises(RecordError, match="launched"):
        verb(NAME)


def test_an_unknown_sweep_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"there are: .*memory_vs_moe"):
        api.plan("memory_vs_mo")
