"""What one series gains over another at equal compute: differences per budget and overall, and compute multipliers.

A difference is subject minus baseline of the means over seeds, with a t interval from the pooled noise of the seeds.
Where several model sizes share one number of FLOPs, each size is compared with its own and the differences averaged.
The compute multiplier is by how much more compute the baseline needs for the same loss, read off the fitted laws at
the loss that the worse of the two reaches at the end of the common range: the better one gets there earlier, inside
the range, so nothing is extrapolated upwards. Refused, with the reason, where a slope is not significantly above zero,
or where the better one's compute lies below its smallest run by more than `MAX_EXTRAPOLATION`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.scaling_curves import Curves, SeriesCurve
from analysis.inference.replicate_noise import Noise, at_least, percentile_interval, pooled, uneven
from analysis.interval import ConfidenceInterval
from analysis.tables.runs import Runs

FloatArray = npt.NDArray[np.float64]

MAX_EXTRAPOLATION = 2.0
"""How far outside the measured range a multiplier may be read, as a factor of compute."""
SUBJECTS = ("memory_plus", "memory", "pkm", "peer", "moe")
BASELINES = ("moe", "dense")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing that is compared."""

    column: str
    words: str
    unit: str
    factor: float = 1.0
    """From the table's unit to the one shown (shares to points: 100)."""
    decimals: int = 3
    """Most decimals shown to people."""
    lower_is_better: bool = True
    stderr_column: str | None = None
    """Standard error of measuring one run, where the table has it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Subject minus baseline, at one number of FLOPs or averaged over all that both have."""

    budget_flops: float | None
    """None: the mean over numbers of FLOPs, each with the same weight."""
    value: float
    interval: ConfidenceInterval | None
    percent: float
    """Of the baseline's mean."""
    percent_interval: ConfidenceInterval | None

    def verdict(self, lower_is_better: bool) -> str:
        """'better' or 'worse' where the interval excludes zero, else 'not distinguishable' or 'no interval'."""
        if self.interval is None:
            return "no interval"
        if not self.interval.excludes_zero:
            return "not distinguishable"
        return "better" if (self.value < 0) == lower_is_better else "worse"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Subject against baseline in one measure."""

    subject: str
    baseline: str
    measure: Measure
    at_budgets: tuple[Difference, ...]
    overall: Difference
    noise: Noise | None
    no_interval_because: str
    warnings: tuple[str, ...]

    @property
    def largest(self) -> Difference:
        return self.at_budgets[-1]


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """How many times the baseline's compute (or seconds) the subject's is worth."""

    subject: str
    baseline: str
    axis: str
    at: float
    """End of the common range, FLOPs or seconds."""
    value: float | None
    interval: ConfidenceInterval | None
    refusal: str
    """Why there is no value; '' where there is one."""
    note: str


@dataclass(frozen=True, kw_only=True)
class LawDifference:
    """Subject minus baseline in nats, read off the laws at one x that both ranges hold."""

    subject: str
    baseline: str
    axis: str
    at: float
    value: float
    interval: ConfidenceInterval | None


def pairs(families: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The families to compare, the pair that decides the headline first: (subject, baseline)."""
    subject = next((family for family in SUBJECTS if family in families), None)
    if subject is None:
        return ()
    return tuple((subject, baseline) for baseline in BASELINES if baseline in families and baseline != subject)


RECALLS = (
    ("score_facts_recall_acc", "recall"),
    ("score_facts_recall_exact_match", "recall, exact match"),
    ("score_facts_recall_statement_acc", "recall, asked as a statement"),
)


def measures(runs: Runs) -> tuple[Measure, ...]:
    """What the table lets us compare; the loss of the mixture first."""
    found = [Measure(column="loss_nats", words="loss", unit="nats per token")]
    for column, words in RECALLS:
        if runs.has(column):
            error = f"{column}_stderr" if runs.has(f"{column}_stderr") else None
            found.append(
                Measure(
                    column=column,
                    words=words,
                    unit="points",
                    factor=100.0,
                    decimals=1,
                    lower_is_better=False,
                    stderr_column=error,
                )
            )
    if runs.has("score_facts_nll_nats"):
        found.append(Measure(column="score_facts_nll_nats", words="loss of the answers", unit="nats per answer"))
    sources = [column for column in loss_columns(runs, "loss_nats_") if runs.has(column)]
    if len(sources) > 1:
        found += [
            Measure(column=column, words=f"loss on {column.removeprefix('loss_nats_')}", unit="nats per token")
            for column in sources
        ]
    return tuple(found)


