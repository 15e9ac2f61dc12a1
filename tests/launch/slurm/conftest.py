"""A sweep's folder, and SLURM's commands as a test has them answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.records.layout import SweepPaths
from tests.launch.fake_slurm import FakeSlurm


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return SweepPaths(tmp_path / "s")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin", monkeypatch)
