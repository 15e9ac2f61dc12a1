"""The machine's speeds on disk: newer points take the place of older ones, and what cannot be read is empty."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memscale.records.atomic import write_json
from memscale.records.speeds import MOST_AVERAGED, SpeedPoint, read_speeds, record_speeds

POINT = SpeedPoint(
    source="calibration",
    family="moe",
    series="moe num_experts=8",
    batch_tokens=512,
    sequence_length=128,
    flops_per_token=1.5e6,
    params_total=1000,
    flops_per_second=2.5e10,
    start_seconds=4.0,
    save_seconds=0.1,
    evaluation_seconds=None,
)


def test_points_come_back_by_machine_with_every_digit(tmp_path: Path) -> None:
    other = replace(POINT, flops_per_token=3e6, flops_per_second=1 / 3)
    record_speeds(tmp_path, "one", [POINT, other])
    record_speeds(tmp_path, "two", [replace(POINT, flops_per_second=1.0)])
    assert read_speeds(tmp_path, "one") == (POINT, other)
    assert [point.flops_per_second for point in read_speeds(tmp_path, "two")] == [1.0]
    assert read_speeds(tmp_path, "three") == ()


def test_a_run_takes_the_place_of_a_calibration_and_the_other_way_round(tmp_path: Path) -> None:
    run = replace(
        POINT, source="run", flops_per_second=2e10, save_seconds=None, evaluation_seconds=3.0, num_runs=1
    )  # fmt: skip
    record_speeds(tmp_path, "one", [POINT])
    record_speeds(tmp_path, "one", [run])
    assert read_speeds(tmp_path, "one") == (replace(run, save_seconds=0.1),)
    record_speeds(tmp_path, "one", [POINT])
    assert read_speeds(tmp_path, "one") == (replace(POINT, evaluation_seconds=3.0),)
    for changed in ({"series": "moe"}, {"batch_tokens": 1024}, {"sequence_length": 64}, {"family": "dense"}):
        record_speeds(tmp_path, "one", [replace(POINT, **changed)])
    assert len(read_speeds(tmp_path, "one")) == 5


def test_finished_runs_are_averaged_by_their_seconds(tmp_path: Path) -> None:
    for seconds, evaluation in ((1.0, None), (2.0, 4.0), (6.0, 8.0)):
        run = replace(
            POINT, source="run", flops_per_second=1e12 / seconds, start_seconds=seconds, num_runs=1,
            evaluation_seconds=evaluation,
        )  # fmt: skip
        record_speeds(tmp_path, "one", [run])
    (known,) = read_speeds(tmp_path, "one")
    assert 1e12 / known.flops_per_second == pytest.approx(3.0)
    assert known.start_seconds == pytest.approx(3.0)
    assert known.num_runs == 3
    for _ in range(60):
        record_speeds(tmp_path, "one", [replace(POINT, source="run", flops_per_second=1e13, num_runs=1)])
    (known,) = read_speeds(tmp_path, "one")
    assert known.num_runs == MOST_AVERAGED
    assert known.flops_per_second == pytest.approx(1e13, rel=0.1)  # it follows a machine that has become faster


@pytest.mark.parametrize(
    "content",
    [
        '{"format": 1, "machines": {"one": {"moe": {"flops_per_second": 1e9, "overhead_seconds": 3.0}}, "two": {}}}',
        '{"format": 2, "machines": {"one": [{"speed": 1}]}}',
        '{"format": 2}',
        "{",
    ],
)
def test_a_file_that_says_nothing_usable_is_empty_and_is_written_anew(content: str, tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(content)
    assert read_speeds(tmp_path, "one") == ()
    record_speeds(tmp_path, "one", [POINT])
    assert read_speeds(tmp_path, "one") == (POINT,)
    written = json.loads(path.read_text())
    assert (written["format"], list(written["machines"])) == (2, ["one"])


def test_a_newer_format_says_nothing_here(tmp_path: Path) -> None:
    write_json(tmp_path / "speeds.json", {"machines": {}}, format=99)
    assert read_speeds(tmp_path, "one") == ()
