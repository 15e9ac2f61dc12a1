"""How sure: the pooled noise of the seeds, intervals from it, and the bootstrap over runs.

Decides that intervals rest on one pooled seed noise. With two seeds a cell (series x budget) has one degree of
freedom, and its own interval would be 12.7 standard errors wide; pooled over all cells there is one degree of freedom
a cell. The assumption is that the noise is the same in every cell; `uneven` tests it. Refuses an interval where no
cell has a second seed.

The bootstrap over runs resamples the seeds inside each cell. It shows how the answer moves with the seeds at hand,
but with n seeds its spread is (n-1)/n of the variance (half, at two seeds), and each cell has only three different
resamples: it is reported beside the pooled interval, never instead of it.

Shapes: B replicates, N runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import fdtri, stdtrit

from analysis.interval import LEVEL, ConfidenceInterval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NUM_REPLICATES = 4000
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviation of one run from what its cell would give on average."""

    std: float
    degrees: int
    source: str
    """What it was estimated from, in words."""

    def half_width(self, variance_factor: float) -> float:
        """Half a 95 % t interval of a sum of runs whose variance is `variance_factor` x std^2."""
        quantile = float(stdtrit(self.degrees, 0.5 + LEVEL / 2))
        return quantile * self.std * float(np.sqrt(variance_factor))

    def interval(self, value: float, variance_factor: float) -> ConfidenceInterval:
        half = self.half_width(variance_factor)
        return ConfidenceInterval(lower=value - half, upper=value + half)

    def std_replicates(self, num: int, generator: np.random.Generator) -> FloatArray:
        """The noise as the data leave it: std x sqrt(degrees / chi-square), so that draws give t intervals."""
        replicates: FloatArray = self.std * np.sqrt(self.degrees / generator.chisquare(self.degrees, size=num))
        return replicates


def pooled(cells: Sequence[FloatArray]) -> Noise | None:
    """Pooled standard deviation over cells of replicates; None where no cell has two."""
    degrees = sum(len(cell) - 1 for cell in cells)
    if degrees == 0:
        return None
    squares = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in cells)
    replicated = sum(len(cell) > 1 for cell in cells)
    return Noise(
        std=float(np.sqrt(squares / degrees)),
        degrees=degrees,
        source=f"seeds, pooled over {replicated} cells of series and budget",
    )


def at_least(noise: Noise | None, floor: float) -> Noise | None:
    """The noise, but never below `floor` (the error of measuring one run, where it is known)."""
    if noise is None or noise.std >= floor:
        return noise
    return Noise(
        std=floor, degrees=noise.degrees, source="the standard error of the evaluation (the seeds differ by less)"
    )


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


def law_noise(seed_noise: Noise | None, misfit: float, misfit_degrees: int) -> Noise | None:
    """The noise for intervals of a law: the seeds', or the scatter of the cell means about the laws where that is
    larger than the seeds explain (F test at 5 %), or all there is where no cell has a second seed.

    `misfit` is the sum over cells of n x (mean of the cell - law)^2, in log loss.
    """
    if misfit_degrees <= 0:
        return seed_noise
    scatter = Noise(
        std=float(np.sqrt(misfit / misfit_degrees)),
        degrees=misfit_degrees,
        source="scatter of the budgets about the laws",
    )
    if seed_noise is None:
        return scatter if misfit_degrees >= 3 else None
    if seed_noise.std == 0:
        return scatter
    ratio = (scatter.std / seed_noise.std) ** 2
    critical = float(fdtri(misfit_degrees, seed_noise.degrees, 0.95))
    return scatter if ratio > critical else seed_noise


def generator(label: str, seed: int = SEED) -> np.random.Generator:
    """A stream of its own for each label, so that one series' draws do not depend on which others are there."""
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


def bootstrap_weights(cell_N: IntArray, num: int, random: np.random.Generator) -> FloatArray:
    """How often each run is drawn when the runs of each cell are resampled with replacement, as [B, N]."""
    weights_BN = np.empty((num, len(cell_N)))
    for cell in np.unique(cell_N):
        members = np.flatnonzero(cell_N == cell)
        share = np.full(len(members), 1 / len(members))
        weights_BN[:, members] = random.multinomial(len(members), share, size=num)
    return weights_BN


def percentile_interval(draws_B: FloatArray) -> ConfidenceInterval:
    """The middle 95 % of the draws; infinite draws count at their end."""
    lower, upper = np.quantile(draws_B, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], method="inverted_cdf")
    return ConfidenceInterval(lower=float(lower), upper=float(upper))
