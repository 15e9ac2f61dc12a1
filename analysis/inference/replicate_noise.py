"""The noise of one run as a number with its degrees of freedom, t intervals from it, and intervals from replicates.

Decides that intervals rest on noise pooled over cells (series x budget): with two seeds a cell has one degree of
freedom, and its own interval would be 12.7 standard errors wide; pooled over all cells there is one degree of freedom a
cell. `inference.variance_components` estimates it and decides where it must not be pooled.

Shapes: B replicates, N runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri, stdtrit

from analysis.interval import LEVEL, ConfidenceInterval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NUM_REPLICATES = 2000
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviation of one run from what its cell would give on average."""

    std: float
    degrees: float
    """Degrees of freedom; a fraction where variances of several sources are summed (Satterthwaite 1946)."""
    source: str
    """What it was estimated from, in words."""
    level: float = LEVEL
    """Of its intervals: above 0.95 where they are read again after more seeds (`inference.sequential`)."""

    def half_width(self, variance_factor: float) -> float:
        """Half a t interval, at `level`, of a sum of runs whose variance is `variance_factor` x std^2."""
        quantile = float(stdtrit(self.degrees, 0.5 + self.level / 2))
        return quantile * self.std * float(np.sqrt(variance_factor))

    def interval(self, value: float, variance_factor: float) -> ConfidenceInterval:
        """The t interval, at `level`, of a sum of runs whose variance is `variance_factor` x std^2."""
        half = self.half_width(variance_factor)
        return ConfidenceInterval(lower=value - half, upper=value + half)

    def times(self, factor: float) -> Noise:
        """The noise of a run's value times `factor`."""
        return replace(self, std=self.std * factor)


def uneven(cells: Sequence[FloatArray]) -> int | None:
    """Index of a cell that is noisier than the others can explain (Cochran's C test at 5 %), or None."""
    several = [(index, cell) for index, cell in enumerate(cells) if len(cell) > 1]
    if len(several) < 2:
        return None
    variances = np.array([cell.var(ddof=1) for _, cell in several])
    if variances.sum() == 0:
        return None
    degrees, count = float(np.mean([len(cell) - 1 for _, cell in several])), len(several)
    quantile = float(fdtri(degrees, (count - 1) * degrees, 1 - 0.05 / count))
    critical = 1 / (1 + (count - 1) / quantile)
    worst = int(np.argmax(variances))
    return several[worst][0] if variances[worst] / variances.sum() > critical else None


def generator(label: str, seed: int = SEED) -> np.random.Generator:
    """A stream of its own for each label, so that one series' draws do not depend on which others are there."""
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


def percentile_interval(draws_B: FloatArray, level: float = LEVEL) -> ConfidenceInterval:
    """The middle 95 % (or `level`) of the draws; infinite draws count at their end."""
    lower, upper = np.quantile(draws_B, [0.5 - level / 2, 0.5 + level / 2], method="inverted_cdf")
    return ConfidenceInterval(lower=float(lower), upper=float(upper))
