"""A report counts as a reading of the seeds whose runs have all ended; damaged records are said, and it is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.launch.convert import plan_file
from memscale.launch.readings import count_reading
from memscale.planning.plan import Plan
from memscale.records.layout import SweepPaths
from memscale.records.looks import design_hash, read_looks
from memscale.records.plan_file import PlanFile
from memscale.records.results import Row
from tests.planning.shipped import opened, planned

PLAN = opened(planned("memory_vs_moe", "scale=laptop", "scale.seeds=[0,1,2]"))


def file_of(plan: Plan, folder: Path) -> PlanFile:
    return plan_file(plan, folder)


def rows(file: PlanFile, **status: str) -> list[Row]:
    """A row a run, done but for those that are named."""
    return [{"name": row.name, "status": status.get(row.name.replace("-", "_").replace(".", "_"), "done")}
            for row in file.runs]  # fmt: skip


def seeds_read(paths: SweepPaths, file: PlanFile) -> list[tuple[int, ...]]:
    return [one.seeds for one in read_looks(paths, design_hash(r for r in file.runs if r.stage == "compare"))]


@pytest.mark.parametrize(
    "status, seeds",
    [("done", (0, 1, 2)), ("diverged", (0, 1, 2)), ("failed", (0, 1, 2)), ("running", (0, 2)), ("planned", (0, 2)),
     ("damaged", (0, 2))],
)  # fmt: skip
def test_seeds_count_whose_runs_have_all_ended(tmp_path: Path, status: str, seeds: tuple[int, ...]) -> None:
    paths, file = SweepPaths(tmp_path / "sweep"), file_of(PLAN, tmp_path)
    paths.root.mkdir()
    assert count_reading(paths, file, rows(file, moe_d24_s1=status)) == []
    assert seeds_read(paths, file) == [seeds]
    assert count_reading(paths, file, rows(file)) == []
    assert seeds_read(paths, file) == ([seeds] if len(seeds) == 3 else [seeds, (0, 1, 2)])


def test_nothing_is_counted_before_a_seed_is_complete(tmp_path: Path) -> None:
    paths, file = SweepPaths(tmp_path), file_of(PLAN, tmp_path)
    assert count_reading(paths, file, []) == []
    assert not paths.looks.exists()


def test_damaged_records_are_set_aside_and_said(tmp_path: Path) -> None:
    paths, file = SweepPaths(tmp_path), file_of(PLAN, tmp_path)
    paths.looks.write_text("{")
    paths.resolution.write_text('{"format": 1}')
    doubts = count_reading(paths, file, rows(file))
    assert [("looks.json" in one, "resolution.json" in one) for one in doubts] == [(True, False), (False, True)]
    assert not paths.resolution.exists()
    assert count_reading(paths, file, rows(file)) == []
    assert seeds_read(paths, file) == [(0, 1, 2)]
