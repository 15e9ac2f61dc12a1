"""What a record says of uncommitted changes: without secrets, up to a size, or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from memscale.config.launcher import Launcher
from memscale.launch.executor import worker_arguments
from memscale.launch.workers import WorkerSpec
from memscale.records import provenance
from memscale.records.atomic import write_json
from memscale.records.layout import RunPaths


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def git(*arguments: str) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "settings.py").write_text("rate = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "CODE", tmp_path)
    return tmp_path


def test_secrets_in_uncommitted_changes_are_not_recorded(checkout: Path) -> None:
    (checkout / "settings.py").write_text("rate = 2\nAPI_KEY = 'geheim-0123456789'\n")
    state = provenance.git_state()
    assert (state["dirty"], state["diff_masked"], state["diff_cut"]) == (True, 1, False)
    assert "+rate = 2" in state["diff"]
    assert "geheim" not in state["diff"]


def test_a_long_change_is_cut_at_a_line(checkout: Path) -> None:
    (checkout / "settings.py").write_text("x = 1\n" * 100_000)
    state = provenance.git_state()
    assert state["diff_cut"]
    assert len(state["diff"]) <= 200_000
    assert state["diff"].endswith("+x = 1")


def test_nothing_is_recorded_where_that_is_asked_for(checkout: Path, tmp_path: Path) -> None:
    (checkout / "settings.py").write_text("rate = 2\n")
    assert provenance.git_state(record_diff=False)["diff"] is None
    assert provenance.git_state(record_diff=False)["dirty"]
    kept = {"commit": "c", "dirty": True, "diff": "+rate", "diff_cut": False}
    write_json(checkout / provenance.CODE_STATE, kept, format=provenance.FORMAT)
    assert provenance.git_state(record_diff=False)["diff"] is None
    spec = WorkerSpec(number=0, threads=1, device="cpu", gpu=None, machine="m")
    given = {"spec": spec, "micro_batch": None}
    run = RunPaths(tmp_path)
    assert "--no-diff" in worker_arguments(run, launcher=Launcher(record_diff=False), **given)
    assert "--no-diff" not in worker_arguments(run, launcher=Launcher(), **given)
