"""The state of a run, from real files in every situation."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from memscale.launch.executor import write_new_outcomes
from memscale.launch.local import LocalExecutor
from memscale.launch.states import read_state
from memscale.records.atomic import write_json
from memscale.records.attempts import Outcome, new_attempt, write_outcome
from memscale.records.heartbeat import Heartbeat, write_heartbeat
from memscale.records.layout import RunPaths
from memscale.records.lease import Lease


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    write_json(paths.run, {"run_id": None}, format=1)
    return paths


def end(paths: RunPaths, cause: str) -> None:
    number = new_attempt(paths, threads=1, device="cpu")
    write_outcome(paths, number, Outcome(cause=cause, evidence="it said so", started=0.0, ended=1.0, host="h"))


def test_before_anything_was_started(paths: RunPaths) -> None:
    assert read_state(paths).state == "planned"
    assert read_state(paths, queued=True).state == "queued"


@pytest.mark.parametrize(
    "cause, state",
    [
        ("stopped", "planned"),
        ("killed", "lost"),
        ("lost", "lost"),
        ("error", "failed"),
        ("preempted", "planned"),
        ("time_limit", "planned"),
        ("cancelled", "planned"),
        ("node_failure", "lost"),
        ("host_out_of_memory", "failed"),
        ("disk_full", "failed"),
        ("bad_config", "failed"),
    ],
)
def test_the_last_outcome_decides(paths: RunPaths, cause: str, state: str) -> None:
    end(paths, "error")
    end(paths, cause)
    read = read_state(paths)
    assert (read.state, read.attempts) == (state, 2)
    assert bool(read.advice) == (state in ("failed", "lost"))


def test_who_holds_the_lease_runs_and_who_died_without_a_word_is_lost(paths: RunPaths) -> None:
    new_attempt(paths, threads=1, device="cpu")
    beat = Heartbeat(
        time=time.time(), step=3, num_steps=9, tokens=30, loss=2.0, tokens_per_second=10.0, seconds_left=1.0,
        phase="training", attempt=1, pid=1, host="h",
    )  # fmt: skip
    write_heartbeat(paths.heartbeat, beat)
    with Lease(paths.lease, "the run"):
        running = read_state(paths)
    assert (running.state, running.heartbeat) == ("running", beat)
    assert read_state(paths).state == "lost"
    (status,) = LocalExecutor(workers=(), launched=0.0).observe([paths])
    write_new_outcomes(status)
    lost = read_state(paths)
    assert (lost.state, lost.cause, lost.evidence) == ("lost", "lost", "it left no outcome")


def test_a_result_stands_above_all_and_divergence_is_a_failure(paths: RunPaths) -> None:
    end(paths, "error")
    write_json(paths.result, {"status": "done"}, format=1)
    assert read_state(paths).state == "done"
    write_json(paths.result, {"status": "diverged"}, format=1)
    diverged = read_state(paths)
    assert (diverged.state, diverged.cause) == ("failed", "diverged")


def test_a_second_worker_of_a_run_leaves_at_once(paths: RunPaths) -> None:
    command = [sys.executable, "-m", "memscale.launch.worker", str(paths.root)]
    with Lease(paths.lease, "the run"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 76
    assert "already held by" in done.stderr
    assert not paths.attempts.exists()


def test_a_run_whose_file_was_edited_is_refused_and_says_so(paths: RunPaths) -> None:
    paths.run.write_text('{"format": 1, "sweep": "x"}')
    command = [sys.executable, "-m", "memscale.launch.worker", str(paths.root)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 1
    assert read_state(paths).state == "failed"
    assert "cannot be read back" in read_state(paths).evidence
