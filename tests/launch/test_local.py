"""Workers as processes of this machine: started as there is room, and every way that they end is found out."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from memscale.launch import local
from memscale.launch.executor import JobRequest, RunStatus, write_new_outcomes
from memscale.launch.local import LocalExecutor
from memscale.launch.workers import local_workers
from memscale.records.attempts import attempt_numbers, read_outcome
from memscale.records.layout import RunPaths
from memscale.records.lease import Lease

_WORKER = """
import pathlib, sys, time
from memscale.records.attempts import Outcome, host_name, new_attempt, write_outcome
from memscale.records.atomic import write_json
from memscale.records.layout import RunPaths

def main(arguments=None):
    folder, what = arguments or sys.argv[1:]
    run = RunPaths(pathlib.Path(folder))
    if what == "taken":
        return 76
    if what == "never started":
        return 9
    number = new_attempt(run, threads=1, device="cpu")
    pathlib.Path(folder + ".begun").touch()
    if what == "sleep":
        time.sleep(600)
    if what == "silent":
        return 5
    outcome = Outcome(cause=what, evidence="it said so", started=time.time(), ended=time.time(), host=host_name())
    write_outcome(run, number, outcome)
    if what == "done":
        write_json(run.result, {"status": "done"}, format=1)
    return 0

if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(params=["cpu", "cuda"])
def executor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalExecutor]:
    """Workers of a CPU, which are forked, and those of a GPU, which are not."""
    (tmp_path / "small_worker.py").write_text(_WORKER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setattr(local, "_WORKER", "small_worker")
    monkeypatch.setattr(local, "_PRELOADED", ())
    workers = [replace(worker, device=request.param) for worker in local_workers(2)]
    with LocalExecutor(workers=workers, launched=time.time() - 1) as executor:
        yield executor


def request(folder: Path, name: str, what: str) -> JobRequest:
    return JobRequest(paths=RunPaths(folder / f"{name}-0"), arguments=(str(folder / f"{name}-0"), what))


def ended(executor: LocalExecutor, run: RunPaths) -> RunStatus:
    while f"{run.root.name}" in executor.running:
        time.sleep(0.01)
    (status,) = executor.observe([run])
    write_new_outcomes(status)
    return status


def test_no_more_run_than_there_are_workers_and_the_first_requests_come_first(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    requests = [request(tmp_path, name, "sleep") for name in "abc"]
    assert executor.submit(requests, num_alive=0, exclude=()).num_runs == 2
    assert executor.running == ["a-0", "b-0"]
    assert executor.submit(requests[2:], num_alive=2, exclude=()).num_runs == 0
    states = [status.state for status in executor.observe(one.paths for one in requests)]
    assert states == ["working", "working", "unsubmitted"]
    with executor:
        pass
    assert executor.running == []


@pytest.mark.parametrize(
    "what, state, causes",
    [
        ("done", "done", ["done"]),
        ("stopped", "unsubmitted", ["stopped"]),
        ("silent", "unsubmitted", ["lost"]),
        ("never started", "unsubmitted", ["lost"]),
        ("taken", "unsubmitted", []),
    ],
)
def test_every_end_is_found_out_and_written_once(
    what: str, state: str, causes: list[str], executor: LocalExecutor, tmp_path: Path
) -> None:
    one = request(tmp_path, "a", what)
    executor.submit([one], num_alive=0, exclude=())
    status = ended(executor, one.paths)
    assert status.state == state
    assert [outcome.cause for outcome in status.outcomes] == causes
    assert (status.just_ended.cause if status.just_ended is not None else None) == (causes[-1] if causes else None)
    assert [read_outcome(one.paths, n).cause for n in attempt_numbers(one.paths)] == causes
    again = ended(executor, one.paths)
    assert (again.just_ended, again.new_outcomes) == (None, ())


def test_a_killed_worker_is_told_by_its_signal_and_an_old_attempt_does_not_count(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    one = request(tmp_path, "a", "sleep")
    executor.submit([one], num_alive=0, exclude=())
    while not (tmp_path / "a-0.begun").exists():
        time.sleep(0.01)
    executor._running["a-0"].process.kill()
    status = ended(executor, one.paths)
    assert status.just_ended is not None
    assert (status.just_ended.cause, status.state) == ("killed", "unsubmitted")
    assert "SIGKILL" in status.just_ended.evidence
    later = LocalExecutor(workers=local_workers(2), launched=time.time() + 1)
    assert later.observe([one.paths])[0].outcomes == ()


def test_a_run_that_another_process_trains_is_at_work_and_one_with_a_stop_file_is_cancelled(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    run = RunPaths(tmp_path / "a-0")
    with Lease(run.lease, "the run"):
        assert executor.observe([run])[0].state == "working"
    assert executor.observe([run])[0].state == "unsubmitted"
    run.stop.touch()
    assert executor.observe([run])[0].state == "cancelled"


def test_who_does_not_leave_in_time_is_killed(
    executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE_SECONDS", 0.2)
    process = subprocess.Popen(["/bin/sh", "-c", "trap '' TERM; touch begun; sleep 600 & wait; wait"], cwd=tmp_path)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    executor._running["a-0"] = local._Running(spec=executor.workers[0], process=process, last_attempt=0)
    with executor:
        assert executor.running == ["a-0"]
    assert process.wait() == -signal.SIGKILL
