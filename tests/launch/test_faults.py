"""A sweep that is killed in every way ends as if it had not been: same weights, no step twice, no point twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from memscale.records.lease import is_held
from memscale.records.metrics import read_metrics
from tests.sweeps import FEWER, NAME, final_weights, kill_group, memscale, small_sweep, start, wait_for, write_text

pytestmark = pytest.mark.slow

Process = subprocess.Popen[bytes]


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


def test_a_sweep_goes_on_after_every_fault_and_ends_as_an_undisturbed_one(
    text: str, undisturbed: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    sweep = start("sweep", NAME, *_sweep(text), runs=runs)
    _kill_a_worker(runs)
    sweep = _kill_the_pool(sweep, text, runs)
    sweep = _kill_the_group(sweep, text, runs)
    sweep = _refuse_a_second_launcher_and_stop_at_ctrl_c(sweep, text, runs)
    sweep = _close_the_terminal(sweep, text, runs)
    sweep = _terminate_the_pool(sweep, text, runs)
    sweep = _cancel_the_sweep(sweep, text, runs)
    assert sweep.wait(timeout=600) == 0, (runs / "out.txt").read_text()
    _check(runs, undisturbed)
    again = memscale("sweep", NAME, *_sweep(text), runs=runs)
    assert "already   6 done, 0 to run" in again.stdout
    assert "nothing to train" in again.stdout


def _kill_a_worker(runs: Path) -> None:
    """The pool notices, and tries the run again."""
    run, worker = _catch(runs)
    os.kill(worker, signal.SIGKILL)
    wait_for("its next attempt", (run / "attempts" / "2").exists)
    assert json.loads((run / "attempts" / "1" / "outcome.json").read_text())["cause"] == "killed"


def _kill_the_pool(sweep: Process, text: str, runs: Path) -> Process:
    """Its workers notice that they are alone, and leave with a checkpoint."""
    run, worker = _catch(runs)
    sweep.kill()
    sweep.wait()
    os.kill(worker, signal.SIGCONT)
    wait_for("the worker's end", lambda: not is_held(run / "lease"))
    _check_nothing_is_left(runs)
    last = max((run / "attempts").iterdir(), key=lambda path: int(path.name))
    assert "death of the process that started it" in json.loads((last / "outcome.json").read_text())["evidence"]
    return start("sweep", NAME, *_sweep(text), runs=runs)


def _kill_the_group(sweep: Process, text: str, runs: Path) -> Process:
    run, _ = _catch(runs)
    kill_group(sweep)
    wait_for("the worker's end", lambda: not is_held(run / "lease"))
    _check_nothing_is_left(runs)
    return start("sweep", NAME, *_sweep(text), runs=runs)


def _refuse_a_second_launcher_and_stop_at_ctrl_c(sweep: Process, text: str, runs: Path) -> Process:
    run, worker = _catch(runs)
    second = memscale("sweep", NAME, *_sweep(text), runs=runs, check=False)
    assert second.returncode == 2
    assert "already held by" in second.stderr
    assert "make watch" in second.stderr
    assert memscale("status", NAME, runs=runs, check=False).returncode == 3
    os.killpg(sweep.pid, signal.SIGINT)
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=600) == 130
    _check_nothing_is_left(runs)
    last = max((run / "attempts").iterdir(), key=lambda path: int(path.name))
    assert json.loads((last / "outcome.json").read_text())["cause"] == "stopped"
    assert memscale("status", NAME, runs=runs, check=False).returncode == 4
    return start("sweep", NAME, *_sweep(text), runs=runs)


def _close_the_terminal(sweep: Process, text: str, runs: Path) -> Process:
    run, worker = _catch(runs)
    os.killpg(sweep.pid, signal.SIGHUP)
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=600) == 4
    _check_nothing_is_left(runs)
    last = max((run / "attempts").iterdir(), key=lambda path: int(path.name))
    assert json.loads((last / "outcome.json").read_text())["cause"] == "stopped"
    return start("sweep", NAME, *_sweep(text), runs=runs)


def _terminate_the_pool(sweep: Process, text: str, runs: Path) -> Process:
    """As a batch system or a shutdown does: the launcher alone is asked, and its workers leave with a checkpoint."""
    run, worker = _catch(runs)
    sweep.terminate()
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=600) == 4
    _check_nothing_is_left(runs)
    last = max((run / "attempts").iterdir(), key=lambda path: int(path.name))
    outcome = json.loads((last / "outcome.json").read_text())
    assert (outcome["cause"], outcome["step"] > 0) == ("stopped", True)
    assert "stopped: SIGTERM; go on with: make sweep" in (runs / "out.txt").read_text()
    return start("sweep", NAME, *_sweep(text), runs=runs)


def _check_nothing_is_left(runs: Path) -> None:
    """No process of the sweep is left, the mirror and the process that forks workers too, and no lease is held."""
    locks = (*runs.glob(f"{NAME}/*/lease"), runs / NAME / "sweep.lock", runs / "mlflow.lock")
    # A process that dies gives its memory back, and with it its environment, before its locks.
    wait_for("the end of every process", lambda: not _processes(runs) and not any(map(is_held, locks)), seconds=60)


def _processes(runs: Path) -> list[int]:
    """The processes that were started with this runs folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MEMSCALE_RUNS={runs}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _cancel_the_sweep(sweep: Process, text: str, runs: Path) -> Process:
    _, worker = _catch(runs)
    memscale("cancel", NAME, runs=runs)
    os.kill(worker, signal.SIGCONT)
    assert sweep.wait(timeout=600) == 4
    return start("sweep", NAME, *_sweep(text), runs=runs)


def test_a_cancelled_run_stays_so_while_the_rest_goes_on(text: str, tmp_path: Path) -> None:
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
