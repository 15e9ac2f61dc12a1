"""What a sweep was launched with is read back, also from a file of the former format; what is damaged is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.errors import RecordError
from memscale.records.launch_file import Launch, read_launch, write_launch
from memscale.records.layout import SweepPaths


@pytest.fixture
def launch() -> Launch:
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop", "launcher.workers=7"]).sweep
    digests = Digests(data="d", tokenizer="t", evaluation="e")
    return Launch(launched=1.5, sweep=sweep, digests=digests, code="/c", python="/p")


@pytest.mark.parametrize("workers", [7, None])
def test_a_launch_is_read_back_also_where_its_workers_were_called_slots(
    workers: int | None, launch: Launch, tmp_path: Path
) -> None:
    paths = SweepPaths(tmp_path / "s")
    assert read_launch(paths) is None
    launch = replace(launch, sweep=replace(launch.sweep, launcher=replace(launch.sweep.launcher, workers=workers)))
    write_launch(paths, launch)
    assert read_launch(paths) == launch
    plain = json.loads(paths.launch.read_text())
    del plain["budget_digests"]
    plain["data_folder"] = "/runs/data/0123456789abcdef"
    paths.launch.write_text(json.dumps({**plain, "format": 2}))
    assert read_launch(paths) == launch
    launcher = plain["sweep"]["launcher"]
    launcher["slots"] = launcher.pop("workers")
    paths.launch.write_text(json.dumps({**plain, "format": 1}))
    assert read_launch(paths) == launch


def test_the_digests_of_each_budget_are_read_back_as_the_plan_takes_them(launch: Launch, tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "s")
    by_budget = {"small": launch.digests, "large": replace(launch.digests, data="other")}
    write_launch(paths, Launch.of_plan(launch.sweep, by_budget, launched=1.5, code="/c", python="/p"))
    found = read_launch(paths)
    assert found is not None
    assert found.plan_digests == by_budget
    assert launch.plan_digests == launch.digests


@pytest.mark.parametrize("change", [{"format": 4}, {"format": 1, "sweep": 7}, {"format": 2, "code": None}, {"x": 1}])
def test_a_newer_or_damaged_launch_is_refused_with_its_file(
    change: dict[str, object], launch: Launch, tmp_path: Path
) -> None:
    paths = SweepPaths(tmp_path / "s")
    write_launch(paths, launch)
    paths.launch.write_text(json.dumps({**json.loads(paths.launch.read_text()), **change}))
    with pytest.raises(RecordError, match=r"launch\.json"):
        read_launch(paths)
