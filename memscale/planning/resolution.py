"""What a plan can tell: for each measure and pair of series the smallest difference that it would see.

With the noise of single runs (`memscale.config.noise`) and the seeds and budgets of the plan:

1. A difference of two series at one budget has, over the n seeds that both have there, the variance
   (sigma_a^2 + sigma_b^2) / n. sigma is without what all series of a seed share, for the report compares by seed.
2. Averaged over B budgets, the part r of each variance that a series' runs of one seed share over budgets
   (`series_share`) does not average out:  var = sum over both series of
   (r (sum sigma_b)^2 + (1 - r) sum sigma_b^2) / (n B^2).
3. The report estimates the noise from the same runs (`analysis.inference.seed_effect`), a difference at one budget from
   that budget's runs: of S series with n seeds it has S (n - 1) degrees of freedom, or (S - 1)(n - 1) where seeds share
   something; in the mean over budgets too. With less than 2 at one budget, all budgets count, by Satterthwaite 1946.
4. The smallest difference is the one that a two-sided t interval at `LEVEL` excludes zero of with 80 % power:
   delta = lambda s, with P(T'(d, lambda) > t) = 0.8, T' noncentral t (Cohen 1988, chapter 2). With many degrees of
   freedom lambda is 1.96 + 0.84, which is the 16 in Lehr's rule n = 16 sigma^2 / delta^2 (Lehr 1992).

Pure, and without files. Nothing can be said with one seed, or of a measure whose noise is not known: such rows are left
out, and `Resolution.missing` says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from memscale.config.noise import NoiseRow
from memscale.planning.comparison import Design, Measure, pairs, shared_seeds

POWER = 0.8
LEVEL = 0.96
"""Of the intervals when the report is first read: 1 % of error is kept for readings after an extension by seeds
(`analysis.inference.sequential`), so that all readings together hold 95 %."""
MIN_DEGREES = 2
"""Of freedom that a budget must have for its own noise to be taken."""
LARGEST, MEAN = "largest", "mean"


@dataclass(frozen=True, kw_only=True)
class ResolutionRow:
    """The smallest difference between two series that a plan would see in one measure."""

    measure: str
    """The measure's column in the results."""
    subject: str
    baseline: str
    at: str
    """`largest` (budget that both have) or `mean` (over the budgets that both have)."""
    smallest_difference: float
    """In `unit`, with 80 % power."""
    unit: str
    noise_std: float
    """Of one run, in `unit`: the larger one of the pair at the largest budget, with what a seed shares."""
    source: str
    """`measured` or `assumed`."""
    rests_on: str
    num_seeds: int
    """That both have."""
    degrees: float
    """Degrees of freedom that the report will have."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a plan can tell, and of what nothing can be said."""

    rows: tuple[ResolutionRow, ...]
    missing: tuple[str, ...]


def resolution(design: Design, measures: Sequence[Measure], noise: Sequence[NoiseRow]) -> Resolution:
    """State what a design can tell.

    Args:
        design: Series, budgets and seeds.
        measures: What is compared.
        noise: The noise of single runs, in each row's own unit. Of rows of one measure, the first with the budget's
            name counts, else the first for all budgets; a row for a series alone before one for all.

    Example:
        >>> from memscale.planning.comparison import LOSS
        >>> cells = {name: {"small": frozenset(range(3)), "large": frozenset(range(3))} for name in ("dense", "moe")}
        >>> names = {name: name for name in cells}
        >>> design = Design(seeds=cells, families=names, names=names)
        >>> noise = [NoiseRow(measure="loss_nats", std=0.03, basis="assumed", origin="a guess")]
        >>> [(row.at, round(row.smallest_difference, 3)) for row in resolution(design, [LOSS], noise).rows]
        [('largest', 0.098), ('mean', 0.07)]
    """
    rows: list[ResolutionRow] = []
    degrees = _Degrees(design)
    missing: dict[str, None] = {}
    for measure in measures:
        table = _Table(measure, noise)
        if not table.rows:
            missing[f"{measure.words}: its noise is not known here; sweeps/noise/ has no row for {measure.column}"] = (
                None
            )
            continue
        for subject, baseline in pairs(design):
            shared = shared_seeds(design, subject, baseline)
            if not shared:
                continue
            if min(len(seeds) for seeds in shared.values()) < 2:
                missing[f"{measure.words}: one seed tells nothing of the noise; the plan needs at least two"] = None
                continue
            for at in (LARGEST, MEAN):
                rows.append(_row(design, degrees, table, (subject, baseline), shared, at))
    return Resolution(rows=tuple(rows), missing=tuple(missing))


