"""Intervals hold the truth about as often as they say, over many synthetic tables."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting import fit_law
from analysis.inference.profile import profile
from analysis.laws.registry import LAWS

CHINCHILLA = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
TRUTHS = {
    "chinchilla": (CHINCHILLA, "log_huber"),
    "power_with_offset": ({"E": 1.7, "A": 30.0, "alpha": 0.16}, "log_lsq"),
    "routed": ({"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "Es": 1.847, "Em": 314.478}, "log_lsq"),
}
TABLES, REFITS = 30, 200


def table(name: str, random: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
    spans = {"N": (1e7, 1e10), "D": (1e9, 1e12), "x": (1e17, 1e22)}
    columns = {
        one.name: random.choice([1.0, 4, 16, 64, 256], 150)
        if one.name == "E"
        else np.exp(random.uniform(*np.log(spans[one.name]), 150))
        for one in LAWS[name].columns
    }
    exact = LAWS[name].predict(TRUTHS[name][0], columns)
    return columns, exact * np.exp(5e-3 * random.standard_normal(150))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUTHS)
def test_bootstrap_and_sandwich_intervals_cover(name: str) -> None:
    """Of 30 tables with several parameters each, 95 % lie inside; the bounds leave room for the number of tables."""
    truth, objective = TRUTHS[name]
    random = np.random.default_rng(1)
    hits = {"bootstrap": [], "sandwich": []}  # type: dict[str, list[float]]
    narrow = []
    for number in range(TABLES):
        columns, loss = table(name, random)
        for kind, refits in (("bootstrap", REFITS), ("sandwich", 0)):
            found = fit_law(name, columns, loss, objective=objective, bootstrap=refits, seed=number)
            inside = [one.ci95[0] <= truth[one.name] <= one.ci95[1] for one in found.coefficients if one.name in truth]
            hits[kind].append(np.mean(inside))
            if kind == "bootstrap":
                narrow.append(
                    np.mean([one.ci80[0] <= truth[one.name] <= one.ci80[1] for one in found.coefficients
                             if one.name in truth])
                )  # fmt: skip
    for kind, shares in hits.items():
        assert 0.88 <= np.mean(shares) <= 1.0, (kind, np.mean(shares))
    assert 0.68 <= np.mean(narrow) <= 0.9


def test_profile_intervals_cover() -> None:
    truth, objective = TRUTHS["power_with_offset"]
    random = np.random.default_rng(2)
    hits = []
    for _ in range(60):
        columns, loss = table("power_with_offset", random)
        found = profile(fit_law("power_with_offset", columns, loss, objective=objective), "alpha")
        hits.append(found.ci95[0] <= truth["alpha"] <= found.ci95[1])
    assert 0.87 <= np.mean(hits) <= 1.0
