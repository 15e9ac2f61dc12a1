"""Differences between two series in one measure: at each number of FLOPs that both have, and averaged over them.

A difference is subject minus baseline of the means over seeds. Where several model sizes share one number of FLOPs,
each size is compared with its own and the differences averaged. Its interval is a t interval from the noise of the
replicates (`inference.variance_components`): at one budget of that budget's own runs, and over budgets without taking
the runs of one seed as independent. Where runs of one seed stray together in all series, the two are compared seed by
seed (`inference.seed_effect`), with the seeds that both have; where the noise differs between series it is that of the
two. A table without replicates has no noise of its own: differences in loss then rest on the scatter about the fitted
laws, where that is known, and others have no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.measures import Measure
from analysis.gains.run_noise import differs_between_series, noise_of
from analysis.inference.replicate_noise import Noise
from analysis.inference.variance_components import NoiseModel
from analysis.interval import LEVEL, ConfidenceInterval
from analysis.result import Result
from analysis.tables.runs import BoolArray, Budget, FloatArray, Runs

if TYPE_CHECKING:
    import pandas as pd

NO_NOISE = "there is one seed in each cell of the table, so the noise of a run is unknown"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Subject minus baseline, at one number of FLOPs or averaged over all that both have."""

    budget_flops: float | None
    """None: the mean over numbers of FLOPs, each with the same weight."""
    value: float
    noise: Noise | None
    """Standard error and degrees of freedom of `value`; None where the noise of a run is unknown."""
    base: float
    """The baseline's mean."""

    @cached_property
    def interval(self) -> ConfidenceInterval | None:
        """The t interval, at the level of `noise`: 95 % unless the comparison is read several times."""
        return None if self.noise is None else self.noise.interval(self.value, 1.0)

    @property
    def percent(self) -> float:
        """The difference in percent of the baseline's mean; not-a-number where that is zero."""
        return self.value * self._share

    @property
    def percent_interval(self) -> ConfidenceInterval | None:
        """The interval in percent of the baseline's mean, which is taken as it is."""
        return None if self.interval is None else self.interval.times(self._share)

    @property
    def _share(self) -> float:
        return 100 / self.base if self.base else float("nan")

    def verdict(self, lower_is_better: bool) -> str:
        """'better' or 'worse' where the interval excludes zero, else 'not distinguishable' or 'no interval'."""
        if self.interval is None:
            return "no interval"
        if not self.interval.excludes_zero:
            return "not distinguishable"
        return "better" if (self.value < 0) == lower_is_better else "worse"


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """Subject against baseline in one measure."""

    subject: str
    baseline: str
    measure: Measure
    at_budgets: tuple[Difference, ...]
    """By increasing FLOPs."""
    overall: Difference
    noise: Noise | None
    """Of one run, pooled over the table."""
    paired_noise: Noise | None
    """Of one run without what its seed shares with the other series; None where the two are not compared by seed."""
    num_seeds: int
    """Fewest seeds of a cell that the differences rest on."""
    no_interval_because: str
    warnings: tuple[str, ...]

    @property
    def largest(self) -> Difference:
        """At the largest number of FLOPs that both have."""
        return self.at_budgets[-1]

    def to_frame(self) -> pd.DataFrame:
        """Columns subject, baseline, measure, at (FLOPs; NaN: the mean over them), value, lower, upper, verdict."""
        import pandas as pd

        rows = []
        for one in (*self.at_budgets, self.overall):
            ends = one.interval or (math.nan, math.nan)
            at = math.nan if one.budget_flops is None else one.budget_flops
            verdict = one.verdict(self.measure.lower_is_better)
            rows.append((self.subject, self.baseline, self.measure.words, at, one.value, *ends, verdict))
        columns = ["subject", "baseline", "measure", "at", "value", "lower", "upper", "verdict"]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> str:
        """The mean difference with its interval and verdict, then a line for each number of FLOPs."""
        head = f"{self.subject} minus {self.baseline}, {self.measure.words} ({self.measure.unit})"
        lines = [f"{head}: {self._words(self.overall)} on average"]
        lines += [
            f"  at {formatting.power(one.budget_flops or 0.0)} FLOPs: {self._words(one)}" for one in self.at_budgets
        ]
        lines += [f"  no intervals: {self.no_interval_because}"] if self.no_interval_because else []
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def _words(self, one: Difference) -> str:
        value = formatting.with_interval(one.value, one.interval, sign=True, most=self.measure.decimals + 1)
        return f"{value}, {one.verdict(self.measure.lower_is_better)}"