class _Table:
    """The noise of one measure, by series and budget, in the measure's unit."""

    def __init__(self, measure: Measure, noise: Sequence[NoiseRow]) -> None:
        self.measure = measure
        self.rows = [row for row in noise if row.measure == measure.column]

    def of(self, design: Design, series: str, budget: str) -> NoiseRow:
        """Return the row that fits best: the budget's own before one for all, a series' own before one for all."""
        names = (series, design.names[series])
        fitting = [row for row in self.rows if row.series in (*names, "") and row.budget in (budget, "")]
        assert fitting or self.rows
        return max(fitting or self.rows[:1], key=lambda row: (row.budget != "", row.series != ""))

    def own(self, row: NoiseRow) -> float:
        """The standard deviation of a run without what all series of its seed share."""
        return self.measure.factor * row.std * math.sqrt(1 - row.seed_share)


def _row(
    design: Design,
    degrees_of: _Degrees,
    table: _Table,
    pair: tuple[str, str],
    shared: Mapping[str, frozenset[int]],
    at: str,
) -> ResolutionRow:
    budgets = [list(shared)[-1]] if at == LARGEST else list(shared)
    rows = {(series, budget): table.of(design, series, budget) for series in pair for budget in budgets}
    num_seeds = min(len(shared[budget]) for budget in budgets)
    variance = 0.0
    for series in pair:
        stds = [table.own(rows[series, budget]) for budget in budgets]
        together = max(rows[series, budget].series_share for budget in budgets)
        squares = sum(std**2 / len(shared[budget]) for std, budget in zip(stds, budgets, strict=True))
        variance += (together * sum(stds) ** 2 / num_seeds + (1 - together) * squares) / len(budgets) ** 2
    degrees = degrees_of.of(rows.values(), budgets, at)
    widest = max((rows[series, budgets[-1]] for series in pair), key=lambda row: row.std)
    return ResolutionRow(
        measure=table.measure.column,
        subject=pair[0],
        baseline=pair[1],
        at=at,
        smallest_difference=noncentrality(degrees) * math.sqrt(variance),
        unit=table.measure.unit,
        noise_std=table.measure.factor * widest.std,
        source=widest.basis,
        rests_on=widest.origin,
        num_seeds=num_seeds,
        degrees=degrees,
    )


class _Degrees:
    """The degrees of freedom with which the report will know the standard errors of differences."""

    def __init__(self, design: Design) -> None:
        self._seeds = design.seeds
        self._num_budgets = len({budget for at in design.seeds.values() for budget in at})
        self._known: dict[tuple[tuple[str, ...], bool], int] = {}

    def of(self, rows: Iterable[NoiseRow], budgets: Sequence[str], at: str) -> float:
        """Return those of a difference at `budgets`, whose noise is that of `rows`."""
        rows, num = list(rows), self._num_budgets
        of_seeds = self._between(tuple(budgets), paired=any(row.seed_share > 0 for row in rows))
        if at == MEAN or of_seeds >= MIN_DEGREES or any(row.budget for row in rows) or num == 1:
            return float(of_seeds)
        # With the same noise at B budgets: tau^2 + omega^2 = MS_between / B + (1 - 1/B) MS_within.
        shared = max(row.series_share for row in rows)
        between, within = ((1 - shared) + num * shared) / num, (1 - 1 / num) * (1 - shared)
        return 1.0 / (between**2 / of_seeds + within**2 / (of_seeds * (num - 1)))

    def _between(self, budgets: tuple[str, ...], *, paired: bool) -> int:
        """Return the degrees of freedom between the seeds of all series that have one of `budgets`."""
        if (budgets, paired) not in self._known:
            found = ([len(at[budget]) for budget in budgets if budget in at] for at in self._seeds.values())
            counts = [max(here) for here in found if here]
            degrees = sum(counts) - len(counts) - (max(counts) - 1 if paired else 0)
            self._known[budgets, paired] = max(degrees, 1)
        return self._known[budgets, paired]


@lru_cache(maxsize=4096)
def noncentrality(degrees: float) -> float:
    """Return how many standard errors a difference must be, to be seen with 80 % power by a t interval at `LEVEL`.

    The tail on the other side, less than 1e-5, is left out.
    """
    from scipy.special import nctdtr, stdtrit

    bound = float(stdtrit(degrees, 0.5 + LEVEL / 2))
    low, high = 0.0, 4 * bound + 10
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        seen = 1 - nctdtr(degrees, middle, bound)
        low, high = (low, middle) if seen >= POWER else (middle, high)
    return high