def loss_columns(runs: Runs, prefix: str) -> list[str]:
    """Columns of the losses by source, in order of their names; standard errors are none."""
    return sorted(name for name in runs.numbers if name.startswith(prefix) and not name.endswith("_stderr"))


def noise_of(runs: Runs, measure: Measure) -> tuple[Noise | None, tuple[str, ...]]:
    """The noise of one run, pooled over the seeds of every cell, in the measure's unit; and what to warn of."""
    values_N, cells = runs.number(measure.column) * measure.factor, runs.cells()
    replicates = [values_N[runs.of(*cell)] for cell in cells]
    worst = uneven(replicates)
    warnings = []
    if worst is not None:
        series, budget = cells[worst]
        warnings.append(
            f"{measure.words}: the seeds of {formatting.series(series)} at {formatting.power(budget.flops)} FLOPs"
            " differ by more than the pooled noise explains; intervals are too narrow there and too wide elsewhere"
        )
    return at_least(pooled(replicates), _evaluation_error(runs, measure)), tuple(warnings)


def compare(runs: Runs, subject: str, baseline: str, measure: Measure) -> Comparison:
    """Differences per number of FLOPs and overall. Raises FitError where the two share no budget."""
    theirs_at = runs.budgets(baseline)
    shared = [budget for budget in runs.budgets(subject) if budget in theirs_at]
    if not shared:
        raise FitError(f"{subject} and {baseline} have no budget in common at which both have a run that is done")
    values_N = runs.number(measure.column) * measure.factor
    noise, warnings = noise_of(runs, measure)
    at_budgets, factors, bases = [], [], []
    for flops in dict.fromkeys(budget.flops for budget in shared):
        sizes = [budget for budget in shared if budget.flops == flops]
        ours = [values_N[runs.of(subject, budget)] for budget in sizes]
        theirs = [values_N[runs.of(baseline, budget)] for budget in sizes]
        cells = [*ours, *theirs]
        factors.append(sum(1 / len(cell) for cell in cells) / len(sizes) ** 2)
        bases.append(float(np.mean([cell.mean() for cell in theirs])))
        value = float(np.mean([cell.mean() for cell in ours])) - bases[-1]
        at_budgets.append(_difference(flops, value, noise, factors[-1], bases[-1]))
    mean = float(np.mean([difference.value for difference in at_budgets]))
    return Comparison(
        subject=subject,
        baseline=baseline,
        measure=measure,
        at_budgets=tuple(at_budgets),
        overall=_difference(None, mean, noise, sum(factors) / len(factors) ** 2, float(np.mean(bases))),
        noise=noise,
        no_interval_because="" if noise else NO_NOISE,
        warnings=warnings,
    )


NO_NOISE = "there is one seed in each cell of the table, so the noise of a run is unknown"


def _evaluation_error(runs: Runs, measure: Measure) -> float:
    """Root mean square of the standard errors of measuring one run; zero where the table has none."""
    if measure.stderr_column is None:
        return 0.0
    return float(np.sqrt(np.mean((runs.number(measure.stderr_column) * measure.factor) ** 2)))


def _difference(budget: float | None, value: float, noise: Noise | None, factor: float, base: float) -> Difference:
    interval = None if noise is None else noise.interval(value, factor)
    share = 100 / base if base else float("nan")
    return Difference(
        budget_flops=budget,
        value=value,
        interval=interval,
        percent=value * share,
        percent_interval=None if interval is None else interval.times(share),
    )


def common_end(subject: SeriesCurve, baseline: SeriesCurve) -> float:
    """The largest x inside both ranges."""
    return min(subject.upper_x, baseline.upper_x)


def law_difference(curves: Curves, subject: str, baseline: str) -> LawDifference:
    """Loss difference at the largest x that both ranges hold. Raises FitError where one has no law there."""
    ours, theirs = _both(curves, subject, baseline)
    x = common_end(ours, theirs)
    if x < max(ours.lower_x, theirs.lower_x):
        both = f"{formatting.series(subject)} and {formatting.series(baseline)}"
        raise FitError(f"the ranges of {both} in {curves.axis.words} do not overlap")
    at_X = np.array([x])
    interval = None
    if ours.replicates is not None and theirs.replicates is not None:
        interval = percentile_interval(_losses(ours, ours.replicates, x) - _losses(theirs, theirs.replicates, x))
    value = float(ours.loss(at_X)[0] - theirs.loss(at_X)[0])
    return LawDifference(subject=subject, baseline=baseline, axis=curves.axis.key, at=x, value=value, interval=interval)


