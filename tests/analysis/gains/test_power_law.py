"""Laws of several series are found where they are known; the offset is fitted only where the table can tell one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import FitError
from analysis.gains.power_law import Cells, Lines, Offsets, SeriesFit, fit_lines, fit_offsets, misfit

X = np.geomspace(1e13, 1e17, 9)


def cells(*losses: np.ndarray, weight: float = 1.0) -> Cells:
    return Cells(
        series=np.repeat(np.arange(len(losses)), len(X)),
        log_x=np.tile(np.log(X), len(losses)),
        log_loss=np.log(np.concatenate(losses)),
        weight=np.full(len(losses) * len(X), weight),
    )


def with_offset(*losses: np.ndarray) -> Offsets:
    found = fit_offsets(cells(*losses), (tuple(range(len(losses))),))
    assert found is not None
    return found


@given(scale=st.floats(0.1, 1e3), alpha=st.floats(-0.3, 0.9).filter(lambda alpha: abs(alpha) > 1e-3))
@settings(max_examples=30, deadline=None)
def test_a_line_is_recovered(scale: float, alpha: float) -> None:
    (theta,) = fit_lines(cells(scale * (X / 1e15) ** -alpha)).theta
    assert theta[1] == pytest.approx(alpha, abs=1e-9)
    assert theta[0] == pytest.approx(np.log(scale) + alpha * np.log(1e15), abs=1e-7)


@given(offset=st.floats(0.5, 3.0), scale=st.floats(0.5, 5.0), alpha=st.floats(0.05, 0.6), gain=st.floats(1.1, 3.0))
@settings(max_examples=30, deadline=None)
def test_an_offset_that_two_series_share_is_recovered(offset: float, scale: float, alpha: float, gain: float) -> None:
    found = with_offset(*(offset + scale * (X * more / 1e13) ** -alpha for more in (1.0, gain)))
    values = found.law.values(found.theta)
    assert values["E"] == pytest.approx([offset, offset], rel=1e-4)
    assert values["alpha"] == pytest.approx([alpha, alpha], rel=1e-3)


def test_losses_that_bend_downwards_have_no_offset() -> None:
    bent = np.exp(1.5 - 0.05 * np.log(X / 1e13) - 0.01 * np.log(X / 1e13) ** 2)
    assert fit_offsets(cells(bent), ((0,),)) is None


def test_refits_have_the_offset_at_none_where_the_best_lies_below_zero() -> None:
    found = with_offset(1.2 + 3 * (X / 1e13) ** -0.2)
    bent = 1.5 - 0.05 * np.log(X / 1e13) - 0.01 * np.log(X / 1e13) ** 2
    (replicate,) = found.refit(bent[None, :])
    (line,) = fit_lines(cells(np.exp(bent))).theta
    assert replicate[0, 1:] == pytest.approx(line)
    assert np.exp(replicate[0, 0]) <= 1e-6 * 1.001


@pytest.mark.parametrize("offset", [False, True])
def test_reaching_a_loss_is_the_inverse_of_predicting_it(offset: bool) -> None:
    laws: Lines | Offsets
    loss = 1.2 + 3 * (X / 1e13) ** -0.2
    laws = with_offset(loss) if offset else fit_lines(cells(loss))
    fit = SeriesFit(law=laws.law, theta=laws.theta[0], num_runs=9)
    at = fit.log_loss(fit.best, np.array([3.7e14]))[:, 0]
    assert np.exp(fit.log_reach(fit.best, at))[0] == pytest.approx(3.7e14, rel=1e-9)


def test_a_loss_below_the_offset_and_a_law_that_does_not_fall_are_never_reached() -> None:
    laws = with_offset(1.2 + 3 * (X / 1e13) ** -0.2)
    fit = SeriesFit(law=laws.law, theta=laws.theta[0], num_runs=9)
    assert fit.log_reach(fit.best, np.log([1.1]))[0] == np.inf
    rising = fit_lines(cells(X**0.1))
    fit = SeriesFit(law=rising.law, theta=rising.theta[0], num_runs=9)
    assert fit.log_reach(fit.best, np.log([1.1]))[0] == np.inf


def test_refits_of_lines_are_fits_to_the_other_losses() -> None:
    loss = 1.2 + 3 * (X / 1e13) ** -0.2
    other = loss * np.exp(0.02 * np.cos(np.arange(9)))
    found = fit_lines(cells(loss, weight=3.0))
    assert found.refit(np.log(other)[None, :])[0] == pytest.approx(fit_lines(cells(other)).theta, rel=1e-9)
    assert misfit(found) == pytest.approx(3 * misfit(fit_lines(cells(loss))))


def test_one_value_of_compute_is_refused() -> None:
    with pytest.raises(FitError, match="two different values"):
        fit_lines(
            Cells(series=np.zeros(3, int), log_x=np.zeros(3), log_loss=np.log([3.0, 3.1, 3.2]), weight=np.ones(3))
        )
