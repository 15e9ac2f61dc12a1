"""The exponent's 95 % interval on a smaller number of the tables of `benchmarks/coverage_allocation.py`."""

from __future__ import annotations

import pytest

from benchmarks.coverage import measure
from benchmarks.coverage_allocation import cases

CASES = {case.name: case for case in cases()}


@pytest.mark.parametrize("shape", ["3 budgets x 5 sizes x 2 seeds", "4 budgets x 5 sizes x 1 seeds"])
def test_the_exponents_interval_holds_the_truth(shape: str) -> None:
    found = measure(CASES[f"isoflop exponent: chinchilla, medium, {shape}"], tables=60)
    assert found.mean >= 0.88  # three standard errors below 95 %
    assert max(found.refused.values(), default=0.0) < 0.1
