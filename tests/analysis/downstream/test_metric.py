"""A metric's direction follows from its name, else from its values, and a contradiction is said."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.downstream.metric import describe_metric
from analysis.errors import FitError

LOSS = np.linspace(4.0, 2.0, 12)
RISING = 0.3 + 0.2 * (4.0 - LOSS)
FALLING = 1.0 - RISING


@pytest.mark.parametrize(
    ("name", "values", "higher", "by"),
    [
        ("hellaswag_acc", RISING, True, "the name"),
        ("ExactMatch", RISING, True, "the name"),
        ("err_avg_subset", FALLING, False, "the name"),
        ("hellaswag", RISING, True, "the correlation with the loss"),
        ("hellaswag", FALLING, False, "the correlation with the loss"),
        ("error_of_accuracy", RISING, True, "the correlation with the loss"),
    ],
)
def test_the_direction_is_decided_and_said(name: str, values: np.ndarray, higher: bool, by: str) -> None:
    metric, warnings = describe_metric(name, values, LOSS)
    assert (metric.higher_is_better, metric.decided_by) == (higher, by)
    assert warnings == ()


def test_the_option_overrides_and_a_contradiction_is_warned_of() -> None:
    metric, warnings = describe_metric("acc", RISING, LOSS, higher_is_better=False)
    assert (metric.higher_is_better, metric.decided_by) == (False, "the option")
    assert [one.code for one in warnings] == ["metric_direction"]
    assert [one.code for one in describe_metric("acc", FALLING, LOSS)[1]] == ["metric_direction"]


def test_what_neither_name_nor_values_tell_is_refused() -> None:
    flat = np.tile([0.5, 0.6], 6)
    with pytest.raises(FitError, match="--higher-is-better or --lower-is-better"):
        describe_metric("hellaswag", flat, LOSS)
    with pytest.raises(FitError, match="must be below its ceiling"):
        describe_metric("acc", RISING, LOSS, floor=0.9, ceiling=0.2)


def test_percentages_are_known_by_their_size() -> None:
    assert describe_metric("acc", 100 * RISING, LOSS)[0].unit == 100.0
    assert describe_metric("acc", RISING, LOSS)[0].unit == 1.0
    metric, _ = describe_metric("acc", 100 * RISING, LOSS)
    assert metric.from_error(metric.as_error(100 * RISING)) == pytest.approx(100 * RISING)
