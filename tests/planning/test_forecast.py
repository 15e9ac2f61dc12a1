"""The forecast's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memscale.planning.forecast import Cost, forecast, makespan


@given(st.lists(st.floats(0, 1000), max_size=30), st.integers(1, 8))
def test_the_makespan_lies_between_its_bounds(seconds: list[float], slots: int) -> None:
    longest, total = max(seconds, default=0.0), sum(seconds)
    span = makespan(seconds, slots)
    assert span >= max(longest, total / slots) * (1 - 1e-9)
    assert span <= total / slots + longest + 1e-9


def test_a_forecast_adds_stages_and_counts_only_what_is_left() -> None:
    def cost(family: str, done: bool = False) -> Cost:
        return Cost(family=family, flops_train=1e12, params_total=1000, done=done)

    speeds = {"dense": (1e11, 2.0)}
    measured = forecast(
        [[cost("dense"), cost("dense"), cost("dense", done=True)], [cost("dense")]],
        speeds,
        slots=2,
        checkpoint_seconds=30,
    )
    assert measured.seconds == pytest.approx(12.0 + 12.0)
    assert measured.run_seconds == pytest.approx((12.0,) * 4)
    assert measured.disk_bytes == 4 * 12_000
    assert measured.measured
    assert not forecast([[cost("moe")]], speeds, slots=2, checkpoint_seconds=30).measured
    assert forecast([[cost("moe", done=True)]], speeds, slots=2, checkpoint_seconds=30).seconds == 0
