"""What a comparison can tell: the smallest difference that it sees, and the seeds that a difference takes.

Power is the probability that the t interval of a difference excludes zero where the true difference is `delta`: with a
standard error s of d degrees of freedom, T has a noncentral t distribution with noncentrality delta / s (Cohen 1988,
chapter 2). More seeds divide the variance by their number and multiply the degrees of freedom by (seeds - 1), which is
exact in complete tables. The noise is taken as it was estimated; its own doubt is not part of the answer.

The noncentral t probability is computed as the mean over the chi-square of the estimated variance: scipy 1.17's nctdtr
gives NaN for some of the arguments that occur here.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from analysis.inference.replicate_noise import Noise

POWER = 0.8
MOST_SEEDS = 1000
_STEPS = (np.arange(2000) + 0.5) / 2000


def power(noise: Noise, difference: float) -> float:
    """The probability that the interval of a contrast with this standard error excludes zero.

    Example:
        >>> round(power(Noise(std=1.0, degrees=10, source=""), 3.0), 2)
        0.77
    """
    if noise.std == 0:
        return 1.0 if difference != 0 else 1 - noise.level
    bound = float(stdtrit(noise.degrees, 0.5 + noise.level / 2))
    away = abs(difference) / noise.std
    # The estimated standard error over the true one, at even steps of its probability.
    ratio = np.sqrt(chdtri(noise.degrees, _STEPS) / noise.degrees)
    return float(np.mean(ndtr(away - bound * ratio) + ndtr(-away - bound * ratio)))


def smallest_difference(noise: Noise) -> float:
    """The true difference that such a contrast tells from zero with 80 % power."""
    if noise.std == 0:
        return 0.0
    bound = float(stdtrit(noise.degrees, 0.5 + noise.level / 2))
    unit = Noise(std=1.0, degrees=noise.degrees, source=noise.source, level=noise.level)
    return noise.std * float(brentq(lambda one: power(unit, one) - POWER, 0.0, bound * 4 + 10))


def with_seeds(noise: Noise, num_seeds: int, wanted: int) -> Noise:
    """The noise of a contrast of means over `num_seeds` seeds (2 or more) as it would be with `wanted` of them."""
    degrees = noise.degrees * (wanted - 1) / (num_seeds - 1)
    return Noise(
        std=noise.std * (num_seeds / wanted) ** 0.5, degrees=max(degrees, 1.0), source=noise.source, level=noise.level
    )


def seeds_for(noise: Noise, num_seeds: int, difference: float) -> int | None:
    """The fewest seeds with which a difference of this size is seen with 80 % power; None above `MOST_SEEDS`.

    Args:
        noise: Of the contrast as it stands.
        num_seeds: Seeds that it rests on, 2 or more.
        difference: The true difference to see, in the measure's unit.
    """
    if difference == 0 or power(with_seeds(noise, num_seeds, MOST_SEEDS), difference) < POWER:
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(with_seeds(noise, num_seeds, middle), difference) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high
