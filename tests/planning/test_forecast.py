"""The forecast: what is left, how long it takes, and which measurement it uses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.planning.forecast import GUESSED_SPARSE_SPEED, NEAR, Cost, Speed, Speeds, forecast, makespan


def _cost(family: str = "dense", *, flops_per_token: float = 1e6, flops: float = 1e12, **more: object) -> Cost:
    plain = {
        "family": family, "series": family, "batch_tokens": 512, "sequence_length": 128, "flops_train": flops,
        "flops_per_token": flops_per_token, "params_total": 1000, "evaluated": False, "done": False, **more,
    }  # fmt: skip
    return Cost(**plain)


def _speed(family: str = "dense", *, flops_per_token: float = 1e6, flops_per_second: float = 1e11, **more: object):
    plain = {
        "family": family, "series": family, "batch_tokens": 512, "sequence_length": 128, "start_seconds": 2.0,
        "flops_per_token": flops_per_token, "flops_per_second": flops_per_second, **more,
    }  # fmt: skip
    return Speed(**plain)


@given(st.lists(st.floats(0, 1000), max_size=30), st.integers(1, 8))
def test_the_makespan_lies_between_its_bounds(seconds: list[float], workers: int) -> None:
    longest, total = max(seconds, default=0.0), sum(seconds)
    span = makespan(seconds, workers)
    assert span >= max(longest, total / workers) * (1 - 1e-9)
    assert span <= total / workers + longest + 1e-9


def test_a_forecast_adds_stages_and_counts_only_what_is_left() -> None:
    speeds = Speeds([_speed()], checkpoint_seconds=30)
    stages = [[_cost(), _cost(), _cost(done=True)], [_cost()]]
    whole = forecast(stages, speeds, workers=2)
    assert whole.seconds == pytest.approx(12.0 + 12.0)
    assert whole.run_seconds == pytest.approx((12.0,) * 4)
    assert whole.gpu_hours == pytest.approx(3 * 12.0 / 3600)
    guessed = [forecast([[_cost(processes=n)]], Speeds(checkpoint_seconds=30), workers=1).seconds for n in (1, 2, 4)]
    assert guessed[0] - guessed[1] == pytest.approx(2 * (guessed[1] - guessed[2]))
    several = [[_cost(processes=4), _cost(), _cost(processes=9, done=True)], [_cost()]]
    assert forecast(several, speeds, workers=2).gpu_hours == pytest.approx(6 * 12.0 / 3600)
    assert (whole.disk_bytes, whole.disk_left_bytes, whole.runs_left) == (4 * 12_000, 3 * 12_000, 3)
    assert whole.measured
    assert whole.guessed_families == ()


def test_a_forecast_is_measured_only_if_every_run_that_is_left_is() -> None:
    speeds = Speeds([_speed()], checkpoint_seconds=30)
    guessed = forecast([[_cost(), _cost("moe")]], speeds, workers=2)
    assert not guessed.measured
    assert guessed.guessed_families == ("moe",)
    assert forecast([[_cost(), _cost("moe", done=True)]], speeds, workers=2).measured
    assert not forecast([[_cost(flops_per_token=1e6 * NEAR * 1.01)]], speeds, workers=2).measured
    assert forecast([[_cost(flops_per_token=1e6 / NEAR * 1.01)]], speeds, workers=2).measured
    assert not forecast([[_cost(batch_tokens=1024)]], speeds, workers=2).measured


def test_longer_runs_keep_two_checkpoints_and_pay_for_those_in_between() -> None:
    speeds = Speeds([_speed(save_seconds=0.5)], checkpoint_seconds=4)
    cost = forecast([[_cost()]], speeds, workers=1)
    assert cost.seconds == pytest.approx(10.0 + 2.0 + 2 * 0.5)
    assert cost.disk_bytes == 2 * 12_000


def test_evaluation_is_paid_where_there_is_one_and_guessed_from_the_others() -> None:
    speeds = Speeds([_speed(evaluation_seconds=7.0), _speed("moe")], checkpoint_seconds=30)
    plain, evaluated = speeds.run_seconds(_cost()), speeds.run_seconds(_cost(evaluated=True))
    assert evaluated - plain == pytest.approx(7.0)
    assert speeds.run_seconds(_cost("moe", evaluated=True)) - speeds.run_seconds(_cost("moe")) == pytest.approx(7.0)


@given(
    st.dictionaries(st.floats(1e3, 1e12), st.floats(1e6, 1e15), min_size=1, max_size=6),
    st.floats(1e2, 1e13),
)
def test_speeds_are_interpolated_in_the_logarithm_and_nearest_outside(points: dict[float, float], x: float) -> None:
    speeds = Speeds(
        [_speed(flops_per_token=at, flops_per_second=speed) for at, speed in points.items()], checkpoint_seconds=30
    )
    for at, speed in points.items():
        assert speeds.of(_cost(flops_per_token=at)).flops_per_second == pytest.approx(speed)
    found = speeds.of(_cost(flops_per_token=x)).flops_per_second
    below = max((at for at in points if at <= x), default=None)
    above = min((at for at in points if at >= x), default=None)
    if below is None or above is None or below == above:
        nearest = below if above is None else above
        assert nearest is not None
        assert found == pytest.approx(points[nearest])
    else:
        share = (math.log(x) - math.log(below)) / (math.log(above) - math.log(below))
        expected = math.log(points[below]) + share * (math.log(points[above]) - math.log(points[below]))
        assert math.log(found) == pytest.approx(expected, rel=1e-6)


def test_the_narrowest_group_with_a_measurement_is_believed() -> None:
    family = _speed("memory_plus", series="other", batch_tokens=4096, flops_per_second=1e9)
    batch = replace(family, batch_tokens=512, flops_per_second=2e9)
    series = replace(batch, series="memory_plus num_slots=4096", flops_per_second=3e9)
    run = _cost("memory_plus", series="memory_plus num_slots=4096")
    for known, expected, measured in (
        ([family, batch, series], 3e9, True), ([family, batch], 2e9, True), ([family], 1e9, False),
        ([], GUESSED_SPARSE_SPEED * 2e10, False),
    ):  # fmt: skip
        pace = Speeds(known, checkpoint_seconds=30).of(run)
        assert (pace.flops_per_second, pace.measured) == (pytest.approx(expected), measured)


def test_a_guess_is_slower_for_a_sparse_family() -> None:
    speeds = Speeds(checkpoint_seconds=30)
    dense, experts, memory = (speeds.of(_cost(family)).flops_per_second for family in ("dense", "moe", "memory_plus"))
    assert experts == memory == pytest.approx(GUESSED_SPARSE_SPEED * dense)
    assert speeds.of(_cost("looped")).flops_per_second == dense


def test_a_guess_follows_the_slot() -> None:
    one = Speeds(checkpoint_seconds=30).of(_cost()).flops_per_second
    assert Speeds(checkpoint_seconds=30, threads=4).of(_cost()).flops_per_second == 4 * one
    assert Speeds(checkpoint_seconds=30, device="cuda", threads=4).of(_cost()).flops_per_second > 100 * one


def test_one_moment_less_is_four_bytes_less_in_every_checkpoint() -> None:
    speeds = Speeds([_speed()], checkpoint_seconds=1)  # two checkpoints of a run are kept
    two, one = (forecast([[_cost(single_moments=n)]], speeds, workers=1).disk_bytes for n in (0, 700))
    assert (two, one) == (2 * 12_000, 2 * (12_000 - 4 * 700))
