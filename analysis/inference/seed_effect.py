"""What all series of a table share in one seed at one budget, and the noise of comparisons that are free of it.

A seed is one order of the data and one set of initial weights of the parts that all families have, so the runs of one
seed at one budget may stray together. Between two series that have the same seeds this cancels. The model of a run of
series f at budget b with seed s is

    y_fbs = mean_fb + u_bs + v_fs + e_fbs

with independent errors: u of the seed at that budget, shared by all series; v of the series with that seed, shared over
the budgets; and e of the run alone.

1. The variances come from sums of squares by fitting constants (Henderson 1953, method 3): of the seeds at each budget,
   of the series' seeds after these, and of the rest. Missing runs are allowed; in a complete table the sums are those
   of the usual analysis of variance, and a difference has an exact t interval.
2. A contrast of runs has the variance a_u var(u) + a_v var(v) + a_e var(e), which is a sum of mean squares, and their
   degrees of freedom by Satterthwaite 1946. Kenward and Roger's correction is not needed: no weight rests on the
   estimates, since differences use the seeds that both series have.
3. A contrast at one level rests on that level's own noise, where it has `MIN_DEGREES` degrees of freedom: noise that
   doubles from budget to budget, pooled where a test does not find it, gives 80 to 90 % coverage at the largest one.
4. Used by a rule that looks at no difference: always where `ALWAYS` degrees of freedom are left for the difference, for
   then it costs some 6 % of an interval; with fewer, but `MIN_DEGREES`, where an F test at 5 % finds what seeds share.
   Else that stays in the noise. Such a preliminary test moves the coverage a little (Bancroft 1944; Bozivich, Bancroft
   and Hartley 1956): in simulated tables of 2 to 6 series, 1 to 3 budgets and 2 to 8 seeds it is 93 to 96 %. Always
   pairing keeps 95 % but is up to 45 % wider where seeds share nothing; never pairing holds 99 % and is up to three
   times as wide where they do.

Refuses (None) tables in which series share no seeds, or too large for the algebra (checkpoints).
Shapes: N runs, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, fdtri

from analysis.inference.replicate_noise import Noise

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MIN_DEGREES = 2
"""Of freedom that must be left for the difference of two series: with 1 a t interval is 12.7 standard errors wide."""
ALWAYS = 8
"""Of freedom from which on no test is asked: each adds a little to the error rate, the more readings the more."""
PRELIMINARY = 0.05
"""Level of the test whether seeds share something."""
UNEVEN = 0.05
"""Level of the test whether the noise is the same at every level."""
MOST_RUNS = 2000


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """A sum of squares of standardised residuals, and what its expectation holds."""

    square: float
    degrees: int
    of_seeds: float
    """How often var(u) is in its expectation."""
    of_units: float
    """How often var(v) is; var(e) is `degrees` times."""


@dataclass(frozen=True, kw_only=True)
class SeedEffect:
    """The variances of u, v and e in units of each level's noise."""

    seeds: Stratum
    units: Stratum
    rest: Stratum
    level: IntArray = field(repr=False)
    block: IntArray = field(repr=False)
    """Of each run: the seed at its budget."""
    unit: IntArray = field(repr=False)
    """Of each run: the seed of its series."""
    level_std: FloatArray
    """Of a run at each level, without what its seed shares; one number for all where the noise does not differ."""
    own_std: FloatArray
    """As `level_std`, from the level's own runs alone."""
    level_degrees: IntArray
    is_uneven: bool
    source: str

    @property
    def noise(self) -> Noise:
        """Of one run without what its seed shares, pooled over levels, for people."""
        square = (self.level_std**2 * self.level_degrees).sum() / self.level_degrees.sum()
        return Noise(std=float(np.sqrt(square)), degrees=int(self.level_degrees.sum()), source=self.source)

    def contrast(self, weight_N: FloatArray) -> Noise:
        """Standard deviation and degrees of freedom of the sum of `weight_N` x runs."""
        scaled_N = weight_N * self.level_std[self.level]
        of_seeds, of_units = (float((np.bincount(number, scaled_N) ** 2).sum()) for number in (self.block, self.unit))
        of_runs = float((scaled_N**2).sum())
        level = single_level(weight_N, self.level, self.unit, self.level_degrees)
        if level is not None and of_seeds <= 1e-9 * of_runs:
            std = float(self.own_std[level] * np.sqrt((weight_N**2).sum()))
            return Noise(std=std, degrees=int(self.level_degrees[level]), source=self.source)
        found = self._sum(of_seeds, of_units, of_runs)
        if not self.is_uneven:
            return found
        square_L = np.bincount(self.level, scaled_N**2, minlength=len(self.level_std)).astype(np.float64)
        return replace(found, degrees=min(found.degrees, _satterthwaite(square_L, self.level_degrees)))

    def at_least(self, floor: float) -> SeedEffect:
        """The same, but no level below `floor`: the error of measuring one run, where that is known."""
        return replace(self, level_std=np.maximum(self.level_std, floor), own_std=np.maximum(self.own_std, floor))

    def _sum(self, of_seeds: float, of_units: float, of_runs: float) -> Noise:
        """The variance as a sum of mean squares: the expectations of the strata solved from the last to the first."""
        seeds, units, rest = self.seeds, self.units, self.rest
        from_seeds, from_units, last = of_seeds / seeds.of_seeds, 0.0, units
        from_last = (of_runs - from_seeds * seeds.degrees) / units.degrees
        if rest.degrees > 0:
            last = rest
            from_units = (of_units - from_seeds * seeds.of_units) / units.of_units
            from_last = (of_runs - from_seeds * seeds.degrees - from_units * units.degrees) / rest.degrees
        parts = np.array([from_seeds * seeds.square, from_units * units.square, from_last * last.square])
        degrees = np.array([seeds.degrees, units.degrees, last.degrees])
        if parts.sum() <= 0:
            # Too few runs for the three variances to be told apart: then each run is on its own.
            square, left = units.square + rest.square, units.degrees + rest.degrees
            return Noise(std=float(np.sqrt(of_runs * square / left)), degrees=left, source=self.source)
        return Noise(std=float(np.sqrt(parts.sum())), degrees=_satterthwaite(parts, degrees), source=self.source)


