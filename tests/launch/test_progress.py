"""What a person is told while a sweep runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from memscale.launch.progress import Reporter, duration
from memscale.records.attempts import Outcome
from memscale.records.heartbeat import Heartbeat, write_heartbeat
from memscale.records.layout import RunPaths


def reporter(tmp_path: Path, begun: float) -> Reporter:
    return Reporter(
        num_workers=2,
        paths={name: RunPaths(tmp_path / name) for name in ("a", "b", "c")},
        expected={"a": 100.0, "b": 100.0, "c": 100.0},
        later_seconds=50.0,
        num_total=5,
        num_done=2,
        begun=begun,
    )


def test_the_time_left_counts_what_runs_waits_and_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beat = Heartbeat(
        time=time.time(), step=50, num_steps=100, tokens=1, loss=2.0, tokens_per_second=31_000.0, seconds_left=1.0,
        phase="training", attempt=1, pid=1, host="h",
    )  # fmt: skip
    write_heartbeat(tmp_path / "a" / "heartbeat.json", beat)
    reporter(tmp_path, time.monotonic() - 133).tick(["a", "b"])
    told = capsys.readouterr().out
    # a has 50 s left, b and c 100 each: two workers need 150 s (c follows a), then 50 s of the next stage.
    assert told == "[02:13] 2 of 5 done | a 50% 31k tok/s, b starting | about 3.33 min left\n"


def test_the_estimate_learns_from_what_runs_really_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = reporter(tmp_path, time.monotonic())
    ended = Outcome(cause="done", evidence="", started=0.0, ended=300.0, host="h")
    report.ended("a", ended, "")
    assert "a done in 5 min (3 of 5)" in capsys.readouterr().out
    report.tick(["b", "c"])
    seconds = (0.7 + 0.3 * 3) * (100 + 50)
    assert f"about {duration(seconds)} left" in capsys.readouterr().out


def test_a_failure_is_told_with_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = Outcome(cause="killed", evidence="its process died of SIGKILL", started=0.0, ended=4.0, host="h")
    reporter(tmp_path, time.monotonic()).ended("a", failed, "; tried again (killed)")
    assert "a killed in 4 s: its process died of SIGKILL; tried again (killed)" in capsys.readouterr().out


@pytest.mark.parametrize("seconds, said", [(4.2, "4 s"), (89.4, "89 s"), (510, "8.5 min"), (11_520, "3.2 h")])
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said
