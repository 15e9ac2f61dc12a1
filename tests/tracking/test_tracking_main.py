"""The command that mirrors from a process of its own: what it says and how it exits."""

from __future__ import annotations

from pathlib import Path

import pytest
import sweep_files

from memscale.records.lease import Lease
from memscale.tracking.__main__ import main


def test_it_mirrors_and_says_so(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    assert main([str(runs_root / "demo")]) == 0
    assert capsys.readouterr().out.startswith("demo: 1 runs, 131 new points in sqlite:///")


def test_it_exits_with_3_while_another_syncs(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    with Lease(runs_root / "mlflow.lock", "writing to MLflow"):
        assert main([str(runs_root / "demo"), "--wait", "0.1"]) == 3
    assert "nothing mirrored: writing to MLflow is already held by" in capsys.readouterr().err


def test_it_exits_with_1_for_what_is_wrong(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs_root / "nowhere")]) == 1
    assert "there is no sweep at" in capsys.readouterr().err
    damaged = sweep_files.finished_sweep(runs_root / "demo", num_runs=2)[0]
    damaged.result.write_text("not JSON")
    assert main([str(runs_root / "demo")]) == 1
    assert f"damaged: {damaged.result} is not JSON" in capsys.readouterr().err


def test_create_makes_the_store_beside_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    assert main(["--create"]) == 0
    assert (tmp_path / "runs" / "mlflow.db").stat().st_size > 100_000
