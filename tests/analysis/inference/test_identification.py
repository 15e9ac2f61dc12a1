"""What a table cannot tell has no interval: never one of width zero."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.fitting import Fit, fit_law, predict
from analysis.laws.registry import LAWS

TRUTH = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
N = np.geomspace(1e7, 1e10, 24)


def fitted(params: np.ndarray, tokens: np.ndarray, **options: object) -> Fit:
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(len(params)))
    loss = LAWS["chinchilla"].predict(TRUTH, {"N": params, "D": tokens}) * noise
    return fit_law("chinchilla", {"N": params, "D": tokens}, loss, **options)


def assert_unknown(found: Fit, names: set[str]) -> None:
    for one in found.coefficients:
        if one.name in names:
            assert not one.identified
            assert one.ci95 == (-math.inf, math.inf)
        assert one.ci95.width > 0
    assert "not_identified" in {one.code for one in found.warnings}


def test_as_many_points_as_parameters() -> None:
    found = fitted(N[::5], np.roll(20 * N[::5], 2))
    assert found.num_points == 5
    assert_unknown(found, {"A", "B", "E", "alpha", "beta", "a", "b"})
    assert "none: the table cannot give them" in found.summary()
    ahead = predict(found, {"N": [1e11], "D": [1e12]}).to_frame()
    assert ahead["run_upper"][0] == math.inf


def test_tokens_that_follow_from_parameters() -> None:
    found = fitted(N, 20 * N)
    assert_unknown(found, {"A", "B", "alpha", "beta", "a", "b"})
    on_the_line = predict(found, {"N": [3e10], "D": [6e11]}).to_frame()
    off_the_line = predict(found, {"N": [3e10], "D": [6e12]}).to_frame()
    assert np.isfinite(on_the_line["law_upper"][0])
    assert off_the_line["law_upper"][0] == math.inf


def test_fewer_groups_than_parameters() -> None:
    tokens = np.random.default_rng(1).permutation(20 * N)
    found = fitted(N, tokens, clusters=np.arange(24) % 4)
    assert_unknown(found, {"A", "B", "E", "alpha", "beta"})


def test_a_parameter_that_moves_nothing() -> None:
    """With A fixed at 0 the exponent of N changes no prediction."""
    found = fitted(N, np.random.default_rng(1).permutation(20 * N), fixed={"A": 0.0})
    alpha = found.coefficient("alpha")
    assert not alpha.identified
    assert alpha.ci95 == (0.0, 5.0)
    assert found.coefficient("beta").identified


def test_an_offset_at_its_bound_has_an_open_interval() -> None:
    x = np.geomspace(1.0, 1e4, 20)
    loss = np.exp(1.5 - 0.05 * np.log(x) - 0.004 * np.log(x) ** 2)
    noise = np.exp(1e-3 * np.random.default_rng(0).standard_normal(20))
    one = fit_law("power_with_offset", {"x": x}, loss * noise, objective="log_lsq").coefficient("E")
    assert one.at_bound
    assert not one.identified
    assert one.ci95.width > 0


@pytest.mark.parametrize("objective", ["log_lsq", "log_huber"])
def test_a_sound_table_is_identified(objective: str) -> None:
    random = np.random.default_rng(2)
    found = fitted(random.permutation(N), random.permutation(20 * N), objective=objective)
    assert not found.undetermined
    assert all(math.isfinite(one.ci95.width) for one in found.coefficients)
