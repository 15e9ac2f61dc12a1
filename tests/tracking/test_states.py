"""A run's state and MLflow status for every way its files can stand."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
import sweep_files
from mlflow import MlflowClient

from memscale.launch import states as launch_states
from memscale.records.attempts import CAUSES
from memscale.records.layout import RunPaths
from memscale.tracking.mirror import sync
from memscale.tracking.states import SILENT_SECONDS, read_state

ELSEWHERE = "another-machine"


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return sweep_files.add_run(tmp_path / "demo")


def dead_pid() -> int:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_a_run_without_an_attempt_is_planned(paths: RunPaths) -> None:
    state = read_state(paths)
    assert (state.name, state.mlflow_status, state.started, state.ended) == ("planned", "SCHEDULED", None, None)


def test_a_living_process_here_is_running_however_silent(paths: RunPaths) -> None:
    sweep_files.start(paths)
    sweep_files.beat(paths, time=sweep_files.START + 1100)
    assert read_state(paths).name == "running"


def test_a_dead_process_here_is_lost_at_once(paths: RunPaths) -> None:
    pid, now = dead_pid(), time.time()
    sweep_files.start(paths, pid=pid)
    sweep_files.beat(paths, time=now, pid=pid)
    state = read_state(paths)
    assert (state.name, state.mlflow_status, state.ended) == ("lost", "KILLED", now)


@pytest.mark.parametrize("silence, word", [(SILENT_SECONDS - 1, "running"), (SILENT_SECONDS + 1, "lost")])
def test_a_process_elsewhere_is_judged_by_its_silence(paths: RunPaths, silence: float, word: str) -> None:
    sweep_files.start(paths, host=ELSEWHERE)
    sweep_files.beat(paths, time=2e9, host=ELSEWHERE)
    assert read_state(paths, now=2e9 + silence).name == word


@pytest.mark.parametrize(
    "cause, word, status",
    [
        ("stopped", "planned", "KILLED"),
        ("killed", "lost", "KILLED"),
        ("lost", "lost", "KILLED"),
        ("diverged", "damaged", "FAILED"),  # it writes a result, which is missing here
        ("gpu_out_of_memory", "failed", "FAILED"),
        ("preempted", "planned", "KILLED"),
        ("node_failure", "lost", "KILLED"),
        ("disk_full", "failed", "FAILED"),
        ("bad_config", "failed", "FAILED"),
        ("error", "failed", "FAILED"),
    ],
)
def test_the_last_outcome_decides(paths: RunPaths, cause: str, word: str, status: str) -> None:
    sweep_files.start(paths)
    sweep_files.beat(paths, time=time.time())
    sweep_files.end_attempt(paths, cause)
    state = read_state(paths)
    assert (state.name, state.mlflow_status) == (word, status)
    assert state.cause == ("damaged" if word == "damaged" else cause)
    assert state.ended == sweep_files.START + 2000


def test_a_new_attempt_supersedes_an_old_outcome_and_heartbeat(paths: RunPaths) -> None:
    pid = dead_pid()
    sweep_files.start(paths, pid=pid)
    sweep_files.beat(paths, time=time.time(), pid=pid)
    sweep_files.end_attempt(paths, "error")
    sweep_files.start(paths, number=2)
    state = read_state(paths)
    assert (state.name, state.num_attempts, state.started) == ("running", 2, sweep_files.START + 1000)


@pytest.mark.parametrize("status, word, shown", [("done", "done", "FINISHED"), ("diverged", "failed", "FAILED")])
def test_a_result_is_the_last_word(paths: RunPaths, status: str, word: str, shown: str) -> None:
    sweep_files.start(paths)
    sweep_files.finish(paths, status=status)
    state = read_state(paths)
    assert (state.name, state.cause, state.mlflow_status) == (word, status, shown)


def test_without_a_heartbeat_the_submission_tells(paths: RunPaths) -> None:
    sweep_files.start(paths)
    assert read_state(paths).name == "running"
    sweep_files.start(paths, number=2, pid=dead_pid())
    assert read_state(paths).name == "lost"


def test_the_launcher_names_the_states_alike(paths: RunPaths) -> None:
    for cause in CAUSES:
        if cause != "done":  # that comes with a result
            sweep_files.start(paths)
            sweep_files.end_attempt(paths, cause)
            assert read_state(paths).name == launch_states.read_state(paths).state


def test_mlflow_follows_a_run_through_its_life(runs_root: Path) -> None:
    root = runs_root / "demo"
    run = sweep_files.add_run(root)
    sweep_files.start(run)
    assert statuses(root) == ("RUNNING", "RUNNING", None)
    sweep_files.end_attempt(run, "stopped")
    assert statuses(root)[:2] == ("KILLED", "KILLED")
    sweep_files.start(run, number=2)
    assert statuses(root)[:2] == ("RUNNING", "RUNNING")
    sweep_files.end_attempt(run, "error", number=2)
    assert statuses(root) == ("FAILED", "FAILED", round((sweep_files.START + 3000) * 1000))
    sweep_files.start(run, number=3)
    sweep_files.end_attempt(run, "error", number=3)
    assert statuses(root) == ("FAILED", "FAILED", round((sweep_files.START + 4000) * 1000))
    sweep_files.start(run, number=4)
    sweep_files.train(run, range(1, 5))
    sweep_files.finish(run, steps=4)
    assert statuses(root) == ("FINISHED", "FINISHED", round((sweep_files.START + 5000) * 1000))
    sweep_files.add_run(root, seed=1)
    assert statuses(root)[:2] == ("KILLED", "FINISHED")  # the sweep waits for its other run


def statuses(root: Path) -> tuple[str, str, int | None]:
    """Status of the parent, status of the one started child, end of the child in milliseconds."""
    synced = sync(root)
    assert synced.experiment_id is not None
    client = MlflowClient(synced.uri)
    runs = {run.data.tags["memscale.role"]: run for run in client.search_runs([synced.experiment_id])}
    return runs["sweep"].info.status, runs["run"].info.status, runs["run"].info.end_time
