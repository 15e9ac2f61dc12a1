"""The noise of one run is found where it is known, and is not pooled where it changes."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.fitting import fit_law, run_noise
from analysis.inference.run_noise import compute_scale
from analysis.laws.registry import LAWS

TRUTH = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
NOISE = 0.004
PARAMS = np.repeat(np.geomspace(2e7, 2e9, 8), 12)
TOKENS = np.tile(np.repeat(np.geomspace(1e9, 1e11, 6), 2), 8)
COLUMNS = {"N": PARAMS, "D": TOKENS}
SETTING = np.arange(96) // 2


def losses(spread: np.ndarray | float, seed: int = 0) -> np.ndarray:
    noise = spread * np.random.default_rng(seed).standard_normal(96)
    return np.asarray(LAWS["chinchilla"].predict(TRUTH, COLUMNS) * np.exp(noise))


def test_replicates_measure_the_noise_without_the_law() -> None:
    loss = losses(NOISE)
    found = run_noise(fit_law("chinchilla", COLUMNS, loss, objective="log_lsq"), SETTING)
    pairs = np.log(loss).reshape(48, 2)
    by_hand = np.sqrt(((pairs[:, 0] - pairs[:, 1]) ** 2).sum() / 2 / 48)
    assert (found.source, found.degrees, found.kind) == ("replicates", 48, "constant")
    assert found.std == pytest.approx(by_hand, rel=1e-9)


def test_without_replicates_the_residuals_tell_it() -> None:
    fitted = fit_law("chinchilla", COLUMNS, losses(NOISE), objective="log_lsq")
    for setting in (None, np.arange(96)):
        found = run_noise(fitted, setting)
        assert (found.source, found.degrees) == ("residuals", 91)
        assert found.std == pytest.approx(np.sqrt((fitted.residuals**2).sum() / 91), rel=1e-9)


def test_noise_that_grows_with_compute_has_a_law_of_its_own() -> None:
    scale = compute_scale(COLUMNS)
    spread = NOISE * (scale / np.exp(np.log(scale).mean())) ** 0.3
    loss = losses(spread)
    found = run_noise(fit_law("chinchilla", COLUMNS, loss, objective="log_lsq"), SETTING)
    assert found.kind == "trend"
    assert found.slope == pytest.approx(0.6, abs=0.2)
    ahead = found.std_replicates(4000, np.log([1e22]), np.random.default_rng(0))[:, 0]
    true = NOISE * (1e22 / np.exp(np.log(scale).mean())) ** 0.3
    assert np.quantile(ahead, 0.025) < true < np.quantile(ahead, 0.975)
    assert found.std < 0.5 * true


def test_noise_that_differs_without_a_trend_is_not_pooled() -> None:
    spread = np.where((SETTING % 6 == 2) | (SETTING % 6 == 3), 10 * NOISE, NOISE / 10)
    found = run_noise(fit_law("chinchilla", COLUMNS, losses(spread), objective="log_lsq"), SETTING)
    assert found.kind == "levels"
    assert len(found.levels) == 48
    drawn = found.std_replicates(2000, np.zeros(1), np.random.default_rng(0))
    assert np.quantile(drawn, 0.9) / np.quantile(drawn, 0.1) > 30


def test_a_law_that_misses_the_settings_is_part_of_the_noise() -> None:
    bent = losses(NOISE / 10) * np.exp(0.02 * np.sin(np.log(PARAMS)))
    fitted = fit_law("chinchilla", COLUMNS, bent, objective="log_lsq")
    found = run_noise(fitted, SETTING)
    assert found.source == "residuals"
    assert found.std > 10 * NOISE / 10


def test_as_many_parameters_as_runs_tell_no_noise() -> None:
    found = fit_law("power", {"x": [1.0, 2.0]}, [3.0, 2.5], objective="log_lsq")
    with pytest.raises(FitError, match="do not determine the noise of a run"):
        run_noise(found)
