"""What `status` says beside the runs' own states: a suspended job, and a sweep file that was edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.launch import overview
from memscale.launch.executor import RunStatus
from memscale.launch.planned import keep_sweep_file, sweep_file_changed
from memscale.launch.slurm.commands import QueueEntry
from memscale.records.attempts import new_attempt
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import Lease


@pytest.mark.parametrize("state", ["SUSPENDED", "STOPPED", "RUNNING"])
def test_a_suspended_job_is_not_called_training(state: str, tmp_path: Path) -> None:
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop"]).sweep
    digests = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)
    launch = Launch(launched=0.0, sweep=sweep, digests=digests, data_folder="/d", code="/c", python="python")
    run = RunPaths(tmp_path / "s" / "dense-0123456789ab")
    run.root.mkdir(parents=True)
    new_attempt(run, threads=1, device="cpu")
    entry = QueueEntry(job_id="7_0", name="memscale-s-0", state=state, reason="None", node="n1")
    with Lease(run.lease, "the run"):
        found = overview._state(RunStatus(paths=run, state="working", entry=entry), launch, (), scheduled=True)
    assert found.state == "running"
    assert (found.advice == "it goes on when somebody resumes it: scontrol resume 7_0") == (state != "RUNNING")
    assert (found.evidence == f"its job 7_0 is {state} on n1") == (state != "RUNNING")


def test_an_edited_sweep_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = SweepPaths(tmp_path / "runs" / "mine")
    paths.root.mkdir(parents=True)
    (tmp_path / "sweeps").mkdir()
    file = tmp_path / "sweeps" / "mine.yaml"
    monkeypatch.chdir(tmp_path)
    assert sweep_file_changed(paths) == ""  # never launched, and there is no file
    file.write_text("question: which?\n", encoding="utf-8")
    keep_sweep_file(paths)
    assert sweep_file_changed(paths) == ""
    file.write_text("question: how?\n", encoding="utf-8")
    said = sweep_file_changed(paths)
    assert said.startswith(f"{file} was changed since the sweep was launched")
    assert "make sweep SWEEP=mine" in said
    file.unlink()
    assert sweep_file_changed(paths) == ""
