"""The noise of single runs when runs may share a part of it: which runs, and how it varies with scale.

Decides three things from the replicates of a table, and reports each in words:

1. A contrast at one level (budget, size) has that level's own variance, if it has 2 degrees of freedom or more. For
   contrasts over several: is the noise the same at every level? Bartlett's test at 5 %. If not, each level has its own
   variance, and the contrast the degrees of freedom of Welch and Satterthwaite.
2. Do runs at several levels belong together (one seed used at every budget; the checkpoints of one run)? Then what
   they share does not average out over levels. The variance has two components, estimated by a one-way analysis of
   variance with the units (seeds, runs) as groups: MS_between has the expectation n tau^2 + omega^2, MS_within
   omega^2, where a unit has n runs, shares an error of variance tau^2, and each run has its own of omega^2.
3. With how many degrees of freedom a contrast of runs is known: var = a MS_between + c MS_within has
   var^2 / ((a MS_between)^2 / df_between + (c MS_within)^2 / df_within) of them.

For a mean over all levels only MS_between counts: average each seed over the levels, and take these as observations.

Sources: Bartlett 1937; Satterthwaite 1946; Welch 1947; Searle, Casella and McCulloch 1992, Variance Components,
chapter 3. Shapes: B replicates, N runs, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.inference.replicate_noise import Noise
from analysis.inference.seed_effect import SeedEffect, bartlett, own_std, seed_effect, single_level
from analysis.interval import LEVEL

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SIGNIFICANCE = 0.05
"""Of the test whether the noise is the same at every level."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """Mean squares of the standardised residuals between and within units (seeds, or runs with checkpoints)."""

    between: float
    between_degrees: int
    within: float
    within_degrees: int


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """The noise of every run of a table, with what runs share."""

    std: float
    """Pooled over all levels: of one run from the mean of its cell."""
    degrees: int
    source: str
    level: IntArray = field(repr=False)
    unit: IntArray = field(repr=False)
    level_std: FloatArray | None
    """Where the noise differs by level: its standard deviation at each; else None."""
    own_std: FloatArray
    """The standard deviation at each level from its own runs; 0 where it has no replicates."""
    level_degrees: IntArray = field(repr=False)
    components: Components | None
    """Where units have runs at several levels; else None: every run is on its own."""
    seeds: SeedEffect | None = None
    """Where all series of a seed share something (`inference.seed_effect`): contrasts are then free of it."""
    interval_level: float = LEVEL
    """Of the intervals that contrasts give."""

    @property
    def uneven_std(self) -> FloatArray | None:
        """The standard deviation of a run at each level, where it differs by level."""
        if self.seeds is not None:
            return self.seeds.level_std if self.seeds.is_uneven else None
        return self.level_std

    @property
    def pooled(self) -> Noise:
        """One standard deviation for the whole table, for people."""
        return Noise(std=self.std, degrees=self.degrees, source=self.source, level=self.interval_level)

    def contrast(self, weights_N: FloatArray) -> Noise:
        """Standard deviation and degrees of freedom of the sum of `weights_N` x runs."""
        found = self._contrast(weights_N) if self.seeds is None else self.seeds.contrast(weights_N)
        return replace(found, level=self.interval_level)

    def _contrast(self, weights_N: FloatArray) -> Noise:
        level = single_level(weights_N, self.level, self.unit, self.level_degrees)
        if level is not None:
            std = float(self.own_std[level] * np.sqrt((weights_N**2).sum()))
            return Noise(std=std, degrees=int(self.level_degrees[level]), source=self.source)
        touched = np.unique(self.level[weights_N != 0])
        if self.components is None or (self.level_std is not None and len(touched) == 1):
            return self._of_single_runs(weights_N)
        parts = self.components
        scaled_N = weights_N * self._scale()
        # var = tau^2 sum_units (sum w s)^2 + omega^2 sum (w s)^2 with tau^2 = (MS_between - MS_within) / n.
        sums_U = np.bincount(self.unit, scaled_N)
        between = float((sums_U**2 / np.maximum(np.bincount(self.unit), 1)).sum())
        within = max(float((scaled_N**2).sum()) - between, 0.0)
        terms = [(between * parts.between, parts.between_degrees), (within * parts.within, parts.within_degrees)]
        found = _satterthwaite(terms, self.source)
        if self.level_std is None:
            return found
        return replace(found, degrees=min(found.degrees, self._of_single_runs(weights_N).degrees))

    def shocks(self, num: int, chosen: npt.NDArray[np.bool_], random: np.random.Generator) -> FloatArray:
        """Noise drawn for some runs, as [B, N chosen]; its variance is the estimate, whose doubt the caller adds."""
        size = int(chosen.sum())
        if self.components is None:
            shared, own = 0.0, 1.0
        else:
            parts = self.components
            shared = max((parts.between - parts.within) / float(np.bincount(self.unit)[self.unit].mean()), 0.0)
            total = parts.between * parts.between_degrees + parts.within * parts.within_degrees
            own = parts.within if shared > 0 else total / (parts.between_degrees + parts.within_degrees)
        units, unit_N = np.unique(self.unit[chosen], return_inverse=True)
        of_units = np.sqrt(shared) * random.standard_normal((num, len(units)))
        of_runs = np.sqrt(own) * random.standard_normal((num, size))
        return np.asarray((of_units[:, unit_N] + of_runs) * self._scale()[chosen])

    @property
    def own(self) -> Noise:
        """Of what a run shares with no other, relative to its level where the noise differs by level, for people."""
        if self.components is None:
            return self.pooled
        scale = self.std if self.level_std is None else float(np.sqrt((self._scale() ** 2).mean()))
        std = scale * float(np.sqrt(self.components.within))
        return Noise(std=std, degrees=self.components.within_degrees, source=self.source)

    def at_least(self, floor: float) -> NoiseModel:
        """The same, but no level below `floor`: the error of measuring one run, where that is known."""
        level = None if self.level_std is None else np.maximum(self.level_std, floor)
        own = np.maximum(self.own_std, floor)
        seeds = None if self.seeds is None else self.seeds.at_least(floor)
        if self.std >= floor:
            return replace(self, level_std=level, own_std=own, seeds=seeds)
        words = "the standard error of the evaluation (the seeds differ by less)"
        return replace(self, std=floor, source=words, level_std=level, own_std=own, seeds=seeds)

    def _scale(self) -> FloatArray:
        if self.level_std is None:
            return np.full(len(self.level), self.std)
        return self.level_std[self.level]

    def _of_single_runs(self, weights_N: FloatArray) -> Noise:
        if self.level_std is None:
            return Noise(std=self.std * float(np.sqrt((weights_N**2).sum())), degrees=self.degrees, source=self.source)
        squares_L = np.bincount(self.level, weights_N**2, minlength=len(self.level_std))
        terms = [
            (float(square * std**2), int(degrees))
            for square, std, degrees in zip(squares_L, self.level_std, self.level_degrees, strict=True)
            if square > 0
        ]
        return _satterthwaite(terms, self.source)


def estimate(
    value_N: FloatArray,
    *,
    cell_N: IntArray,
    level_N: IntArray,
    unit_N: IntArray,
    series_N: IntArray,
    block_N: IntArray | None = None,
) -> NoiseModel | None:
    """The noise of the runs about the means of their cells (series x level).

    Args:
        value_N: The measure of each run; logarithms for relative noise.
        cell_N: Runs with one number are replicates of one another.
        level_N: The level (budget, size) of each run, numbered from 0.
        unit_N: Runs with one number share a part of their noise: one seed, or one run with checkpoints, of a series.
        series_N: The series of each run.
        block_N: Runs with one number have the same seed and budget, in any series; None: what series share by their
            seeds stays in the noise.

    Returns:
        None where no cell has two runs, so that nothing is known.
    """
    counts = np.bincount(cell_N)
    residual_N = value_N - (np.bincount(cell_N, value_N) / np.maximum(counts, 1))[cell_N]
    degrees = int(np.maximum(counts - 1, 0).sum())
    if degrees == 0:
        return None
    std = float(np.sqrt((residual_N**2).sum() / degrees))
    num_levels = int(level_N.max()) + 1
    cells_L = np.array([len(np.unique(cell_N[level_N == level])) for level in range(num_levels)])
    degrees_L = np.bincount(level_N, minlength=num_levels) - cells_L
    squares_L = np.asarray(np.bincount(level_N, residual_N**2, minlength=num_levels), dtype=np.float64)
    level_std_L = None
    # A level without replicates has no variance of its own: then the pooled one is all there is.
    if (degrees_L > 0).all() and bartlett(squares_L, degrees_L) < SIGNIFICANCE:
        level_std_L = np.sqrt(squares_L / degrees_L)
    scale_N = np.full(len(residual_N), std) if level_std_L is None else level_std_L[level_N]
    standard_N = np.divide(residual_N, scale_N, out=np.zeros_like(residual_N), where=scale_N > 0)
    replicated = int((counts > 1).sum())
    components = _components(standard_N, degrees, unit_N, series_N)
    return NoiseModel(
        std=std,
        degrees=degrees,
        source=_words(replicated, level_std_L is not None, components is not None),
        level=level_N,
        unit=unit_N,
        level_std=level_std_L,
        own_std=own_std(squares_L, degrees_L),
        level_degrees=degrees_L,
        components=components,
        seeds=None
        if block_N is None
        else seed_effect(residual_N, cell_N=cell_N, level_N=level_N, block_N=block_N, unit_N=unit_N),
    )


def of_scatter(std: float, degrees: int, num: int, source: str) -> NoiseModel:
    """Noise that is one number for `num` runs, each on its own."""
    none = np.zeros(num, dtype=np.int64)
    return NoiseModel(
        std=std,
        degrees=degrees,
        source=source,
        level=none,
        unit=np.arange(num, dtype=np.int64),
        level_std=None,
        own_std=np.zeros(1),
        level_degrees=np.zeros(1, dtype=np.int64),  # no level has replicates of its own
        components=None,
    )


def of_units(residual_N: FloatArray, num_parameters: int, unit_N: IntArray, source: str) -> NoiseModel | None:
    """The noise of units with several rows each (runs with checkpoints) from residuals about fitted laws.

    The laws' parameters are charged to the units: G units leave G - P degrees of freedom between them. None where that
    is less than 2.
    """
    counts_U = np.bincount(unit_N)
    between_degrees, within_degrees = len(counts_U) - num_parameters, len(unit_N) - len(counts_U)
    if between_degrees < 2:
        return None
    square = float((counts_U * (np.bincount(unit_N, residual_N) / counts_U) ** 2).sum())
    found = of_scatter(1.0, between_degrees, len(unit_N), source)
    if within_degrees < 1:
        return replace(found, std=float(np.sqrt(square / between_degrees)))
    rest = max(float((residual_N**2).sum()) - square, 0.0)
    parts = Components(
        between=square / between_degrees,
        between_degrees=between_degrees,
        within=rest / within_degrees,
        within_degrees=within_degrees,
    )
    # The rows' own scale: the components are then relative to it.
    scale = float(np.sqrt((square + rest) / (between_degrees + within_degrees)))
    if scale == 0:
        return replace(found, std=0.0)
    return replace(
        found,
        std=scale,
        unit=unit_N,
        components=replace(parts, between=parts.between / scale**2, within=parts.within / scale**2),
    )


def _words(replicated: int, by_level: bool, shared: bool) -> str:
    how = "seeds, at each budget on its own (the noise differs between budgets)" if by_level else "seeds, pooled"
    what = f" over {formatting.counted(replicated, 'cell of series and budget')}"
    return f"{how}{what}" + ("; what a seed's runs share is kept apart" if shared else "")


def _components(standard_N: FloatArray, degrees: int, unit_N: IntArray, series_N: IntArray) -> Components | None:
    """None where no unit has two runs, or where too few units are left to compare."""
    counts_U = np.bincount(unit_N)
    repeated = counts_U > 1
    if not repeated.any():
        return None
    series_U = np.zeros(len(counts_U), dtype=np.int64)
    series_U[unit_N] = series_N
    between_degrees = int(repeated.sum()) - len(np.unique(series_U[repeated]))
    within_degrees = degrees - between_degrees
    if between_degrees < 1 or within_degrees < 1:
        return None
    means_U = np.bincount(unit_N, standard_N) / np.maximum(counts_U, 1)
    between = float((counts_U * means_U**2)[repeated].sum())
    within = max(float((standard_N**2).sum()) - between, 0.0)  # rounding, where a seed errs by as much at every level
    return Components(
        between=between / between_degrees,
        between_degrees=between_degrees,
        within=within / within_degrees,
        within_degrees=within_degrees,
    )


def _satterthwaite(terms: list[tuple[float, int]], source: str) -> Noise:
    """The standard deviation of a sum of variances, each with its degrees of freedom."""
    variance = sum(term for term, _ in terms)
    doubt = sum(term**2 / degrees for term, degrees in terms if term > 0)
    degrees = variance**2 / doubt if doubt > 0 else float(sum(degrees for _, degrees in terms))
    return Noise(std=float(np.sqrt(variance)), degrees=max(degrees, 1.0), source=source)
