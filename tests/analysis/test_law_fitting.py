"""The solver finds known laws, and what the law cannot know it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import FitError
from analysis.fit import fit_point, refit
from analysis.laws.of_compute import LAWS, MIN_BUDGETS_FOR_OFFSET, choose

X = np.geomspace(1e13, 1e17, 9)


@given(scale=st.floats(0.1, 1e3), alpha=st.floats(-0.3, 0.9))
@settings(max_examples=30, deadline=None)
def test_a_power_law_is_recovered(scale: float, alpha: float) -> None:
    loss = scale * (X / 1e15) ** -alpha
    point = fit_point(LAWS["power"], X, loss)
    values = point.law.coefficients(point.theta[None, :], point.x0)
    assert values["alpha"][0] == pytest.approx(alpha, abs=1e-9)
    assert np.log(values["A"][0]) == pytest.approx(np.log(scale) + alpha * np.log(1e15), abs=1e-7)


@given(offset=st.floats(0.5, 3.0), scale=st.floats(0.5, 5.0), alpha=st.floats(0.05, 0.6))
@settings(max_examples=30, deadline=None)
def test_an_offset_law_is_recovered(offset: float, scale: float, alpha: float) -> None:
    loss = offset + scale * (X / 1e13) ** -alpha
    point = fit_point(LAWS["power_with_offset"], X, loss)
    values = point.law.coefficients(point.theta[None, :], point.x0)
    assert values["E"][0] == pytest.approx(offset, rel=1e-4)
    assert values["alpha"][0] == pytest.approx(alpha, rel=1e-3)
    assert point.at_bound == ()


def test_an_offset_that_is_not_there_lies_at_its_bound() -> None:
    random = np.random.default_rng(0)
    # Bent downwards in logarithms: no offset above zero can follow it.
    loss = np.exp(1.5 - 0.05 * np.log(X / 1e13) - 0.01 * np.log(X / 1e13) ** 2 + 1e-4 * random.standard_normal(9))
    with_offset, without = (fit_point(LAWS[name], X, loss) for name in ("power_with_offset", "power"))
    assert "log_E" in with_offset.at_bound
    assert with_offset.objective == pytest.approx(without.objective, rel=1e-3)
    assert with_offset.theta[2] == pytest.approx(without.theta[1], rel=1e-3)
    assert with_offset.share_at_best == 1.0


@pytest.mark.parametrize("name", sorted(LAWS))
def test_derivatives_match_differences(name: str) -> None:
    law, u = LAWS[name], np.linspace(-2, 2, 5)[None, :]
    theta = np.array([[0.3, 0.7, 0.2][-len(law.parameters) :]])
    exact = law.jacobian(theta, u)
    for index in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, index] = 1e-6
        numeric = (law.predict(theta + step, u) - law.predict(theta - step, u)) / 2e-6
        np.testing.assert_allclose(exact[:, :, index], numeric, atol=1e-8)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_inversion_is_the_inverse(name: str) -> None:
    law = LAWS[name]
    theta = np.array([[0.3, 0.7, 0.2][-len(law.parameters) :]])
    at = law.invert(theta, law.predict(theta, np.array([[0.37]]))[:, 0])
    assert at[0] == pytest.approx(0.37, abs=1e-9)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_weights_are_counts(name: str) -> None:
    """A replicate with weights equals a fit to copies of the runs."""
    random = np.random.default_rng(1)
    loss = (1.2 + 3 * (X / 1e13) ** -0.2) * np.exp(0.01 * random.standard_normal(9))
    weights = random.multinomial(9, np.full(9, 1 / 9), size=20).astype(float)
    point = fit_point(LAWS[name], X, loss)
    thetas = refit(point, weights_BN=weights)
    for theta, weight in zip(thetas[:5], weights[:5], strict=True):
        copied = np.repeat(np.arange(9), weight.astype(int))
        other = fit_point(LAWS[name], X[copied], loss[copied])
        ours = np.exp(point.law.predict(theta[None, :], point.centred(X)[None, :]))
        theirs = np.exp(other.law.predict(other.theta[None, :], other.centred(X)[None, :]))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_one_value_of_compute_is_refused() -> None:
    with pytest.raises(FitError, match="two different values"):
        fit_point(LAWS["power"], np.full(3, 1e13), np.array([3.0, 3.1, 3.2]))


def test_the_offset_needs_enough_budgets() -> None:
    assert choose(MIN_BUDGETS_FOR_OFFSET - 1)[0].name == "power"
    assert "3 budgets cannot tell" in choose(3)[1]
    assert choose(MIN_BUDGETS_FOR_OFFSET)[0].name == "power_with_offset"


def test_a_parameter_held_at_its_bound_leaves_the_others_at_their_best() -> None:
    """Losses that fall faster than alpha's bound of 5: what is left is to place A, which is then a mean."""
    x = np.array([1.0, 1.5, 2.0, 3.0])
    loss = x**-7.0 * np.exp([0.3, -0.2, 0.1, 0.2])
    point = fit_point(LAWS["power"], x, loss)
    assert "alpha" in point.at_bound
    weights = np.array([[1.0, 0.0, 0.0, 9.0]])
    theta = refit(point, weights_BN=weights)[0]
    residual = np.log(loss) + 5 * point.centred(x)
    assert theta[1] == 5.0
    assert theta[0] == pytest.approx(np.average(residual, weights=weights[0]), rel=1e-9)