def seed_effect(
    residual_N: FloatArray, *, cell_N: IntArray, level_N: IntArray, block_N: IntArray, unit_N: IntArray
) -> SeedEffect | None:
    """What seeds share over the series of a budget, where the rule of this module uses it; else None.

    Args:
        residual_N: The measure of each run about the mean of its cell.
        cell_N: Runs with one number are replicates of one another (a series at a budget).
        level_N: The level (number of FLOPs) of each run, numbered from 0.
        block_N: Runs with one number have the same seed and budget, in any series.
        unit_N: Runs with one number have the same seed and series, at any budget.
    """
    if len(residual_N) > MOST_RUNS or (np.bincount(block_N) < 2).all():
        return None
    of_block = _about_cells(block_N, cell_N)
    basis = _basis(of_block)
    of_unit = _about_cells(unit_N, cell_N)
    beyond = _basis(of_unit - basis @ (basis.T @ of_unit))
    left_N = residual_N - basis @ (basis.T @ residual_N)
    taken_N = (basis**2).sum(axis=1)
    cells_L = np.bincount(level_N[np.unique(cell_N, return_index=True)[1]])
    degrees_L = np.rint(np.bincount(level_N) - cells_L - np.bincount(level_N, taken_N)).astype(np.int64)
    rest_degrees = int(degrees_L.sum()) - beyond.shape[1]
    separable = rest_degrees > 0 or np.bincount(unit_N).max() == 1
    if basis.shape[1] == 0 or beyond.shape[1] < MIN_DEGREES or not separable:
        return None
    std_L, is_uneven = _level_std(np.bincount(level_N, left_N**2).astype(np.float64), degrees_L)
    if not (std_L > 0).all() or (is_uneven and degrees_L.min() < MIN_DEGREES):
        return None
    standard_N = residual_N / std_L[level_N]
    seeds, units = (float(((one.T @ standard_N) ** 2).sum()) for one in (basis, beyond))
    rest = max(float((standard_N**2).sum()) - seeds - units, 0.0)
    ratio = (seeds / basis.shape[1]) / ((units + rest) / degrees_L.sum())
    # What a series' seed shares over levels makes these observations fewer: their share by Satterthwaite.
    total = int(degrees_L.sum())
    parts = np.array([units, rest]) / total
    share = min(_satterthwaite(parts, np.array([beyond.shape[1], rest_degrees])) / total, 1.0)
    is_found = ratio > float(fdtri(share * basis.shape[1], share * total, 1 - PRELIMINARY))
    if not is_found and beyond.shape[1] < ALWAYS:
        return None
    return SeedEffect(
        seeds=Stratum(
            square=seeds,
            degrees=basis.shape[1],
            of_seeds=float(((basis.T @ of_block) ** 2).sum()),
            of_units=float(((basis.T @ of_unit) ** 2).sum()),
        ),
        units=Stratum(
            square=units, degrees=beyond.shape[1], of_seeds=0.0, of_units=float(((beyond.T @ of_unit) ** 2).sum())
        ),
        rest=Stratum(square=rest, degrees=rest_degrees, of_seeds=0.0, of_units=0.0),
        level=level_N,
        block=block_N,
        unit=unit_N,
        level_std=std_L,
        own_std=own_std(np.bincount(level_N, left_N**2).astype(np.float64), degrees_L),
        level_degrees=degrees_L,
        is_uneven=is_uneven,
        source="seeds, without what all series of a seed and budget share"
        + (", at each budget on its own (the noise differs between budgets)" if is_uneven else ""),
    )