def compare(
    runs: Runs,
    subject: str,
    baseline: str,
    measure: Measure,
    *,
    law_noise: Noise | None = None,
    level: float = LEVEL,
) -> Comparison:
    """Differences at each number of FLOPs and averaged over them.

    Args:
        runs: The compared runs; the noise is pooled over all their series.
        subject: Label of a series.
        baseline: Label of the series it is compared with.
        measure: What is compared.
        law_noise: Noise of one run in log loss from the scatter about the laws, used for the loss where no cell of the
            table has a second seed.
        level: Of the intervals; above 0.95 where the comparison is read several times (`inference.sequential`).

    Raises:
        FitError: The two share no budget.
    """
    theirs_at = runs.budgets(baseline)
    shared = [budget for budget in runs.budgets(subject) if budget in theirs_at]
    if not shared:
        raise FitError(f"{subject} and {baseline} have no budget in common at which both have a run that is done")
    runs, note = _alike(runs, subject, baseline, measure)
    value_N = runs.number(measure.column) * measure.factor
    model, warnings = noise_of(runs, measure, level=level)
    seeds = None if model is None else model.seeds
    in_logs = model is None and law_noise is not None and measure.column == "loss_nats"
    levels = list(dict.fromkeys(budget.flops for budget in shared))
    both = ((subject, baseline), (baseline, subject))
    weights, bases = [], []
    for flops in levels:
        sizes = [budget for budget in shared if budget.flops == flops]
        ours, theirs = (_weights(runs, *pair, sizes, seeds is not None) for pair in both)
        weights.append(ours - theirs)
        bases.append(float(theirs @ value_N))

    def difference(flops: float | None, weight_N: FloatArray, base: float) -> Difference:
        noise = None if model is None else model.contrast(weight_N)
        if in_logs and law_noise is not None:
            # A relative noise of each run's own loss.
            noise = replace(law_noise.times(float(np.sqrt(((weight_N * value_N) ** 2).sum()))), level=level)
        return Difference(budget_flops=flops, value=float(weight_N @ value_N), noise=noise, base=base)

    return Comparison(
        subject=subject,
        baseline=baseline,
        measure=measure,
        at_budgets=tuple(map(difference, levels, weights, bases)),
        overall=difference(None, np.mean(weights, axis=0), float(np.mean(bases))),
        noise=_pooled(model, law_noise if in_logs else None, float(np.mean(bases))),
        paired_noise=None if seeds is None else seeds.noise,
        num_seeds=min(_num_seeds(runs, *pair, budget, seeds is not None) for pair in both for budget in shared),
        no_interval_because="" if model is not None or in_logs else NO_NOISE,
        warnings=(*note, *warnings),
    )


def _alike(runs: Runs, subject: str, baseline: str, measure: Measure) -> tuple[Runs, tuple[str, ...]]:
    """The runs that tell the noise of a comparison: all, or those of the two series where series differ in noise."""
    if len(runs.labels) == 2 or not differs_between_series(runs, runs.number(measure.column)):
        return runs, ()
    both = f"{formatting.series(subject)} and {formatting.series(baseline)}"
    own = Runs(frame=runs.frame[runs.frame["series"].isin([subject, baseline])])
    return own, (
        f"{measure.words}: the noise differs between series (Bartlett's test at 1 %), so the comparison of {both} rests"
        " on their own runs alone",
    )


def _weights(runs: Runs, series: str, other: str, sizes: list[Budget], paired: bool) -> FloatArray:
    """Weights of the runs in the mean over sizes of the means over seeds, as [N].

    `paired`: over the seeds that the other series has too, where there are some.
    """
    weight_N = np.zeros(len(runs))
    for budget in sizes:
        used_N = _used(runs, series, other, budget, paired)
        weight_N[used_N] = 1 / (used_N.sum() * len(sizes))
    return weight_N


def _used(runs: Runs, series: str, other: str, budget: Budget, paired: bool) -> BoolArray:
    own_N = runs.of(series, budget)
    shared_N = own_N & np.isin(runs.seed, runs.seed[runs.of(other, budget)])
    return shared_N if paired and shared_N.any() else own_N


def _num_seeds(runs: Runs, series: str, other: str, budget: Budget, paired: bool) -> int:
    return int(_used(runs, series, other, budget, paired).sum())


def _pooled(model: NoiseModel | None, law_noise: Noise | None, level: float) -> Noise | None:
    if model is not None:
        return model.pooled
    return None if law_noise is None else law_noise.times(level)
