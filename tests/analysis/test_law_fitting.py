"""A series' law is found where it is known, and what it cannot know it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import FitError
from analysis.fitting.power_law import MIN_LEVELS_FOR_OFFSET, choose, fit_series, refit
from analysis.laws.dense import POWER, POWER_WITH_OFFSET
from analysis.laws.law import Law

X = np.geomspace(1e13, 1e17, 9)
LAWS = (POWER, POWER_WITH_OFFSET)


@given(scale=st.floats(0.1, 1e3), alpha=st.floats(-0.3, 0.9).filter(lambda alpha: abs(alpha) > 1e-3))
@settings(max_examples=30, deadline=None)
def test_a_power_law_is_recovered(scale: float, alpha: float) -> None:
    values = fit_series(POWER, X, scale * (X / 1e15) ** -alpha).fit.values
    assert values["alpha"] == pytest.approx(alpha, abs=1e-9)
    assert np.log(values["A"]) == pytest.approx(np.log(scale) + alpha * np.log(1e15), abs=1e-7)


@given(offset=st.floats(0.5, 3.0), scale=st.floats(0.5, 5.0), alpha=st.floats(0.05, 0.6))
@settings(max_examples=30, deadline=None)
def test_an_offset_law_is_recovered(offset: float, scale: float, alpha: float) -> None:
    found = fit_series(POWER_WITH_OFFSET, X, offset + scale * (X / 1e13) ** -alpha).fit
    assert found.values["E"] == pytest.approx(offset, rel=1e-4)
    assert found.values["alpha"] == pytest.approx(alpha, rel=1e-3)
    assert not found.at_bound


def test_an_offset_that_is_not_there_lies_at_its_bound() -> None:
    random = np.random.default_rng(0)
    # Bent downwards in logarithms: no offset above zero can follow it.
    loss = np.exp(1.5 - 0.05 * np.log(X / 1e13) - 0.01 * np.log(X / 1e13) ** 2 + 1e-4 * random.standard_normal(9))
    with_offset, without = (fit_series(law, X, loss).fit for law in (POWER_WITH_OFFSET, POWER))
    assert "E" in with_offset.at_bound
    assert with_offset.value == pytest.approx(without.value, rel=1e-3)
    assert with_offset.values["alpha"] == pytest.approx(without.values["alpha"], rel=1e-3)
    assert with_offset.starts.share_at_best == 1.0


@pytest.mark.parametrize("law", LAWS)
def test_reaching_a_loss_is_the_inverse_of_predicting_it(law: Law) -> None:
    found = fit_series(law, X, 1.2 + 3 * (X / 1e13) ** -0.2)
    at = np.array([3.7e14])
    loss = found.log_loss(found.best, at)[:, 0]
    assert np.exp(found.reach(found.best, loss))[0] == pytest.approx(3.7e14, rel=1e-9)


def test_a_loss_below_the_offset_and_a_law_that_does_not_fall_are_never_reached() -> None:
    found = fit_series(POWER_WITH_OFFSET, X, 1.2 + 3 * (X / 1e13) ** -0.2)
    assert found.reach(found.best, np.log([1.1]))[0] == np.inf
    rising = fit_series(POWER, X, X**0.1)
    assert rising.reach(rising.best, np.log([1.1]))[0] == np.inf


@pytest.mark.parametrize("law", LAWS)
def test_weights_are_counts(law: Law) -> None:
    """A replicate with weights equals a fit to copies of the runs."""
    random = np.random.default_rng(1)
    loss = (1.2 + 3 * (X / 1e13) ** -0.2) * np.exp(0.01 * random.standard_normal(9))
    weights = random.multinomial(9, np.full(9, 1 / 9), size=20).astype(float)
    found = fit_series(law, X, loss)
    thetas = refit(found, weights_BN=weights)
    for theta, weight in zip(thetas[:5], weights[:5], strict=True):
        copied = np.repeat(np.arange(9), weight.astype(int))
        other = fit_series(law, X[copied], loss[copied])
        np.testing.assert_allclose(found.log_loss(theta[None, :], X), other.log_loss(other.best, X), rtol=1e-5)


def test_other_targets_are_fitted_as_losses_of_their_own() -> None:
    loss = 1.2 + 3 * (X / 1e13) ** -0.2
    found = fit_series(POWER, X, loss)
    other = loss * np.exp(0.02 * np.cos(np.arange(9)))
    theta = refit(found, log_loss_BN=np.log(other)[None, :])
    assert found.slope(theta)[0] == pytest.approx(fit_series(POWER, X, other).fit.values["alpha"], rel=1e-9)


def test_one_value_of_compute_is_refused() -> None:
    with pytest.raises(FitError, match="two different values"):
        fit_series(POWER, np.full(3, 1e13), np.array([3.0, 3.1, 3.2]))


def test_the_offset_needs_enough_budgets() -> None:
    assert choose(MIN_LEVELS_FOR_OFFSET - 1)[0].name == "power"
    assert "3 budgets cannot tell" in choose(3)[1]
    assert choose(MIN_LEVELS_FOR_OFFSET)[0].name == "power_with_offset"


def test_a_parameter_held_at_its_bound_leaves_the_others_at_their_best() -> None:
    """Losses that fall faster than alpha's bound of 5: what is left is to place A, which is then a mean."""
    x = np.array([1.0, 1.5, 2.0, 3.0])
    loss = x**-7.0 * np.exp([0.3, -0.2, 0.1, 0.2])
    found = fit_series(POWER, x, loss)
    assert "alpha" in found.fit.at_bound
    weights = np.array([[1.0, 0.0, 0.0, 9.0]])
    values = found.law.values(refit(found, weights_BN=weights))
    assert values["alpha"][0] == 5.0
    expected = np.average(np.log(loss) + 5 * np.log(x), weights=weights[0])
    assert np.log(values["A"][0]) == pytest.approx(expected, rel=1e-9)
