"""A sweep that is killed in every way ends as if it had not been: same weights, no step twice, no point twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from memscale.records.lease import is_held
from memscale.records.metrics import read_metrics
from tests.sweeps import FEWER, NAME, final_weights, kill_group, memscale, small_sweep, start, wait_for, write_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def undisturbed(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    memscale("sweep", NAME, *_sweep(text), runs=runs)
    return runs


def _sweep(text: str) -> list[str]:
    return small_sweep(text, flops="[2.5e10]", seeds="[0]", more=FEWER)


def _caught(runs: Path) -> tuple[Path, int] | None:
    """The folder and the process of a run caught in mid-training: held still, so that it cannot end meanwhile."""
    for beat in runs.glob(f"{NAME}/*/heartbeat.json"):
        content = json.loads(beat.read_text())
        if _steps_left(beat.parent, content) <= 3 or not is_held(beat.parent / "lease"):
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(content["pid"], signal.SIGSTOP)
            if _steps_left(beat.parent, content) > 3:
                return beat.parent, content["pid"]
            os.kill(content["pid"], signal.SIGCONT)
    return None


def _steps_left(folder: Path, heartbeat: dict[str, int]) -> int:
    """Steps to go after the last whole line of the metrics, which is newer than the heartbeat; 0 before step 4."""
    lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1] if (folder / "metrics.jsonl").exists() else []
    step = json.loads(lines[-1])["step"] if lines else 0
    return heartbeat["num_steps"] - step if step > 3 else 0


def _catch(runs: Path) -> tuple[Path, int]:
    caught: tuple[Path, int] = wait_for("a run in mid-training", lambda: _caught(runs))
    return caught


def _check(runs: Path, undisturbed: Path) -> None:
    assert final_weights(runs) == final_weights(undisturbed)
    for log in runs.glob(f"{NAME}/*/metrics.jsonl"):
        seen = Counter((metric.step, metric.split, metric.name) for metric in read_metrics(log))
        assert seen
        assert max(seen.values()) == 1
    status = memscale("status", NAME, "--json", runs=runs)
    assert json.loads(status.stdout)["counts"] == {"done": 6}
    _check_mlflow(runs)


def _check_mlflow(runs: Path) -> None:
    """MLflow holds each point of each metrics file once."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
    experiment = client.get_experiment_by_name(NAME) or client.search_experiments()[0]
    mirrored = {run.data.tags.get("memscale.run_id"): run for run in client.search_runs([experiment.experiment_id])}
    for folder in runs.glob(f"{NAME}/*/metrics.jsonl"):
        run = mirrored[json.loads((folder.parent / "run.json").read_text())["run_id"]]
        assert run.info.status == "FINISHED"
        written = Counter((f"{m.split}/{m.name}", m.step) for m in read_metrics(folder))
        kept = Counter()
        for name in run.data.metrics:
            kept.update((name, point.step) for point in client.get_metric_history(run.info.run_id, name))
        for point, times in written.items():
            assert kept[point] == times == 1


@pytest.mark.parametrize("victim", ["worker", "pool", "group"])
def test_a_killed_sweep_is_taken_up_and_ends_the_same(
    victim: str, text: str, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    sweep = start("sweep", NAME, *_sweep(text), runs=runs)
    _, worker = _catch(runs)
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
        assert sweep.wait(timeout=600) == 0, (runs / "out.txt").read_text()
    else:
        if victim == "pool":
            os.kill(sweep.pid, signal.SIGKILL)
            sweep.wait()
            os.kill(worker, signal.SIGCONT)
        else:
            kill_group(sweep)
        memscale("sweep", NAME, *_sweep(text), runs=runs)
    _check(runs, undisturbed)
    again = memscale("sweep", NAME, *_sweep(text), runs=runs)
    assert "already   6 done, 0 to run" in again.stdout
    assert "nothing to train" in again.stdout


def test_ctrl_c_and_cancel_stop_with_a_checkpoint_and_a_second_launcher_is_refused(
    text: str, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    sweep = start("sweep", NAME, *_sweep(text), runs=runs)
    _, worker = _catch(runs)
    second = memscale("sweep", NAME, *_sweep(text), runs=runs, check=False)
    assert second.returncode == 2
    assert "already held by" in second.stderr
    assert "make watch" in second.stderr
    assert memscale("status", NAME, runs=runs, check=False).returncode == 3
    os.killpg(sweep.pid, signal.SIGINT)
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=600) == 130
    outcomes = [json.loads(path.read_text())["cause"] for path in runs.glob(f"{NAME}/*/attempts/*/outcome.json")]
    assert "stopped" in outcomes
    assert memscale("status", NAME, runs=runs, check=False).returncode == 4

    sweep = start("sweep", NAME, *_sweep(text), runs=runs)
    _, worker = _catch(runs)
    memscale("cancel", NAME, runs=runs)
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=600) == 4
    memscale("sweep", NAME, *_sweep(text), runs=runs)
    _check(runs, undisturbed)


def test_a_cancelled_run_stays_so_while_the_rest_goes_on(text: str, undisturbed: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    sweep = start("sweep", NAME, *_sweep(text), runs=runs)
    run, worker = _catch(runs)
    memscale("cancel", NAME, run.name.rpartition("-")[0], runs=runs)
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=300) == 4
    done = {path.parent.name for path in runs.glob(f"{NAME}/*/result.json")}
    assert len(done) == 2  # the other tuning runs; without this one the next stage cannot open
    assert run.name not in done
    assert "cancelled" in (runs / "out.txt").read_text()
    memscale("sweep", NAME, *_sweep(text), runs=runs)
    _check(runs, undisturbed)
