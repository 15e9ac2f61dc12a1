"""What `status` says beside the runs' own states: a sweep file that was edited, runs trained by different code."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.launch.planned import keep_sweep_file, sweep_file_changed
from memscale.records.layout import SweepPaths


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
