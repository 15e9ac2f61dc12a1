"""The pending update of a row in closed form, against the explicit sum over the steps without a gradient.

The sums below are written from the formulas in `memscale.kernels.lazy_decay`, with m = 1 and eps = 1, so that sqrt(v)
is its ratio to eps.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from memscale.errors import ConfigError
from memscale.kernels.lazy_decay import (
    BETA1_POWER,
    BETA2_POWER,
    FACTORS,
    LOG_DECAY,
    NODES,
    NUM_NODES,
    LazyDecay,
    _quadrature,
)

Floats = NDArray[np.float64]

NUM_STEPS = 1001
RATE = 1e-2
ROOTS = np.logspace(-4, 6, 31)
SCHEDULES: dict[str, list[float]] = {
    "warm-up and decay": [RATE * min((step + 1) / 50, 1 - step / NUM_STEPS) for step in range(NUM_STEPS)],
    "constant": [RATE] * NUM_STEPS,
    "zero rates in between": [
        0.0 if step % 7 in (2, 3) or 200 <= step < 220 else RATE * (1 + step % 2) for step in range(NUM_STEPS)
    ],
}
NOWS = (1, 2, 3, 4, 5, 6, 8, 11, 21, 51, 101, 203, 222, 302, 501, 600, 1001)
GAPS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 350, 500)
BETAS = {
    (0.9, 0.95): 6e-3,
    (0.9, 0.999): 1e-3,
    (0.95, 0.99): 3e-3,
    (0.5, 0.95): 3e-5,
    (0.0, 0.9): 0.0,
    (0.9, 0.9): 6e-2,
}
"""With the largest error where eps and sqrt(v) both count, relative to the sum; from the first step on, which is worst.
The first is the documented one, the others are as measured."""


def explicit_sum(
    rates: list[float], beta1: float, beta2: float, decay: float, since: int, now: int
) -> tuple[Floats, float]:
    """Return the sum over the steps for every root, and P_n/P_s, by the formulas."""
    steps = np.arange(since + 1, now + 1)
    kept = 1.0 - np.array(rates[since:now]) * decay
    after = np.array([np.prod(kept[i + 1 :]) for i in range(len(kept))])
    decay = steps - since
    a = np.array(rates[since:now]) / (1.0 - beta1**steps) * float(beta1) ** decay * after
    z = beta2 ** (decay / 2) / np.sqrt(1.0 - beta2**steps)
    return (a / (z * ROOTS[:, None] + 1.0)).sum(axis=1), float(np.prod(kept))


def closed(coefficients: Floats, since: int, now: int) -> tuple[Floats, float]:
    """Return the same from the table after step `now`."""
    kept = float(np.exp(coefficients[now, LOG_DECAY] - coefficients[since, LOG_DECAY]))
    factors, nodes = coefficients[since, FACTORS:NODES], coefficients[since, NODES:]
    return kept * (factors / (nodes * ROOTS[:, None] + 1.0)).sum(axis=1), kept


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("betas", BETAS)
def test_the_closed_form_is_the_sum(betas: tuple[float, float], schedule: str, weight_decay: float) -> None:
    rates, (beta1, beta2) = SCHEDULES[schedule], betas
    decay = LazyDecay(beta1=beta1, beta2=beta2, weight_decay=weight_decay)
    for before, now in pairwise((0, *NOWS)):
        decay.advance(rates[before:now])
        coefficients = decay.coefficients
        for since in (now - gap for gap in GAPS if gap <= now):
            expected, expected_kept = explicit_sum(rates, beta1, beta2, weight_decay, since, now)
            found, kept = closed(coefficients, since, now)
            assert abs(kept - expected_kept) <= 1e-12
            error, gap = np.abs(found - expected), now - since
            # The window of steps ends where the movement is below 1e-10 of one step's; that is not compared.
            nothing = 1e-10 * RATE * beta1 / (1.0 - beta1) / (ROOTS + 1.0)
            if gap <= NUM_NODES:
                assert (error <= 1e-10 * expected).all()
            assert error[-1] <= (1e-4 if beta1 == beta2 else 1e-6) * expected[-1] + nothing[-1]  # eps is negligible
            assert error[0] <= 1e-9 * expected[0] + nothing[0]  # eps is all that counts
            # No row has moments at step 0; the coefficients are there all the same.
            assert (error <= (2.0 if since == 0 else 1.0) * BETAS[betas] * expected + nothing).all()
            if betas == (0.9, 0.95) and schedule != "zero rates in between" and since >= 100:
                assert (error <= 3.1e-4 * expected + nothing).all()


def test_without_a_first_moment_only_weight_decay_is_pending() -> None:
    decay = LazyDecay(beta1=0.0, beta2=0.9, weight_decay=0.1)
    decay.advance(SCHEDULES["constant"])
    assert not decay.coefficients[:, FACTORS:NODES].any()
    assert decay.coefficients[-1, LOG_DECAY] == pytest.approx(NUM_STEPS * np.log1p(-RATE * 0.1), rel=1e-12)


def test_powers_are_those_of_the_betas() -> None:
    decay = LazyDecay(beta1=0.9, beta2=0.95, weight_decay=0.0)
    decay.advance([RATE] * 20)
    np.testing.assert_allclose(decay.coefficients[:, BETA1_POWER], 0.9 ** np.arange(21), rtol=1e-14)
    np.testing.assert_allclose(decay.coefficients[:, BETA2_POWER], 0.95 ** np.arange(21), rtol=1e-14)


def test_steps_at_once_are_steps_one_by_one() -> None:
    rates = SCHEDULES["warm-up and decay"]
    at_once, one_by_one = (LazyDecay(beta1=0.9, beta2=0.95, weight_decay=0.1) for _ in range(2))
    at_once.advance(iter(rates))
    for rate in rates:
        one_by_one.advance([rate])
    assert at_once.num_steps == one_by_one.num_steps == NUM_STEPS
    assert at_once.coefficients.shape == (NUM_STEPS + 1, NODES + NUM_NODES)
    assert np.array_equal(at_once.coefficients, one_by_one.coefficients)


def test_a_step_changes_the_rows_of_its_window_only() -> None:
    decay = LazyDecay(beta1=0.5, beta2=0.95, weight_decay=0.1)
    decay.advance([RATE] * 200)
    before = decay.coefficients.copy()
    decay.advance([3 * RATE])
    changed = np.flatnonzero((decay.coefficients[:201] != before).any(axis=1))
    assert len(changed)
    assert changed.min() >= 201 - decay.window


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.9, 0.999), (0.9, 0.9), (0.0, 0.95)])
def test_long_runs_stay_finite(betas: tuple[float, float]) -> None:
    decay = LazyDecay(beta1=betas[0], beta2=betas[1], weight_decay=0.1)
    decay.advance(RATE * (1 - step / 5000) for step in range(5000))
    coefficients = decay.coefficients
    assert np.isfinite(coefficients).all()
    assert (coefficients[:, FACTORS:NODES] >= 0.0).all()
    assert (coefficients[:, NODES:] >= 0.0).all()
    assert (np.diff(coefficients[:, LOG_DECAY]) < 0.0).all()
    expected, _ = explicit_sum([RATE * (1 - step / 5000) for step in range(5000)], *betas, 0.1, 4900, 5000)
    assert (np.abs(closed(coefficients, 4900, 5000)[0] - expected) <= 2e-2 * expected).all()


def test_betas_that_have_no_closed_form_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"beta1 is 0\.95 and beta2 is 0\.9; lazy AdamW needs beta1 <= beta2"):
        LazyDecay(beta1=0.95, beta2=0.9, weight_decay=0.0)


@pytest.mark.parametrize("rate", [2.0, 2.5])
def test_rates_that_decay_all_of_a_weight_are_refused(rate: float) -> None:
    decay = LazyDecay(beta1=0.9, beta2=0.95, weight_decay=0.5)
    decay.advance([1.9])
    with pytest.raises(ConfigError, match=f"{rate:g} \\* 0.5 = {rate / 2:g}; lazy AdamW needs less than 1"):
        decay.advance([rate])
    assert decay.num_steps == 1


@pytest.mark.parametrize("num_points", [1, 2, 3, 20])
def test_quadrature_has_the_moments_of_the_measure(num_points: int) -> None:
    generator = np.random.default_rng(num_points)
    for _ in range(200):
        points, shares = generator.random(num_points), 10.0 ** generator.uniform(-3, 0, num_points)
        if num_points in (2, 3):  # far enough apart to be told apart
            points = (np.arange(num_points) + 0.8 * points) / num_points
        total = 10.0 ** generator.uniform(-8, 2)
        moments = total * (points ** np.arange(2 * NUM_NODES)[:, None] * shares).sum(axis=1)
        weights, nodes = np.full(NUM_NODES, np.nan), np.full(NUM_NODES, np.nan)
        _quadrature(moments, weights, nodes)
        assert (weights >= 0.0).all()
        assert ((nodes >= 0.0) & (nodes <= 1.0)).all()
        found = (nodes ** np.arange(2 * NUM_NODES)[:, None] * weights).sum(axis=1)
        np.testing.assert_allclose(found, moments, rtol=1e-9, atol=1e-10 * moments[0])
        if num_points <= NUM_NODES:
            there = np.sort(nodes[weights > 1e-9 * moments[0]])
            np.testing.assert_allclose(there, np.sort(points), rtol=1e-6, atol=1e-7)


def test_quadrature_of_nothing_is_nothing() -> None:
    weights, nodes = np.ones(NUM_NODES), np.ones(NUM_NODES)
    _quadrature(np.zeros(2 * NUM_NODES), weights, nodes)
    assert not weights.any()
    assert not nodes.any()