def single_level(weight_N: FloatArray, level_N: IntArray, unit_N: IntArray, degrees_L: IntArray) -> int | None:
    """The one level of a contrast of independent runs there, if it has noise of its own; else None."""
    own_N = weight_N != 0
    touched = np.unique(level_N[own_N])
    if len(touched) != 1 or np.bincount(unit_N[own_N]).max() > 1 or degrees_L[touched[0]] < MIN_DEGREES:
        return None
    return int(touched[0])


def own_std(square_L: FloatArray, degrees_L: IntArray) -> FloatArray:
    """The standard deviation of a run at each level from its own runs; 0 where it has no degree of freedom."""
    return np.sqrt(np.divide(square_L, degrees_L, out=np.zeros(len(square_L)), where=degrees_L > 0))


def _about_cells(number_N: IntArray, cell_N: IntArray) -> FloatArray:
    """Indicator columns of a grouping, each about its means over the cells, as [N, groups]."""
    column_NG = (number_N[:, None] == np.arange(number_N.max() + 1)).astype(np.float64)
    mean_CG = np.zeros((int(cell_N.max()) + 1, column_NG.shape[1]))
    np.add.at(mean_CG, cell_N, column_NG)
    mean_CG /= np.maximum(np.bincount(cell_N), 1)[:, None]
    return np.asarray(column_NG - mean_CG[cell_N])


def _basis(column_NG: FloatArray) -> FloatArray:
    """Orthonormal columns that span the given ones, as [N, rank]."""
    left, size, _ = np.linalg.svd(column_NG, full_matrices=False)
    return np.asarray(left[:, size > 1e-9])


def _level_std(square_L: FloatArray, degrees_L: IntArray) -> tuple[FloatArray, bool]:
    """The standard deviation of a run at each level; and whether they differ, by Bartlett's test, so are not pooled."""
    uneven = (degrees_L > 0).all() and bartlett(square_L, degrees_L) < UNEVEN
    pooled = np.full(len(square_L), float(square_L.sum() / max(int(degrees_L.sum()), 1)))
    return np.sqrt(square_L / degrees_L if uneven else pooled), bool(uneven)


def bartlett(square_G: FloatArray, degrees_G: IntArray) -> float:
    """The p value of Bartlett's test (1937) that all groups have one variance; 1 where that cannot be tested."""
    if len(degrees_G) < 2 or not (square_G > 0).all():
        return 1.0
    total = int(degrees_G.sum())
    pooled = square_G.sum() / total
    statistic = total * np.log(pooled) - float((degrees_G * np.log(square_G / degrees_G)).sum())
    correction = 1 + (float((1 / degrees_G).sum()) - 1 / total) / (3 * (len(degrees_G) - 1))
    return float(chdtrc(len(degrees_G) - 1, statistic / correction))


def _satterthwaite(part_K: FloatArray, degrees_K: IntArray) -> float:
    """Degrees of freedom of a sum of variances, each with its own; at least 1."""
    own = (part_K != 0) & (degrees_K > 0)
    doubt = float((part_K[own] ** 2 / degrees_K[own]).sum())
    return max(float(part_K.sum()) ** 2 / doubt, 1.0) if doubt > 0 else float(degrees_K.sum())
