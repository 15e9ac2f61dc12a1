"""The 95 % intervals of a gain hold the truth about as often as they say (in full: `python -m benchmarks.coverage`)."""

from __future__ import annotations

import pytest

from benchmarks.coverage import measure
from benchmarks.coverage_gains import cases

TABLES = 60


@pytest.mark.parametrize("name", ["line, 3 budgets x 2 seeds, noise alone", "line, 4 budgets x 1 seeds, noise alone"])
@pytest.mark.slow
def test_the_intervals_hold_the_truth(name: str) -> None:
    (case,) = [one for one in cases() if name in one.name]
    found = measure(case, TABLES)
    # Four standard errors around 95 %.
    assert found.mean > 0.95 - 4 * (0.95 * 0.05 / TABLES) ** 0.5
    assert max(found.refused.values()) < 0.1
