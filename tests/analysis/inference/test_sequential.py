"""The error rate of a comparison that is read after each extension by seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from analysis.errors import FitError
from analysis.inference.sequential import levels, spent


@pytest.mark.parametrize("counts", [(3,), (2, 3), (2, 4, 8), (2, 3, 4, 5, 6, 7, 8)])
def test_all_readings_together_use_up_what_is_spent(counts: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    steps = random.standard_normal((200_000, counts[-1]))
    score = np.cumsum(steps, axis=1)
    bounds = [-ndtri((1 - level) / 2) * count**0.5 for level, count in zip(levels(counts), counts, strict=True)]
    called = np.zeros(len(steps), dtype=bool)
    for count, bound in zip(counts, bounds, strict=True):
        called |= np.abs(score[:, count - 1]) > bound
        # Four standard errors of the simulation.
        assert called.mean() == pytest.approx(spent(count, counts[0]), abs=4 * (0.05 / 200_000) ** 0.5)
    assert called.mean() < 0.051


def test_the_first_reading_gets_most_of_it_and_the_rate_is_never_passed() -> None:
    assert levels([4])[0] == pytest.approx(0.96)
    assert spent(10**9, 2) <= 0.05
    # What is spent does not depend on whether a later reading is made.
    assert levels([2, 4])[:1] == levels([2])
    assert levels([2, 4, 9])[:2] == levels([2, 4])


@pytest.mark.parametrize("counts", [(), (3, 3), (4, 2), (0, 2)])
def test_readings_without_new_seeds_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(FitError, match="give them rising"):
        levels(counts)
