"""Counts in other units are converted where the table or the user says so, and never without a warning."""

from __future__ import annotations

import math

import pytest

from analysis.errors import TableError
from analysis.tables import observe
from analysis.tables.units import factor


@pytest.mark.parametrize(
    "unit, value",
    [
        ("K", 1e3), ("m", 1e6), ("B", 1e9), ("bn", 1e9), ("T", 1e12), ("billions", 1e9), ("Million params", 1e6),
        ("B tokens", 1e9), ("EFLOPs", 1e18), ("GFLOP", 1e9), ("PF-days", 8.64e19), ("petaflop/s-days", 8.64e19),
        ("1e18", 1e18), ("1", 1.0), ("nats", None), ("", None), ("N", None), ("-1", None), ("inf", None),
    ],
)  # fmt: skip
def test_a_unit_is_what_its_field_calls_it(unit: str, value: float | None) -> None:
    found = factor(unit)
    assert found == value if value is None else found == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "column, values, options, expected, warning",
    [
        ("Model Size (B)", [0.1, 1.3], {}, [1e8, 1.3e9], "units of B, as its name says"),
        ("params [millions]", [100, 1300], {}, [1e8, 1.3e9], "units of millions, as its name says"),
        ("size", ["100M", "1.3B"], {}, [1e8, 1.3e9], r"'100M' as 1e\+08"),
        ("size", ["1e8", "1.3B"], {}, [1e8, 1.3e9], "column 'size': 1 value with a unit"),
        ("size", [0.1, 1.3], {"params": "B"}, [1e8, 1.3e9], r"units of B \(--units\)"),
        ("params_M", [100, 1300], {}, [100, 1300], r"small for a number of parameters.*--units params=M"),
        ("size", [0.0008, 2e9], {}, [0.0008, 2e9], r"0.0008 to 2e\+09, small"),
        ("size", [44, 16000], {}, None, None),
    ],
)
def test_counts_are_converted_and_said(
    column: str, values: list[float | str], options: dict[str, str], expected: list[float] | None, warning: str | None
) -> None:
    runs = {column: values, "D": [2e9, 3e10], "loss": [3.0, 2.5]}
    observations = observe(runs, params=column, units=options)
    if expected is None:  # small, but nothing rules it out
        assert observations.columns["N"].tolist() == values
        return
    assert observations.columns["N"].tolist() == pytest.approx(expected, rel=1e-12)
    (said,) = observations.warnings
    with pytest.raises(AssertionError, match=warning):
        raise AssertionError(said)


def test_values_that_are_counts_already_are_taken_in_silence_where_the_user_says_so() -> None:
    observations = observe({"N": [0.5, 2.0], "D": [1e9, 2e9], "loss": [3.0, 2.5]}, units={"params": "1"})
    assert observations.columns["N"].tolist() == [0.5, 2.0]
    assert observations.warnings == ()


def test_a_unit_counts_in_what_is_derived() -> None:
    runs = {"N (M)": [100, 200], "C (EFLOPs)": [1.2, 4.8], "loss": [3.0, 2.5]}
    observations = observe(runs, params="N (M)", flops="C (EFLOPs)", tokens_from_flops=True)
    assert observations.columns["D"].tolist() == pytest.approx([1.2e18 / 6 / 1e8, 4.8e18 / 6 / 2e8])
    assert math.prod(observations.columns["N"]) == pytest.approx(2e16)


@pytest.mark.parametrize(
    "units, column, said",
    [
        ({"params": "nats"}, "N", "'nats' is no unit"),
        ({"width": "B"}, "N", "units are those of params, tokens, flops"),
        ({}, "N (B)", r"its name says units of B, but its least value is 1e\+08"),
    ],
)
def test_units_that_cannot_be_are_refused(units: dict[str, str], column: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        observe({column: [1e8, 2e8], "D": [2e9, 3e9], "loss": [3.0, 2.5]}, params=column, units=units)
