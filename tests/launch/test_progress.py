"""What a person is told while a sweep runs here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from memscale.cli.console import StandardOutput
from memscale.launch.formatting import duration
from memscale.launch.progress import Progress
from memscale.launch.reconcile import EndedAttempt
from memscale.launch.retry import Decision
from memscale.launch.workers import local_workers
from memscale.records.attempts import Outcome
from memscale.records.heartbeat import Heartbeat, write_heartbeat
from memscale.records.layout import RunPaths, SweepPaths


def progress(tmp_path: Path, begun: float) -> Progress:
    return Progress(
        output=StandardOutput(),
        paths=SweepPaths(tmp_path),
        workers=local_workers(2),
        folders={name: RunPaths(tmp_path / name) for name in ("a", "b", "c")},
        expected={"a": 100.0, "b": 100.0, "c": 100.0},
        later_seconds=50.0,
        num_total=5,
        num_done=2,
        begun=begun,
    )


def attempt(cause: str, seconds: float, evidence: str = "", *, again: bool = False) -> EndedAttempt:
    outcome = Outcome(cause=cause, evidence=evidence, started=0.0, ended=seconds, host="h")
    return EndedAttempt(name="a", outcome=outcome, decision=Decision(again=again, reason=cause))


def test_the_time_left_counts_what_runs_waits_and_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beat = Heartbeat(
        time=time.time(), step=50, num_steps=100, tokens=1, loss=2.0, tokens_per_second=31_000.0, seconds_left=1.0,
        phase="training", attempt=1, pid=1, host="h",
    )  # fmt: skip
    write_heartbeat(tmp_path / "a" / "heartbeat.json", beat)
    progress(tmp_path, time.monotonic() - 133).tick(["a", "b"])
    told = capsys.readouterr().out
    # a has 50 s left, b and c 100 each: two workers need 150 s (c follows a), then 50 s of the next stage.
    assert told == "[02:13] 2 of 5 done | a 50% 31k tok/s, b starting | about 3.33 min left\n"


def test_live_lines_in_a_log_are_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = progress(tmp_path, time.monotonic())
    for _ in range(3):
        told.tick([])
    assert capsys.readouterr().out.count("\n") == 1


def test_the_estimate_learns_from_what_runs_really_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = progress(tmp_path, time.monotonic())
    told.num_done = 3
    told.ended(attempt("done", 300.0))
    assert "a done in 5 min (3 of 5)" in capsys.readouterr().out
    told.tick(["b", "c"])
    seconds = (0.7 + 0.3 * 3) * (100 + 50)
    assert f"about {duration(seconds)} left" in capsys.readouterr().out


def test_a_failure_is_told_with_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = attempt("killed", 4.0, "its process died of SIGKILL", again=True)
    progress(tmp_path, time.monotonic()).ended(failed)
    assert "a killed in 4 s: its process died of SIGKILL; tried again (killed)" in capsys.readouterr().out
    progress(tmp_path, time.monotonic()).ended(failed, halted=True)
    assert "tried again" not in capsys.readouterr().out


@pytest.mark.parametrize("seconds, said", [(4.2, "4 s"), (89.4, "89 s"), (510, "8.5 min"), (11_520, "3.2 h")])
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said
