"""The noise of runs: estimates of simulated tables lie about the truth, whatever is missing from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.planning.noise import Noise, Value, estimate_noise

SERIES, BUDGETS = ("dense", "moe", "memory"), ("small", "large")


def simulated(
    of_seed: float, of_series: float, own: float, *, seed: int, num_seeds: int = 4, missing: float = 0.0
) -> list[Value]:
    """A table with independent normal errors of these standard deviations, and means of its own in each cell."""
    random = np.random.default_rng(seed)
    means = random.normal(size=(3, 2))
    shared, kept = random.normal(size=(2, num_seeds)) * of_seed, random.normal(size=(3, num_seeds)) * of_series
    errors = shared[None, :, :] + kept[:, None, :] + random.normal(size=(3, 2, num_seeds)) * own
    return [
        Value(series=series, budget=budget, seed=s, value=means[f, b] + errors[f, b, s])
        for f, series in enumerate(SERIES)
        for b, budget in enumerate(BUDGETS)
        for s in range(num_seeds)
        if random.random() >= missing
    ]  # fmt: skip


def found(values: list[Value]) -> Noise:
    noise = estimate_noise(values)
    assert noise is not None
    return noise


@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize(
    "of_seed, of_series, own", [(0.0, 0.0, 1.0), (2.0, 0.0, 1.0), (0.0, 2.0, 1.0), (1.5, 1.0, 1.0)]
)
def test_the_components_are_found_on_average(of_seed: float, of_series: float, own: float, missing: float) -> None:
    tables = [found(simulated(of_seed, of_series, own, seed=seed, missing=missing)) for seed in range(300)]
    variance = np.mean([one.std**2 for one in tables])
    truth = of_seed**2 + of_series**2 + own**2
    assert variance == pytest.approx(truth, rel=0.12)
    seeds = np.mean([one.seed_share * one.std**2 for one in tables])
    # Negative estimates count as none, so that a component that is not there has a small positive mean.
    assert seeds == pytest.approx(of_seed**2, rel=0.2, abs=0.1 * truth)
    kept = np.mean([one.series_share * (1 - one.seed_share) * one.std**2 for one in tables])
    assert kept == pytest.approx(of_series**2, rel=0.2, abs=0.25 * truth)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-100, 100), st.floats(0.01, 100), st.floats(0, 0.6))
def test_a_shift_changes_nothing_and_a_scale_the_deviation_alone(
    seed: int, shift: float, scale: float, missing: float
) -> None:
    values = simulated(1.0, 0.5, 1.0, seed=seed, missing=missing)
    noise = estimate_noise(values)
    moved = estimate_noise(
        [Value(series=v.series, budget=v.budget, seed=v.seed, value=shift + scale * v.value) for v in values]
    )
    cells = {(v.series, v.budget) for v in values}
    if len(cells) == len(values):
        assert noise is None
        return
    assert noise is not None
    assert moved is not None
    assert noise.degrees == len(values) - len(cells)
    assert 0 <= noise.seed_share <= 1
    assert 0 <= noise.series_share <= 1
    assert moved.std == pytest.approx(scale * noise.std, rel=1e-6)
    assert (moved.seed_share, moved.series_share) == pytest.approx((noise.seed_share, noise.series_share), abs=1e-6)


def test_what_seeds_share_counts_only_where_an_f_test_finds_it() -> None:
    # At 5 % it is found in a twentieth of the tables in which there is nothing.
    false = np.mean([found(simulated(0.0, 0.0, 1.0, seed=seed)).seed_share > 0 for seed in range(300)])
    assert 0.02 <= false <= 0.11
    assert np.mean([found(simulated(3.0, 0.0, 1.0, seed=seed)).seed_share > 0 for seed in range(100)]) > 0.95


def test_budgets_are_told_apart_where_their_noise_differs() -> None:
    quiet = simulated(0.0, 0.0, 0.01, seed=0, num_seeds=6)
    loud = simulated(0.0, 0.0, 1.0, seed=1, num_seeds=6)
    mixed = [v for v in quiet if v.budget == "small"] + [v for v in loud if v.budget == "large"]
    by_budget = found(mixed).by_budget
    assert by_budget["small"][0] < 0.05 < by_budget["large"][0]
    assert by_budget["small"][1] == by_budget["large"][1] == 15
    even = [found(simulated(0.0, 0.0, 1.0, seed=seed)).by_budget == {} for seed in range(200)]
    assert np.mean(even) == pytest.approx(0.95, abs=0.04)


def test_nothing_is_known_without_two_runs_that_differ() -> None:
    one = Value(series="dense", budget="small", seed=0, value=1.0)
    assert estimate_noise([]) is None
    assert estimate_noise([one, Value(series="moe", budget="small", seed=0, value=2.0)]) is None
    assert estimate_noise([one, Value(series="dense", budget="small", seed=1, value=1.0)]) is None
    apart = found([one, Value(series="dense", budget="small", seed=1, value=1.5)])
    assert apart.std == pytest.approx(0.5 / math.sqrt(2))
    assert (apart.degrees, apart.seed_share, apart.series_share) == (1, 0.0, 0.0)
