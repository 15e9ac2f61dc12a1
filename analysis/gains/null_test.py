"""A/A tests: how often the comparison of a report calls a difference between runs that differ in their seeds alone.

Two kinds of tables without a difference are put to the same `compare` as a report's:

1. *Resampled pairs*. From the many seeds of one real series, disjoint sets of seeds are drawn at random and given out
   as families. Seeds are numbered anew in each set, so the families share no real seed: what a seed shares is absent
   by construction, and the rule for it must not mind.
2. *Null sweeps*. The sweep itself trained one family under two names, with the seeds of a real comparison.

A comparison is called where its interval excludes zero. For the sequential rule one table is read at rising numbers of
seeds, as after extensions, and called where any reading calls. Shares come with their binomial standard error;
resampled pairs overlap, so theirs is too small where few seeds are there.

Refuses a series with too few seeds for one pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import FitError
from analysis.gains.differences import Comparison, compare
from analysis.gains.measures import Measure
from analysis.inference.sequential import levels
from analysis.result import Result
from analysis.tables.runs import IntArray, Runs

ONE, OTHER = "a", "b"
EXPECTED = (0.03, 0.07)
"""Where the share called at 95 % should lie."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How often one measure was called at one place."""

    measure: str
    at: str
    """`largest` budget, `mean` over budgets, `verdict` (both on the same side), or `any reading`."""
    pairs: int
    called: int
    sides: tuple[int, int]
    """How often below and above zero."""

    @property
    def share(self) -> float:
        """The share of the pairs that was called."""
        return self.called / self.pairs

    @property
    def standard_error(self) -> float:
        """Binomial, as if no two pairs had a run in common."""
        return float(np.sqrt(max(self.share * (1 - self.share), 0.0) / self.pairs))


@dataclass(frozen=True, kw_only=True)
class NullTest(Result):
    """How often differences were called where there is none."""

    calls: tuple[Calls, ...]

    def to_frame(self) -> pd.DataFrame:
        """Columns measure, at, pairs, called, share, standard_error, below, above."""
        rows = [(one.measure, one.at, one.pairs, one.called, one.share, one.standard_error, *one.sides)
                for one in self.calls]  # fmt: skip
        columns = ["measure", "at", "pairs", "called", "share", "standard_error", "below", "above"]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> str:
        """A line for each measure and place."""
        return "\n".join(
            f"{one.measure}, {one.at}: {one.called} of {one.pairs} called, {100 * one.share:.1f} %"
            f" (+- {100 * one.standard_error:.1f})"
            for one in self.calls
        )


def resampled_pairs(
    runs: Runs,
    measures: Sequence[Measure],
    *,
    series: str | None = None,
    num_seeds: int = 3,
    num_pairs: int = 400,
    num_families: int = 2,
    readings: Sequence[int] = (),
    seed: int = 0,
) -> NullTest:
    """Call rates over families made of disjoint sets of the seeds of one series.

    Args:
        runs: Runs of a table, with many seeds.
        measures: What is compared.
        series: Label of the series; None: the one with the most seeds.
        num_seeds: Of each family.
        num_pairs: How often seeds are drawn.
        num_families: Families in a table, of which the first two are compared; more tell the noise better.
        readings: Rising numbers of seeds: then the table is read at each, by the sequential rule, and `num_seeds` is
            the last of them.
        seed: Of the draws.

    Raises:
        FitError: The series has fewer seeds, at every budget, than the families need.
    """
    label = max(runs.labels, key=lambda one: len(_common_seeds(runs, one))) if series is None else series
    seeds = _common_seeds(runs, label)
    size = readings[-1] if readings else num_seeds
    if len(seeds) < size * num_families:
        raise FitError(
            f"series '{label}' has {len(seeds)} seeds at every budget, and {num_families} families of {size} need"
            f" {size * num_families}: give a table with more seeds of one series, or smaller families"
        )
    random = np.random.default_rng(seed)
    tables = (
        _drawn(runs, label, random.permutation(seeds)[: size * num_families], num_families) for _ in range(num_pairs)
    )
    if readings:
        return sequential_calls(tables, measures, readings)
    return calls_of(((table, ONE, OTHER) for table in tables), measures)


def calls_of(pairs: Iterator[tuple[Runs, str, str]], measures: Sequence[Measure]) -> NullTest:
    """Call rates of the plain rule over tables, each with the two series that are compared."""
    found: dict[tuple[str, str], list[int]] = {}
    for runs, one, other in pairs:
        for measure in measures:
            if runs.has(measure.column):
                compared = compare(runs, one, other, measure)
                for at, side in _sides(compared).items():
                    found.setdefault((measure.column, at), []).append(side)
    return _counted(found)


def sequential_calls(tables: Iterator[Runs], measures: Sequence[Measure], readings: Sequence[int]) -> NullTest:
    """Call rates over whole sequences of readings: called where any reading calls."""
    found: dict[tuple[str, str], list[int]] = {}
    at = levels(readings)
    for runs in tables:
        for measure in measures:
            sides: dict[str, int] = {}
            for count, level in zip(readings, at, strict=True):
                part = Runs(frame=runs.frame[runs.seed < count])
                for place, side in _sides(compare(part, ONE, OTHER, measure, level=level)).items():
                    sides[place] = sides.get(place, 0) or side
            for place, side in sides.items():
                found.setdefault((measure.column, f"{place}, any reading"), []).append(side)
    return _counted(found)


def _counted(found: dict[tuple[str, str], list[int]]) -> NullTest:
    return NullTest(
        calls=tuple(
            Calls(
                measure=measure,
                at=at,
                pairs=len(sides),
                called=sum(side != 0 for side in sides),
                sides=(sides.count(-1), sides.count(1)),
            )
            for (measure, at), sides in found.items()
        )
    )


def _sides(compared: Comparison) -> dict[str, int]:
    """On which side of zero each interval lies; 0 where it holds zero, or there is none."""
    found = {}
    for at, one in (("largest", compared.largest), ("mean", compared.overall)):
        apart = one.interval is not None and one.interval.excludes_zero
        found[at] = int(np.sign(one.value)) if apart else 0
    found["verdict"] = found["largest"] if found["largest"] == found["mean"] else 0
    return found


def _common_seeds(runs: Runs, series: str) -> IntArray:
    """The seeds that a series has at every one of its budgets."""
    cells = [set(runs.seed[runs.of(series, budget)].tolist()) for budget in runs.budgets(series)]
    return np.array(sorted(set.intersection(*cells)), dtype=np.int64)


def _drawn(runs: Runs, series: str, seeds: IntArray, num_families: int) -> Runs:
    """A table of families 'a', 'b', ... from the given seeds, which are numbered from 0 in each family."""
    size = len(seeds) // num_families
    names = [chr(ord(ONE) + at) for at in range(num_families)]
    place = {int(one): (names[at // size], at % size) for at, one in enumerate(seeds)}
    frame = runs.frame[runs.of(series) & np.isin(runs.seed, seeds)]
    labels = [place[int(one)][0] for one in frame["seed"]]
    numbers = [place[int(one)][1] for one in frame["seed"]]
    return Runs(frame=frame.assign(family=labels, series=labels, seed=np.array(numbers, dtype=np.int64)))
