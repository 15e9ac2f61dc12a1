"""Power is that of the t test, and the seeds that a difference takes follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from analysis.inference.power import POWER, power, seeds_for, smallest_difference, with_seeds
from analysis.inference.replicate_noise import Noise


def noise(std: float, degrees: float) -> Noise:
    return Noise(std=std, degrees=degrees, source="")


@pytest.mark.parametrize("degrees", [2, 6, 40])
def test_power_is_how_often_the_interval_excludes_zero(degrees: int) -> None:
    random = np.random.default_rng(degrees)
    value = 3.0 + random.standard_normal(100_000)
    scale = np.sqrt(random.chisquare(degrees, 100_000) / degrees)
    seen = (np.abs(value) > stdtrit(degrees, 0.975) * scale).mean()
    assert power(noise(1.0, degrees), 3.0) == pytest.approx(seen, abs=0.006)


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 1000])
def test_the_smallest_difference_is_seen_with_80_percent(degrees: int) -> None:
    one = noise(0.02, degrees)
    assert power(one, smallest_difference(one)) == pytest.approx(POWER, abs=1e-6)
    assert power(one, 0.0) == pytest.approx(0.05, abs=2e-4)


def test_the_seeds_are_the_fewest_that_suffice() -> None:
    one = noise(1.0, 4)
    for difference in (0.5, 1.0, 3.0, 8.0):
        wanted = seeds_for(one, 3, difference)
        assert wanted is not None
        assert power(with_seeds(one, 3, wanted), difference) >= POWER
        if wanted > 2:
            assert power(with_seeds(one, 3, wanted - 1), difference) < POWER
    assert seeds_for(one, 3, 1e-4) is None
    assert seeds_for(one, 3, 0.0) is None
