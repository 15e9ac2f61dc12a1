"""The noise of training seconds, and gains in time that carry it.

FLOPs are exact, seconds are measured: the same work takes longer on a busy machine. Runs of one series and budget do
the same work, whatever their seed, so their spread is the noise of a time. It widens what is read off the laws against
seconds: a run that was timed e^s too long lies s too far right, which moves a multiplier by e^s and a loss by the slope
of its law times s. Where no work was repeated the noise is unknown, and gains in time have no interval.

Errors of both kinds are added in quadrature, as for independent errors; a machine that was slower for all runs of one
family is not seen by it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from analysis.gains.multipliers import LawDifference, Multiplier
from analysis.gains.run_noise import codes
from analysis.gains.scaling_curves import SECONDS, Curves, SeriesCurve
from analysis.inference.replicate_noise import Noise
from analysis.interval import ConfidenceInterval
from analysis.tables.runs import Runs

UNKNOWN = "no work was timed twice, so the noise of the seconds is unknown"


def seconds_noise(runs: Runs) -> Noise | None:
    """The noise of ln of a run's seconds, pooled over series and budgets; None where no cell has two runs."""
    if not runs.has(SECONDS.column):
        return None
    log_N = np.log(runs.number(SECONDS.column))
    cell_N = codes(np.array(runs.series), np.array(runs.budget))
    count_C = np.bincount(cell_N)
    degrees = len(log_N) - len(count_C)
    if degrees == 0:
        return None
    square = float(((log_N - (np.bincount(cell_N, log_N) / count_C)[cell_N]) ** 2).sum())
    return Noise(std=math.sqrt(square / degrees), degrees=degrees, source="runs of the same series and budget")


def timed_multiplier(one: Multiplier, runs: Runs, noise: Noise | None) -> Multiplier:
    """A multiplier of time with the noise of the seconds in its interval; without that noise it has none."""
    if one.value is None or one.interval is None:
        return one
    if noise is None:
        return replace(one, interval=None, note="; ".join(part for part in (one.note, UNKNOWN) if part))
    half = noise.half_width(sum(1 / _num_runs(runs, label) for label in (one.subject, one.baseline)))
    centre = math.log(one.value)
    lower, upper = (math.log(end) if end > 0 else -math.inf for end in one.interval)
    return replace(
        one,
        interval=ConfidenceInterval(
            lower=math.exp(centre - math.hypot(centre - lower, half)),
            upper=math.exp(min(centre + math.hypot(upper - centre, half), 700.0)) if upper < math.inf else math.inf,
        ),
    )


def timed_difference(one: LawDifference, curves: Curves, runs: Runs, noise: Noise | None) -> LawDifference:
    """A difference in loss at equal seconds with the noise of the seconds in its interval."""
    if one.interval is None or noise is None:
        return replace(one, interval=None)
    labels = (one.subject, one.baseline)
    half = noise.half_width(sum(_slope(curves.series[label], one.at) ** 2 / _num_runs(runs, label) for label in labels))
    return replace(
        one,
        interval=ConfidenceInterval(
            lower=one.value - math.hypot(one.value - one.interval.lower, half),
            upper=one.value + math.hypot(one.interval.upper - one.value, half),
        ),
    )


def _num_runs(runs: Runs, label: str) -> int:
    """Runs at the series' largest budget, where gains are read."""
    return int(runs.of(label, runs.budgets(label)[-1]).sum())


def _slope(curve: SeriesCurve, at: float) -> float:
    """Change of the loss with ln of the seconds."""
    step = 0.01
    low, high = curve.loss(np.array([at * math.exp(-step), at * math.exp(step)]))
    return float(high - low) / (2 * step)
