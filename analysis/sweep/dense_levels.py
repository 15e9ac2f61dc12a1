"""Dense models of once, twice, ... the compute beside a curve over table sizes, and the table size that reaches each.

A level is the dense model of a budget with at least the curve's compute. Between two sizes the curve is the straight
line in the logarithm of slots. The crossing is the smallest size from which the curve is better than the level, and its
95 % interval inverts the t test of their difference (Fieller 1954): from the first size at which the table may be as
good (its difference is not significantly worse) to the first at which it is significantly better. An end that the sizes
tried do not show is open: 0 or infinity. A difference between two points is a weighted sum of runs, so the noise is
that of `NoiseModel.contrast`, with what runs of one seed share.

Refuses a crossing of a curve that never gets better than the level: it is "not crossed within the sizes tried".
Shapes: N runs, G places on the curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import formatting
from analysis.gains.measures import Measure
from analysis.inference.variance_components import NoiseModel
from analysis.interval import ConfidenceInterval
from analysis.tables.runs import Budget, FloatArray, Runs

NUM_PLACES = 101
"""Places on the curve at which the difference is tested."""
SAME_COMPUTE = 0.98
"""A dense model of this share of the curve's compute or more counts as once its compute."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where a curve over table sizes reaches a dense level in one measure."""

    slots: float | None
    """None where it is not crossed within the sizes tried, or better at the smallest already."""
    interval: ConfidenceInterval | None
    """Of slots; 0 or infinity at an open end. None where the noise of a run is unknown."""
    verdict: str
    """By the means: 'crossed', 'not crossed', 'better at every size', or only 'better at the smallest size'."""

    @property
    def words(self) -> str:
        """For a sentence: 'crossed at 2^14.2 slots [2^12.9, 2^15.5]'."""
        span = "" if self.interval is None else f" [{_power(self.interval.lower)}, {_power(self.interval.upper)}]"
        if self.slots is not None:
            return f"crossed at {_power(self.slots)} slots{span}"
        if self.verdict.startswith("better"):
            return f"already better at the smallest table{span}"
        return f"not crossed within the sizes tried{span}"


@dataclass(frozen=True, kw_only=True)
class DenseLevel:
    """The dense model of one budget, beside a curve of another."""

    budget: Budget
    multiple: float
    """Its training FLOPs over those of the dense model (or budget) of the curve."""
    num_seeds: int
    means: Mapping[str, float]
    """By the measure's column, in the unit shown."""
    intervals: Mapping[str, ConfidenceInterval | None]
    crossings: Mapping[str, Crossing]

    @property
    def words(self) -> str:
        """'Dense', or 'Dense, 2x compute'."""
        if self.multiple < 1 / SAME_COMPUTE:
            return "Dense"
        return f"Dense, {round(self.multiple, 1):g}{formatting.TIMES} compute"


def dense_levels(
    runs: Runs,
    budget: Budget,
    labels: Sequence[str],
    slots: Sequence[float],
    measures: Sequence[Measure],
    noises: Mapping[str, NoiseModel | None],
) -> tuple[DenseLevel, ...]:
    """The dense levels beside the curve of these series at a budget, by rising compute; none without dense runs.

    Args:
        runs: All compared runs.
        budget: The curve's.
        labels: Its series, by rising slots.
        slots: Of each series.
        measures: What the curve is read in.
        noises: The noise of a run by the measure's column.
    """
    if "dense" not in runs.families:
        return ()
    dense = runs.reference("dense")
    spent = runs.number("flops_train")
    own = runs.of(dense, budget)
    once = float(spent[own].mean()) if own.any() else budget.flops
    found = []
    for other in runs.budgets(dense):
        mask = runs.of(dense, other)
        multiple = float(spent[mask].mean()) / once
        if multiple < SAME_COMPUTE:
            continue
        weight_N = mask / mask.sum()
        means = {one.column: float(weight_N @ runs.number(one.column)) * one.factor for one in measures}
        found.append(
            DenseLevel(
                budget=other,
                multiple=multiple,
                num_seeds=int(mask.sum()),
                means=means,
                intervals={column: _interval(noises[column], weight_N, value) for column, value in means.items()},
                crossings={
                    one.column: _crossing(runs, budget, labels, slots, one, weight_N, noises[one.column])
                    for one in measures
                },
            )
        )
    return tuple(sorted(found, key=lambda level: level.multiple))


def _crossing(
    runs: Runs,
    budget: Budget,
    labels: Sequence[str],
    slots: Sequence[float],
    measure: Measure,
    dense_N: FloatArray,
    noise: NoiseModel | None,
) -> Crossing:
    log_slots = np.log2(np.asarray(slots, dtype=np.float64))
    size_SN = np.stack([runs.of(label, budget) / runs.of(label, budget).sum() for label in labels])
    places_G = np.unique(np.concatenate([np.linspace(log_slots[0], log_slots[-1], NUM_PLACES), log_slots]))
    weight_GN = np.stack([np.interp(places_G, log_slots, size_N) for size_N in size_SN.T], axis=1) - dense_N
    sign = -1.0 if measure.lower_is_better else 1.0
    better_G = sign * measure.factor * (weight_GN @ runs.number(measure.column))
    slots_at, verdict = _first_better(places_G, better_G)
    interval = None
    if noise is not None:
        half_G = np.array([noise.contrast(weight_N).half_width(1.0) for weight_N in weight_GN])
        lower, upper = (_first(places_G, better_G + side * half_G > 0) for side in (1.0, -1.0))
        interval = ConfidenceInterval(
            lower=0.0 if lower == places_G[0] else 2.0**lower, upper=2.0**upper if math.isfinite(upper) else math.inf
        )
    return Crossing(slots=slots_at, interval=interval, verdict=verdict)


def _first_better(places_G: FloatArray, better_G: FloatArray) -> tuple[float | None, str]:
    """The place at which the means' curve passes the level, in slots, and what to call it."""
    above = np.flatnonzero(better_G > 0)
    if len(above) == 0:
        return None, "not crossed"
    at = int(above[0])
    if at == 0:
        return None, "better at every size" if bool((better_G > 0).all()) else "better at the smallest size"
    share = -better_G[at - 1] / (better_G[at] - better_G[at - 1])
    return float(2.0 ** (places_G[at - 1] + share * (places_G[at] - places_G[at - 1]))), "crossed"


def _first(places_G: FloatArray, holds_G: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """The first place at which it holds; infinity where it holds nowhere."""
    at = np.flatnonzero(holds_G)
    return float(places_G[at[0]]) if len(at) else math.inf


def _interval(noise: NoiseModel | None, weight_N: FloatArray, value: float) -> ConfidenceInterval | None:
    return None if noise is None else noise.contrast(weight_N).interval(value, 1.0)


def _power(slots: float) -> str:
    """Slots as a power of two with one decimal."""
    if slots == 0:
        return "below the smallest"
    if not math.isfinite(slots):
        return "beyond the largest"
    return f"2^{math.log2(slots):.1f}"
