"""Intervals of predictions hold the law, and the next run, as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.fitting import fit_law, predict, run_noise
from analysis.laws.registry import LAWS

TRUTH = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
NOISE = 0.004
PARAMS = np.repeat(np.geomspace(2e7, 2e9, 8), 12)
TOKENS = np.tile(np.repeat(np.geomspace(1e9, 1e11, 6), 2), 8)
SETTING = np.arange(96) // 2


def test_prediction_intervals_cover_the_law_and_the_next_run() -> None:
    law, ahead = LAWS["chinchilla"], {"N": np.array([5e9]), "D": np.array([3e11])}
    exact = law.predict(TRUTH, {"N": PARAMS, "D": TOKENS})
    true = float(law.predict(TRUTH, ahead)[0])
    laws = runs = 0
    for seed in range(80):
        random = np.random.default_rng(seed)
        loss = exact * np.exp(NOISE * random.standard_normal(96))
        found = fit_law(law, {"N": PARAMS, "D": TOKENS}, loss, objective="log_lsq", bootstrap=300, seed=seed)
        noise = run_noise(found, SETTING)
        assert noise.source == "replicates"
        assert noise.degrees == 48
        predicted = predict(found, ahead, noise, seed=seed)
        laws += predicted.of_law[0, 0] <= true <= predicted.of_law[1, 0]
        runs += predicted.of_run[0, 0] <= true * np.exp(NOISE * random.standard_normal()) <= predicted.of_run[1, 0]
        assert predicted.of_run[0, 0] < predicted.of_law[0, 0] < predicted.loss[0] < predicted.of_law[1, 0]
    assert laws >= 0.86 * 80
    assert runs >= 0.88 * 80


def test_without_replicates_the_residuals_say_it() -> None:
    exact = LAWS["chinchilla"].predict(TRUTH, {"N": PARAMS, "D": TOKENS})
    loss = exact * np.exp(NOISE * np.random.default_rng(0).standard_normal(96))
    found = fit_law("chinchilla", {"N": PARAMS, "D": TOKENS}, loss, objective="log_lsq")
    for setting in (None, np.arange(96)):
        noise = run_noise(found, setting)
        assert (noise.source, noise.degrees) == ("residuals", 91)
        assert noise.std == pytest.approx(NOISE, rel=0.2)
    with pytest.raises(FitError, match="need a bootstrap"):
        predict(found, {"N": PARAMS, "D": TOKENS}, noise)


def test_as_many_parameters_as_runs_say_nothing_of_noise() -> None:
    found = fit_law("power", {"x": [1.0, 2.0]}, [3.0, 2.5], objective="log_lsq")
    with pytest.raises(FitError, match="say nothing of a run's noise"):
        run_noise(found)
