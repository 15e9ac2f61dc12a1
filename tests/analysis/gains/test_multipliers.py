"""Multipliers are known where the law is, and refused with the reason where they would be extrapolations."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_results import Truth, rows, write

from analysis.errors import FitError
from analysis.gains.multipliers import Multiplier, law_difference, multiplier
from analysis.gains.scaling_curves import FLOPS, SECONDS, fit_curves
from analysis.tables.results import read_results
from analysis.tables.runs import Runs

WIDE = (1e13, 3e13, 1e14, 3e14, 1e15, 3e15)


def runs(path: Path, truth: Truth) -> Runs:
    return read_results(write(path / "t.csv", rows(truth))).compare


def found(path: Path, truth: Truth, subject: str, baseline: str) -> Multiplier:
    return multiplier(fit_curves(runs(path, truth), FLOPS, num_replicates=500), subject, baseline)


@pytest.mark.parametrize("subject, baseline, expected", [("memory_plus", "dense", 2.0), ("dense", "memory_plus", 0.5)])
def test_a_known_multiplier_is_found_in_both_directions(
    tmp_path: Path, subject: str, baseline: str, expected: float
) -> None:
    one = found(tmp_path, Truth(noise=1e-9), subject, baseline)
    assert one.value == pytest.approx(expected, rel=1e-5)
    assert one.interval is not None
    assert one.interval.lower <= expected * 1.0001
    assert one.interval.upper >= expected * 0.9999


def test_a_known_multiplier_is_found_with_an_offset(tmp_path: Path) -> None:
    one = found(tmp_path, Truth(noise=1e-9, budgets=WIDE, offset=1.7, alpha=0.2), "memory_plus", "dense")
    assert one.value == pytest.approx(2.0, rel=1e-3)


def test_the_multiplier_is_read_where_the_worse_one_ends(tmp_path: Path) -> None:
    """Memory falls more slowly: dense reaches memory's last loss inside the range, at a compute that is known."""
    table = rows(Truth(tuning=False))
    for row in table:
        slope = 0.04 if row["family"] == "memory_plus" else 0.1
        row["loss_nats"] = 3.5 * (float(str(row["flops_train"])) / 3e13) ** -slope
    curves = fit_curves(read_results(write(tmp_path / "t.csv", table)).compare, FLOPS, num_replicates=50)
    # 3.5 (x / 3e13)^-0.1 = 3.5 * 10^-0.04  at  x = 3e13 * 10^0.4, where memory needs 3e14.
    assert multiplier(curves, "memory_plus", "dense").value == pytest.approx(10**0.4 / 10, rel=1e-6)
    assert multiplier(curves, "dense", "memory_plus").value == pytest.approx(10 / 10**0.4, rel=1e-6)


def test_seconds_count_what_a_step_costs(tmp_path: Path) -> None:
    """Memory is worth twice the compute, and 1.9 times as slow a FLOP: 1.05 of the time."""
    curves = fit_curves(runs(tmp_path, Truth(noise=1e-9)), SECONDS, num_replicates=500)
    one = multiplier(curves, "memory_plus", "dense")
    assert one.value == pytest.approx(2 / 1.9, rel=0.03)
    difference = law_difference(curves, "memory_plus", "dense")
    assert difference.at == pytest.approx(100, rel=0.05)
    assert -0.03 < difference.value < 0.01


def test_an_extrapolation_is_refused(tmp_path: Path) -> None:
    truth = Truth(multipliers={"dense": 1.0, "memory_plus": 300.0}, noise=0.002)
    one = found(tmp_path, truth, "memory_plus", "dense")
    assert one.value is None
    assert "an extrapolation" in one.refusal
    assert "below its smallest run" in one.refusal


def test_a_flat_slope_is_refused(tmp_path: Path) -> None:
    one = found(tmp_path, Truth(alpha=0.0, noise=0.01), "memory_plus", "dense")
    assert one.value is None
    assert "not significantly above zero" in one.refusal


def test_one_budget_has_no_law(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="two budgets"):
        fit_curves(runs(tmp_path, Truth(budgets=(1e14,))), FLOPS)


def test_a_bend_widens_the_intervals_and_is_warned_of(tmp_path: Path) -> None:
    table = rows(Truth(noise=0.001, tuning=False))
    for row in table:
        if row["budget_flops"] == 1e14:
            row["loss_nats"] = float(str(row["loss_nats"])) * 0.97
    curves = fit_curves(read_results(write(tmp_path / "t.csv", table)).compare, FLOPS, num_replicates=500)
    assert curves.noise is not None
    assert "scatter" in curves.noise.source
    assert curves.noise.std > 0.005
    assert any("bend" in warning for warning in curves.warnings)


@pytest.mark.parametrize(("offset", "law"), [(0.0, "power"), (1.7, "power_with_offset")])
def test_an_offset_is_fitted_where_the_table_tells_one_and_to_all_families(
    tmp_path: Path, offset: float, law: str
) -> None:
    table = [
        row
        for row in rows(Truth(budgets=WIDE, tuning=False, offset=offset, alpha=0.2 if offset else 0.08, noise=0.002))
        if row["family"] != "moe" or float(str(row["budget_flops"])) < 1e14
    ]
    curves = fit_curves(read_results(write(tmp_path / "t.csv", table)).compare, FLOPS, num_replicates=50)
    assert curves.law.name == law
    assert {one.num_budgets for one in curves.series.values()} == {2, 6}
    if offset:
        offsets = {float(one.fit.law.values(one.fit.best)["E"][0]) for one in curves.series.values()}
        assert len(offsets) == 1
        assert offsets.pop() == pytest.approx(offset, rel=0.1)
