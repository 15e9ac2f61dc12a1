"""What stands in a controller's script, which SLURM keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.launch.slurm.controllers import _script
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths


@pytest.fixture(scope="module")
def launch() -> Launch:
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop"]).sweep
    digests = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)
    return Launch(launched=0.0, sweep=sweep, digests=digests, code="/runs/s/code/c", python="python")


def test_no_password_stands_in_a_controllers_script(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:geheim@db/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    script = _script(launch, SweepPaths(Path("/runs/s")), [])
    assert "geheim" not in script
    assert "export MLFLOW_HTTP_REQUEST_TIMEOUT=30\n" in script
    assert "export MEMSCALE_RUNS=/runs\n" in script
