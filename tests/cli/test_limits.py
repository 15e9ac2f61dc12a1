"""A sweep whose forecast lies above its limits is refused before anything is written, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.cli.main import main
from memscale.launch.estimates import rounded_up
from tests.sweeps import NAME, small_sweep, write_text


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path / "runs"))
    return [NAME, *small_sweep(write_text(tmp_path)), "launcher=local"]


def _forecast(sweep: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    assert main(["plan", *sweep, "--json"]) == 0
    told: dict[str, float] = json.loads(capsys.readouterr().out)["forecast"]
    return told


@pytest.mark.parametrize("name", ["gpu_hours", "disk_gb"])
def test_a_sweep_above_a_limit_is_refused_with_the_numbers(
    name: str, sweep: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _forecast(sweep, capsys)
    need = {"gpu_hours": told["gpu_hours"], "disk_gb": told["disk_left_bytes"] / 1e9}[name]
    assert main(["sweep", *sweep, f"limits.{name}={need / 1.25!r}"]) == 2
    said = capsys.readouterr().err
    assert f"limits.{name} is" in said
    assert f"needs {need:.3g}, 25.0% more" in said
    assert "runs are left" in said
    assert "guess" in said
    raised = said.split(f"raise the limit (limits.{name}=")[1].split(")")[0]
    assert need <= float(raised) < 1.2 * need
    assert not (tmp_path / "runs").exists()
    assert main(["sweep", *sweep, f"limits.{name}={need / 5!r}"]) == 2
    assert "5 times as much" in capsys.readouterr().err


def test_a_plan_says_that_it_is_within_its_limits(sweep: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *sweep, "limits.gpu_hours=50", "limits.disk_gb=1"]) == 0
    assert "limits    gpu_hours 50, disk_gb 1: kept" in capsys.readouterr().out


@given(st.floats(1e-6, 1e9))
def test_a_limit_is_proposed_above_the_need(value: float) -> None:
    assert value <= float(rounded_up(value)) < 1.2 * value