def multiplier(curves: Curves, subject: str, baseline: str) -> Multiplier:
    """The compute multiplier at the end of the common range, or the reason why there is none."""
    ours, theirs = _both(curves, subject, baseline)
    at = common_end(ours, theirs)

    def result(value: float | None, interval: ConfidenceInterval | None, refusal: str, note: str = "") -> Multiplier:
        return Multiplier(
            subject=subject,
            baseline=baseline,
            axis=curves.axis.key,
            at=at,
            value=value,
            interval=interval,
            refusal=refusal,
            note=note,
        )

    flat = _flat_slope(ours) or _flat_slope(theirs)
    if flat:
        return result(None, None, flat)
    log_value = float(_log_multiplier(ours, theirs, ours.point.best, theirs.point.best, at)[0])
    better = ours if log_value > 0 else theirs
    reach = at / float(np.exp(abs(log_value)))
    if reach < better.lower_x / MAX_EXTRAPOLATION:
        return result(
            None,
            None,
            f"{formatting.series(better.series)} would reach that loss at {reach:.3g} {curves.axis.words}, more than"
            f" {MAX_EXTRAPOLATION:g}x below its smallest run ({better.lower_x:.3g}): an extrapolation",
        )
    interval, note = None, ""
    if ours.replicates is not None and theirs.replicates is not None:
        draws_B = _log_multiplier(ours, theirs, ours.replicates, theirs.replicates, at)
        inside = percentile_interval(draws_B)
        interval = ConfidenceInterval(lower=float(np.exp(inside.lower)), upper=float(np.exp(inside.upper)))
        edge = max(abs(inside.lower), abs(inside.upper))
        if at / float(np.exp(edge)) < better.lower_x / MAX_EXTRAPOLATION:
            note = "the far end of the interval lies outside the measured range"
    return result(float(np.exp(log_value)), interval, "", note)


def _both(curves: Curves, subject: str, baseline: str) -> tuple[SeriesCurve, SeriesCurve]:
    for label in (subject, baseline):
        if label not in curves.series:
            raise FitError(
                f"{formatting.series(label)} has no law against {curves.axis.words}: it has done runs at fewer than two"
                " budgets"
            )
    return curves.series[subject], curves.series[baseline]


def _flat_slope(curve: SeriesCurve) -> str:
    interval = curve.slope_interval()
    if interval is None:
        falls = float(curve.point.slope(curve.point.best)[0]) > 0
        return "" if falls else f"the loss of {formatting.series(curve.series)} does not fall with compute"
    if interval.lower > 0:
        return ""
    return (
        f"the slope of {formatting.series(curve.series)} is not significantly above zero (exponent 95 % interval"
        f" {interval.lower:.3g} to {interval.upper:.3g}), so its law cannot be inverted"
    )


def _losses(curve: SeriesCurve, theta_BP: FloatArray, x: float) -> FloatArray:
    losses: FloatArray = np.exp(curve.point.log_loss(theta_BP, np.array([x]))[:, 0])
    return losses


def _log_multiplier(
    ours: SeriesCurve, theirs: SeriesCurve, ours_BP: FloatArray, theirs_BP: FloatArray, at: float
) -> FloatArray:
    """ln(baseline's x / subject's x) at the worse one's loss at `at`, as [B]; positive where the subject is better."""
    ours_B, theirs_B = np.log(_losses(ours, ours_BP, at)), np.log(_losses(theirs, theirs_BP, at))
    subject_reaches_B = ours.point.reach(ours_BP, theirs_B)
    baseline_reaches_B = theirs.point.reach(theirs_BP, ours_B)
    gain_B, loss_B = np.log(at) - subject_reaches_B, np.log(at) - baseline_reaches_B
    # A slope that does not fall gives an infinite reach; the better one reached the loss at `at` already.
    gain_B = np.where(np.isfinite(gain_B), gain_B, np.inf)
    loss_B = np.where(np.isfinite(loss_B), loss_B, np.inf)
    return np.where(ours_B <= theirs_B, gain_B, -loss_B)
