"""The noise of single runs, estimated from runs that are replicates: what they stray, and what they share.

The value of series f at budget b with seed s is  mean_fb + u_bs + v_fs + e_fbs : u is of the seed at the budget (one
order of data, one set of initial weights), shared by all series; v of the series with that seed, shared over budgets; e
of the run alone. The same components are fitted by `analysis.inference.seed_effect` for the report.

1. std^2 = var(u) + var(v) + var(e): the squares of the residuals about the means of the cells (series x budget), over
   their degrees of freedom, sum of (runs - 1).
2. var(u) from the mean product of the residuals of two series at one budget and seed: its expectation is
   var(u) (1 - 1/n - 1/m + c/(n m)) with n and m seeds in the cells and c in both. var(v) alike from one series and
   seed at two budgets.
3. Negative parts count as zero, and both together as at most std^2. What seeds share counts only where an F test at
   5 % finds it, as in the report, which compares by seed only then.
4. Bartlett's test (1937) at 5 % says whether the noise is the same at every budget; if not, each has its own.

Pure: values in, estimates out. Refuses (None) values without replicates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

_UNEVEN = 0.05
"""Level of the test whether the noise is the same at every budget."""
_FOUND = 0.05
"""Level of the test whether seeds share something."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """One measure of one finished run."""

    series: str
    """Runs of one series and budget are replicates: they differ in their seed alone."""
    budget: str
    seed: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise of one run."""

    std: float
    """About the mean over seeds, pooled over series and budgets."""
    degrees: int
    seed_share: float
    """var(u) / std^2."""
    series_share: float
    """var(v) / (var(v) + var(e))."""
    by_budget: dict[str, tuple[float, int]]
    """Standard deviation and degrees of freedom of each budget, where they differ; else empty."""


class _Residual(NamedTuple):
    run: Value
    value: float
    """Of the run, from the mean of its cell."""
    seeds: frozenset[int]
    """Of the cell."""


def estimate_noise(values: Sequence[Value]) -> Noise | None:
    """Estimate the noise of a run; None where no series has two runs at one budget, or none of them differ.

    Example:
        >>> pairs = [("dense", "small", 3.0, 3.2), ("moe", "small", 2.9, 3.1)]
        >>> noise = estimate_noise([Value(series=name, budget=budget, seed=seed, value=value)
        ...                         for name, budget, *both in pairs for seed, value in enumerate(both)])
        >>> f"{noise.std:.3f} {noise.degrees} {noise.seed_share:.2f}"  # both series move by 0.2 together
        '0.141 2 1.00'
    """
    cells: dict[tuple[str, str], list[Value]] = defaultdict(list)
    for one in values:
        cells[one.series, one.budget].append(one)
    residuals: list[_Residual] = []
    squares: dict[str, float] = defaultdict(float)
    degrees: dict[str, int] = defaultdict(int)
    for (_, budget), runs in cells.items():
        if len(runs) < 2:
            continue
        mean = math.fsum(one.value for one in runs) / len(runs)
        seeds = frozenset(one.seed for one in runs)
        residuals += [_Residual(one, one.value - mean, seeds) for one in runs]
        squares[budget] += math.fsum((one.value - mean) ** 2 for one in runs)
        degrees[budget] += len(runs) - 1
    total = sum(degrees.values())
    variance = sum(squares.values()) / total if total else 0.0
    if variance <= 0:
        return None
    of_seed = _shared(residuals, lambda one: (one.budget, one.seed), lambda one: one.series)
    num_blocks = len({(one.run.budget, one.run.seed) for one in residuals})
    of_seed = min(max(of_seed, 0.0), variance)
    if not _is_found(of_seed, variance, len(residuals) / num_blocks, num_blocks - len(squares), total):
        of_seed = 0.0
    of_series = _shared(residuals, lambda one: (one.series, one.seed), lambda one: one.budget)
    rest = variance - of_seed
    return Noise(
        std=math.sqrt(variance),
        degrees=total,
        seed_share=of_seed / variance,
        series_share=min(max(of_series, 0.0), rest) / rest if rest > 0 else 0.0,
        by_budget={budget: (math.sqrt(square / degrees[budget]), degrees[budget]) for budget, square in squares.items()}
        if _differ([squares[budget] for budget in squares], [degrees[budget] for budget in squares])
        else {},
    )


def _shared(
    residuals: Sequence[_Residual], group: Callable[[Value], tuple[str, int]], member: Callable[[Value], str]
) -> float:
    """Return the variance that runs of one group share: the products of two of its members, over their expectation."""
    groups: dict[tuple[str, int], list[_Residual]] = defaultdict(list)
    for one in residuals:
        groups[group(one.run)].append(one)
    product = expected = 0.0
    for runs in groups.values():
        for one, other in combinations(runs, 2):
            if member(one.run) != member(other.run):
                n, m = len(one.seeds), len(other.seeds)
                product += one.value * other.value
                expected += 1 - 1 / n - 1 / m + len(one.seeds & other.seeds) / (n * m)
    return product / expected if expected > 0 else 0.0


def _is_found(of_seed: float, variance: float, runs_a_seed: float, of_seeds: int, degrees: int) -> bool:
    """Whether the F test of the seeds, (rest + runs x var(u)) / rest, tells what they share from nothing."""
    rest, left = variance - of_seed, degrees - of_seeds
    if of_seeds < 1 or left < 1 or of_seed <= 0:
        return False
    from scipy.special import fdtrc

    return rest <= 0 or float(fdtrc(of_seeds, left, (rest + runs_a_seed * of_seed) / rest)) < _FOUND


def _differ(squares: Sequence[float], degrees: Sequence[int]) -> bool:
    """Whether Bartlett's test tells the variances of the budgets apart."""
    if len(squares) < 2 or not all(square > 0 for square in squares):
        return False
    from scipy.special import chdtrc

    total = sum(degrees)
    pooled = sum(squares) / total
    statistic = total * math.log(pooled) - sum(d * math.log(s / d) for s, d in zip(squares, degrees, strict=True))
    correction = 1 + (sum(1 / d for d in degrees) - 1 / total) / (3 * (len(squares) - 1))
    return float(chdtrc(len(squares) - 1, statistic / correction)) < _UNEVEN
