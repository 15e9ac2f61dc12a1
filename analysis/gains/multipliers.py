"""Compute multipliers: by how much more compute (or parameters, or seconds) the baseline needs for the same loss.

Read off the fitted laws at the loss that the worse of the two reaches at x: the better one gets there earlier, inside
the measured range, so nothing is extrapolated upwards. With laws L_s and L_b the multiplier is x / L_s^-1(L_b(x)) where
the subject is the better one, and L_b^-1(L_s(x)) / x where the baseline is. Its interval is the middle 95 % over the
replicates of both laws (`gains.scaling_curves`). Refused, with the reason, where

- a slope is not significantly above zero, so that the law cannot be inverted;
- the better one's x lies below its smallest run by more than `MAX_EXTRAPOLATION`, or x itself lies outside both ranges
  by more than that and the law is a straight line, which only holds inside the range;
- a law never reaches the loss, or reaches it in less than half of the replicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis import formatting
from analysis.errors import FitError
from analysis.gains.scaling_curves import Curves, SeriesCurve
from analysis.inference.replicate_noise import percentile_interval
from analysis.interval import LEVEL, ConfidenceInterval
from analysis.tables.runs import FloatArray

MAX_EXTRAPOLATION = 2.0
"""How far outside the measured range a multiplier may be read, as a factor of x."""


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """How many times the baseline's compute (seconds, parameters) the subject's is worth."""

    subject: str
    baseline: str
    axis: str
    at: float
    """Where it is read: FLOPs, seconds or parameters."""
    value: float | None
    interval: ConfidenceInterval | None
    """95 %; None where there is no value, or where the noise of a run is unknown."""
    refusal: str
    """Why there is no value; '' where there is one."""
    note: str
    """What a reader must know about the value; '' where nothing."""


@dataclass(frozen=True, kw_only=True)
class LawDifference:
    """Subject minus baseline in nats, read off the laws at one x."""

    subject: str
    baseline: str
    axis: str
    at: float
    value: float
    interval: ConfidenceInterval | None


def common_end(subject: SeriesCurve, baseline: SeriesCurve) -> float:
    """The largest x inside both ranges."""
    return min(subject.upper_x, baseline.upper_x)


def law_difference(
    curves: Curves, subject: str, baseline: str, at: float | None = None, *, level: float = LEVEL
) -> LawDifference:
    """Loss difference by the laws at `at` (the largest x that both ranges hold).

    Raises:
        FitError: One of the two has no law, or no `at` is given and the ranges do not overlap.
    """
    ours, theirs = _both(curves, subject, baseline)
    x = common_end(ours, theirs) if at is None else at
    if at is None and x < max(ours.lower_x, theirs.lower_x):
        both = f"{formatting.series(subject)} and {formatting.series(baseline)}"
        raise FitError(
            f"the ranges of {both} in {curves.axis.words} do not overlap; say where to read the gain (--at, at=)"
        )
    interval = None
    if ours.replicates is not None and theirs.replicates is not None:
        interval = percentile_interval(_losses(ours, ours.replicates, x) - _losses(theirs, theirs.replicates, x), level)
    value = float(_losses(ours, ours.fit.best, x)[0] - _losses(theirs, theirs.fit.best, x)[0])
    return LawDifference(subject=subject, baseline=baseline, axis=curves.axis.key, at=x, value=value, interval=interval)


def multiplier(
    curves: Curves, subject: str, baseline: str, at: float | None = None, *, level: float = LEVEL
) -> Multiplier:
    """The multiplier at `at` (the end of the common range), or the reason why there is none.

    Raises:
        FitError: One of the two has no law along this axis.
    """
    ours, theirs = _both(curves, subject, baseline)
    x = common_end(ours, theirs) if at is None else at

    def result(
        value: float | None = None, interval: ConfidenceInterval | None = None, refusal: str = "", note: str = ""
    ) -> Multiplier:
        return Multiplier(
            subject=subject,
            baseline=baseline,
            axis=curves.axis.key,
            at=x,
            value=value,
            interval=interval,
            refusal=refusal,
            note=note,
        )

    log_value = float(_log_multiplier(ours, theirs, ours.fit.best, theirs.fit.best, x)[0])
    refusal = _flat_slope(ours) or _flat_slope(theirs) or _out_of_range(curves, ours, theirs, x, log_value)
    if refusal:
        return result(refusal=refusal)
    interval, notes = None, []
    if ours.replicates is not None and theirs.replicates is not None:
        log_B = _log_multiplier(ours, theirs, ours.replicates, theirs.replicates, x)
        reached = float(np.isfinite(log_B).mean())
        if reached < 0.5:
            return result(refusal=f"that loss is reached in {reached:.0%} of the replicates of the laws")
        inside = percentile_interval(log_B, level)
        interval = ConfidenceInterval(*(math.exp(min(end, 700.0)) if end < math.inf else math.inf for end in inside))
        edge = max(abs(inside.lower), abs(inside.upper))
        if _better(ours, theirs, log_value).lower_x / MAX_EXTRAPOLATION > x * math.exp(-edge):
            notes.append("the far end of the interval lies outside the measured range")
    if x > MAX_EXTRAPOLATION * common_end(ours, theirs):
        notes.append("extrapolated")
    return result(value=math.exp(log_value), interval=interval, note="; ".join(notes))


def _both(curves: Curves, subject: str, baseline: str) -> tuple[SeriesCurve, SeriesCurve]:
    for label in (subject, baseline):
        if label not in curves.series:
            raise FitError(
                f"{formatting.series(label)} has no law against {curves.axis.words}: it has done runs at fewer than two"
                f" {curves.axis.level}s"
            )
    return curves.series[subject], curves.series[baseline]


def _better(ours: SeriesCurve, theirs: SeriesCurve, log_value: float) -> SeriesCurve:
    return ours if log_value > 0 else theirs


def _flat_slope(curve: SeriesCurve) -> str:
    interval = curve.slope_interval()
    if interval is None:
        falls = float(curve.fit.slope(curve.fit.best)[0]) > 0
        return "" if falls else f"the loss of {formatting.series(curve.series)} does not fall with compute"
    if interval.lower > 0:
        return ""
    return (
        f"the slope of {formatting.series(curve.series)} is not significantly above zero (exponent 95 % interval"
        f" {interval.lower:.3g} to {interval.upper:.3g}), so its law cannot be inverted"
    )


def _out_of_range(curves: Curves, ours: SeriesCurve, theirs: SeriesCurve, x: float, log_value: float) -> str:
    """Why the multiplier at x would be an extrapolation; '' where it is none."""
    better = _better(ours, theirs, log_value)
    name, unit = formatting.series(better.series), curves.axis.unit or curves.axis.words
    if math.isinf(log_value):
        return f"the law of {name} never reaches that loss at {x:.3g} {unit}"
    end = common_end(ours, theirs)
    if "E" not in curves.law.names and x > MAX_EXTRAPOLATION * end:
        return (
            f"{x:.3g} {unit} lies more than {MAX_EXTRAPOLATION:g}x above the measured range (which ends at {end:.3g}),"
            " and the laws are straight lines that hold inside it only"
        )
    reach = x * math.exp(-abs(log_value))
    if reach < better.lower_x / MAX_EXTRAPOLATION:
        return (
            f"{name} would reach that loss at {reach:.3g} {unit}, more than {MAX_EXTRAPOLATION:g}x below its smallest"
            f" run ({better.lower_x:.3g}): an extrapolation"
        )
    return ""


def _losses(curve: SeriesCurve, theta_BP: FloatArray, x: float) -> FloatArray:
    return np.asarray(np.exp(curve.fit.log_loss(theta_BP, np.array([x]))[:, 0]))


def _log_multiplier(
    ours: SeriesCurve, theirs: SeriesCurve, ours_BP: FloatArray, theirs_BP: FloatArray, at: float
) -> FloatArray:
    """ln(baseline's x / subject's x) at the worse one's loss at `at`, as [B]; positive where the subject is better."""
    ours_B, theirs_B = np.log(_losses(ours, ours_BP, at)), np.log(_losses(theirs, theirs_BP, at))
    gain_B = np.log(at) - ours.fit.log_reach(ours_BP, theirs_B)
    loss_B = np.log(at) - theirs.fit.log_reach(theirs_BP, ours_B)
    # A law that does not fall gives an infinite reach; the better one reached the loss at `at` already.
    gain_B = np.where(np.isfinite(gain_B), gain_B, np.inf)
    loss_B = np.where(np.isfinite(loss_B), loss_B, np.inf)
    return np.where(ours_B <= theirs_B, gain_B, -loss_B)
