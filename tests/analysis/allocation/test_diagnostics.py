"""What makes a best split doubtful is said under a code, and only where it is so."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.allocation.approaches import Approaches, IsoFlopRuns, approaches
from analysis.allocation.diagnostics import warnings_of


def found_of(params: np.ndarray, tokens: np.ndarray, flops: np.ndarray, loss: np.ndarray, at: float) -> Approaches:
    return approaches(IsoFlopRuns(params=params, tokens=tokens, flops=flops, loss=loss), flops=[at], method="parabola")


def codes(alpha: float, beta: float, *, at: float = 1e21) -> set[str]:
    A, B = 406.4, 410.7
    rows = []
    for flops in np.logspace(18, 21, 4):
        best = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
        for params in best * np.geomspace(1 / 16, 16, 11):
            tokens = flops / 6 / params
            rows.append((params, tokens, flops, 1.69 + A / params**alpha + B / tokens**beta))
    params, tokens, flops, loss = np.array(rows).T
    found = found_of(params, tokens, flops, loss, at)
    return {one.code for one in warnings_of(found, {"N": params, "D": tokens, "C": flops})}


def test_a_symmetric_surface_that_is_well_covered_has_no_warning() -> None:
    assert codes(0.31, 0.31) == set()


@pytest.mark.parametrize(
    "change, code",
    [({"alpha": 0.45, "beta": 0.2}, "asymmetric_surface"), ({"at": 1e23}, "extrapolation")],
)
def test_each_cause_has_its_code(change: dict[str, float], code: str) -> None:
    assert code in codes(**{"alpha": 0.31, "beta": 0.31, **change})


def test_a_budget_whose_minimum_lies_at_an_edge_is_said() -> None:
    rows = []
    for flops, moved in ((1e18, 30.0), (1e19, 1.0), (1e20, 1.0)):
        for params in (406.4 / 410.7) ** (1 / 0.62) * (flops / 6) ** 0.5 * np.geomspace(1 / 16, 16, 11) * moved:
            tokens = flops / 6 / params
            rows.append((params, tokens, flops, 1.69 + 406.4 / params**0.31 + 410.7 / tokens**0.31))
    params, tokens, flops, loss = np.array(rows).T
    found = found_of(params, tokens, flops, loss, 1e20)
    said = [one for one in warnings_of(found, {"N": params, "D": tokens, "C": flops}) if one.code == "edge_minimum"]
    assert len(said) == 1
    assert "smallest" in said[0].text


def test_a_narrow_window_is_said() -> None:
    random = np.random.default_rng(0)
    params, tokens = random.uniform(1e8, 3e8, 40), random.uniform(1e9, 5e9, 40)
    loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    found = found_of(params, tokens, 6 * params * tokens, loss, 1e19)
    said = [one.text for one in warnings_of(found, {"N": params, "D": tokens}) if one.code == "narrow_window"]
    assert any("parameters (N)" in text for text in said)
    assert any("tokens (D)" in text for text in said)
