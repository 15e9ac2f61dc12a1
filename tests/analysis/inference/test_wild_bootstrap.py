"""Intervals by groups: residuals as of a fit without the group, and intervals that hold the truth where groups err."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.fitting import fit_law
from analysis.inference.result import Fit
from analysis.inference.wild_bootstrap import _without_own_group, wild_bootstrap

GROUPS, SIZE = 12, 4
GROUP_N = np.repeat(np.arange(GROUPS), SIZE)
X = np.repeat(np.geomspace(1e3, 1e6, GROUPS), SIZE)


def fitted(seed: int, shared: float = 0.02, own: float = 0.003) -> Fit:
    """ln L = ln 12 - 0.1 ln x with noise that a group's runs share."""
    random = np.random.default_rng(seed)
    noise_N = shared * random.standard_normal(GROUPS)[GROUP_N] + own * random.standard_normal(len(X))
    return fit_law("power", {"x": X}, 12.0 * X**-0.1 * np.exp(noise_N), objective="log_lsq", num_starts=1)


def test_residuals_are_those_of_fits_without_the_group() -> None:
    """The law is linear in ln A and alpha, so the shortcut is exact: here each group is left out indeed."""
    fit = fitted(0)
    found = _without_own_group(fit, GROUP_N) / np.sqrt((GROUPS - 1) / GROUPS)
    design = np.stack([np.ones(len(X)), -np.log(X)], axis=1)
    for group in range(GROUPS):
        kept, out = group != GROUP_N, group == GROUP_N
        line = np.linalg.lstsq(design[kept], np.log(fit.loss[kept]), rcond=None)[0]
        assert found[out] == pytest.approx(design[out] @ line - np.log(fit.loss[out]), rel=1e-6)


def test_intervals_hold_the_truth_where_groups_err_together() -> None:
    held = {"groups": 0, "runs": 0}
    for seed in range(60):
        fit = fitted(seed)
        for name, groups in (("groups", GROUP_N), ("runs", np.arange(len(X)))):
            replicates = wild_bootstrap(fit, groups, num=200, seed=seed)
            lower, upper = np.quantile(replicates.theta[:, fit.law.index("alpha")], [0.025, 0.975])
            held[name] += lower <= 0.1 <= upper
    assert held["groups"] >= 52
    assert held["runs"] < 50, "the runs of a group are not independent, and taking them so shows"


def test_the_same_seed_gives_the_same_refits() -> None:
    first, again, other = (wild_bootstrap(fitted(1), GROUP_N, num=20, seed=seed).theta for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_one_group_gives_no_interval() -> None:
    with pytest.raises(FitError, match="at least 2 groups"):
        wild_bootstrap(fitted(0), np.zeros(len(X), dtype=np.int64))
