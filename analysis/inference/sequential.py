"""How wide an interval must be when a comparison is read again after more seeds, so that its error rate is kept.

A sweep that was not resolved is extended by seeds and read again. Each reading at 95 % has its own chance of calling a
difference where there is none; together they call one in 8 to 15 % of sweeps. Here the 5 % are spent over all readings:
a group-sequential bound with an alpha-spending function (Lan and DeMets 1983, Biometrika 70).

1. Spent by a reading with n seeds, where the first had n_1:  alpha(n) = 0.05 (1 - n_1 / (5 n)).  The first reading gets
   4 %, for most sweeps are read once; all later ones share the last 1 %, whatever their number: the function rises to
   5 % at infinitely many seeds (information 1), so that no largest number has to be named beforehand.
2. The bounds follow by recursive integration of the score's density over the readings so far (Armitage, McPherson and
   Rowe 1969), the information of a reading being its number of seeds.
3. Each bound is turned into the level of a t interval (the significance level approach, Jennison and Turnbull 2000,
   section 3.8), which is then a repeated confidence interval (Jennison and Turnbull 1989).

Chosen over anytime-valid intervals (Howard et al. 2021; for t statistics Lai 1976, Wang and Ramdas 2024): these hold
for any number of readings too, but with the 2 to 6 degrees of freedom of a first reading they are several times as
wide.

Refuses readings whose number of seeds does not rise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from analysis.errors import FitError
from analysis.interval import LEVEL

FloatArray = npt.NDArray[np.float64]

LATER = 0.2
"""Share of alpha that is kept for all readings after the first."""
_POINTS = 513
"""Of the grid on which the density is kept; the levels then have five digits."""


def spent(num_seeds: int, first: int, *, alpha: float = 1 - LEVEL) -> float:
    """The error rate that may be used up when a reading has `num_seeds` seeds and the first one had `first`."""
    return alpha * (1 - LATER * first / num_seeds)


@lru_cache(maxsize=64)
def _levels(num_seeds: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    bounds = [float(-ndtri(spent(num_seeds[0], num_seeds[0], alpha=alpha) / 2))]
    edge = bounds[0] * num_seeds[0] ** 0.5
    at = np.linspace(-edge, edge, _POINTS)
    density = np.exp(-(at**2) / (2 * num_seeds[0])) / np.sqrt(2 * np.pi * num_seeds[0])
    for before, now in itertools.pairwise(num_seeds):
        step = (now - before) ** 0.5
        left = spent(now, num_seeds[0], alpha=alpha) - spent(before, num_seeds[0], alpha=alpha)
        weight = _simpson(at) * density

        def leaves(edge: float, at: FloatArray = at, weight: FloatArray = weight, step: float = step) -> float:
            """The probability of being inside all bounds so far and beyond this one now."""
            return float(weight @ (ndtr((-edge - at) / step) + ndtr((at - edge) / step)))

        edge = float(brentq(lambda edge, left=left, leaves=leaves: leaves(edge) - left, 0.0, 12 * now**0.5))
        bounds.append(edge / now**0.5)
        new = np.linspace(-edge, edge, _POINTS)
        kernel = np.exp(-((new[:, None] - at[None, :]) ** 2) / (2 * step**2)) / np.sqrt(2 * np.pi * step**2)
        at, density = new, kernel @ weight
    return tuple(float(1 - 2 * ndtr(-bound)) for bound in bounds)


def levels(num_seeds: Sequence[int], *, alpha: float = 1 - LEVEL) -> tuple[float, ...]:
    """The level of the intervals of each reading, such that all together keep the error rate.

    Args:
        num_seeds: Seeds of each reading, rising.
        alpha: The error rate of the whole sequence.

    Returns:
        A level for each reading: 0.96 for the first, and more for later ones.

    Raises:
        FitError: There is no reading, or a reading has no more seeds than the one before it.

    Example:
        >>> [round(level, 3) for level in levels([2, 4, 8])]
        [0.96, 0.99, 0.996]
    """
    counts = tuple(int(one) for one in num_seeds)
    if not counts or counts[0] < 1 or any(now <= before for before, now in itertools.pairwise(counts)):
        listed = ", ".join(map(str, counts)) or "none"
        raise FitError(
            f"looks: the numbers of seeds of the readings are {listed}; give them rising, such as 2,3,5 (a reading with"
            " the seeds of the one before it is no new one)"
        )
    return _levels(counts, alpha)


def _simpson(at: FloatArray) -> FloatArray:
    """Weights of Simpson's rule on an even grid with an odd number of points."""
    weight = np.full(len(at), 2.0)
    weight[1::2] = 4.0
    weight[[0, -1]] = 1.0
    return np.asarray(weight * (at[1] - at[0]) / 3)
