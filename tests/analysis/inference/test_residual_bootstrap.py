"""Default intervals hold the truth at every size of table, and are Student's t where the law is linear."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.fitting import fit_law, residual_bootstrap
from analysis.inference.residual_bootstrap import residual_pool
from analysis.solver.objective import objective_named
from benchmarks.coverage import measure
from benchmarks.coverage_fitting import cases

CASES = {case.name: case for case in cases()}
SMALL = (
    "fit: chinchilla, log_huber, 15 runs",
    "fit: chinchilla, log_lsq, 30 runs",
    "fit: power, log_lsq, 15 runs",
    "fit: chinchilla, log_lsq, 16 runs x 12 checkpoints",
    "predict: chinchilla, log_lsq, 30 x 1 runs, constant noise",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_intervals_hold_the_truth(name: str) -> None:
    """Of 60 tables; four standard errors of room on either side of 95 %, as if quantities of one table were one."""
    found = measure(CASES[name], tables=60, seed=1)
    assert 0.84 <= found.mean <= 1.0
    assert max(found.refused.values()) == 0


def test_intervals_of_a_straight_line_are_students() -> None:
    """`power` on the log of the loss is a line: the interval of alpha is value -+ t(n - 2) standard errors."""
    random = np.random.default_rng(3)
    x = np.geomspace(1.0, 1e4, 12)
    loss = 3.0 * x**-0.1 * np.exp(0.01 * random.standard_normal(12))
    alpha = fit_law("power", {"x": x}, loss, objective="log_lsq").coefficient("alpha")
    line = stats.linregress(np.log(x), np.log(loss))
    half = stats.t.ppf(0.975, 10) * line.stderr
    assert alpha.value == pytest.approx(-line.slope, rel=1e-9)
    assert alpha.ci95.lower == pytest.approx(-line.slope - half, abs=0.25 * half)
    assert alpha.ci95.upper == pytest.approx(-line.slope + half, abs=0.25 * half)
    assert alpha.ci95.width > 1.05 * 2 * stats.norm.ppf(0.975) * line.stderr * 0.9


@pytest.mark.parametrize("name", ["log_lsq", "log_lad", "log_huber"])
def test_the_pool_has_the_scale_of_the_noise(name: str) -> None:
    """Over many tables, the mean square of what is drawn from is the noise's variance, whatever the objective."""
    objective = objective_named(name)
    random = np.random.default_rng(0)
    x = np.geomspace(1.0, 1e4, 20)
    squares = []
    for _ in range(150):
        loss = 3.0 * x**-0.1 * np.exp(0.01 * random.standard_normal(20))
        found = fit_law("power", {"x": x}, loss, objective=objective)
        pool = residual_pool(found.residuals, found.degrees, objective, found.log_scale)
        squares.append(np.mean(pool**2))
    assert np.mean(squares) == pytest.approx(1e-4, rel=0.12)


def test_weights_are_inverse_variances() -> None:
    """Half of the runs are ten times noisier: with standard errors the fit is nearly as good as without those runs."""
    x = np.geomspace(1.0, 1e4, 40)
    stderr = np.where(np.arange(40) % 2 == 0, 0.03, 0.003)
    errors, widths = [], []
    for seed in range(20):
        loss = 3.0 * x**-0.1 + stderr * np.random.default_rng(seed).standard_normal(40)
        fits = [fit_law("power", {"x": x}, loss, stderr=given, objective="log_lsq") for given in (stderr, None)]
        errors.append([found.values["alpha"] - 0.1 for found in fits])
        widths.append([found.coefficient("alpha").ci95.width for found in fits] if seed < 3 else [np.nan, np.nan])
    known, blind = np.sqrt(np.mean(np.square(errors), axis=0))
    assert known < 0.3 * blind
    assert np.nanmean(widths, axis=0)[0] < 0.4 * np.nanmean(widths, axis=0)[1]


def test_groups_widen_the_interval_and_are_resampled_whole() -> None:
    random = np.random.default_rng(0)
    run = np.repeat(np.arange(20), 10)
    x = np.exp(random.uniform(0, 9, 20))[run]
    loss = 3.0 * x**-0.1 * np.exp(0.02 * random.standard_normal(20)[run] + 0.001 * random.standard_normal(200))
    alone = fit_law("power", {"x": x}, loss, objective="log_lsq")
    grouped = fit_law("power", {"x": x}, loss, objective="log_lsq", clusters=run)
    assert grouped.interval_replicates is not None
    assert grouped.interval_replicates.method == "clusters"
    assert grouped.degrees == 18
    assert grouped.coefficient("alpha").ci95.width > 2 * alone.coefficient("alpha").ci95.width
    assert grouped.covariance[1, 1] > 4 * alone.covariance[1, 1]


def test_uneven_noise_is_resampled_by_run() -> None:
    random = np.random.default_rng(0)
    x = np.geomspace(1.0, 1e4, 80)
    even, uneven = 0.01 * random.standard_normal(80), 1e-4 * x**0.5 * random.standard_normal(80)
    methods = []
    for noise in (even, uneven):
        replicates = fit_law("power", {"x": x}, 3.0 * x**-0.1 * np.exp(noise), objective="log_lsq").interval_replicates
        assert replicates is not None
        methods.append(replicates.method)
    assert methods == ["residuals", "runs"]


def test_a_seed_gives_the_same_refits() -> None:
    x = np.geomspace(1.0, 1e4, 12)
    found = fit_law("power", {"x": x}, 3.0 * x**-0.1 * np.exp(0.01 * np.cos(np.arange(12))), objective="log_lsq")
    first, again, other = (residual_bootstrap(found, num=20, seed=seed).theta for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
