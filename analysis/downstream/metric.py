"""What kind of number a task's metric is: whether higher is better, its unit, and its floor and ceiling.

The links (`analysis.laws.links`) are written for one direction each: the exponential one for an error that falls with
the loss, the sigmoid one for an accuracy that rises as the loss falls. A metric of the other direction is turned:
error = unit - accuracy, with a unit of 1 for shares and 100 for percentages.

The direction follows from the name where it is known ('acc', 'exact_match', 'err', ...), else from the rank
correlation with the loss: a metric that rises as the loss falls is better when higher.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.inference.result import FitWarning

FloatArray = npt.NDArray[np.float64]

HIGHER = (
    "acc",
    "accuracy",
    "em",
    "exact",
    "match",
    "f1",
    "recall",
    "precision",
    "score",
    "pass",
    "bleu",
    "rouge",
    "auc",
)
LOWER = ("err", "error", "loss", "nll", "ppl", "perplexity", "bpb", "bits", "nats")
LEAST_CORRELATION = 0.3
"""Of the ranks of metric and loss; with a smaller correlation the direction is not known from the table."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric's direction, unit and bounds."""

    name: str
    higher_is_better: bool
    decided_by: str
    """'the option', 'the name' or 'the correlation with the loss'."""
    unit: float
    """What a share of 1 is in the table's numbers: 1, or 100 for percentages."""
    floor: float | None
    """What a model that knows nothing reaches, in the table's unit (of an error metric: its highest value)."""
    ceiling: float | None
    """What a perfect model reaches, in the table's unit (of an error metric: its lowest value)."""

    def as_error(self, values: FloatArray) -> FloatArray:
        """The metric as a share of errors."""
        shares: FloatArray = values / self.unit
        return 1.0 - shares if self.higher_is_better else shares

    def as_accuracy(self, values: FloatArray) -> FloatArray:
        """The metric as a share of right answers."""
        return 1.0 - self.as_error(values)

    def from_error(self, shares: FloatArray) -> FloatArray:
        """Shares of errors in the table's unit and direction, kept between floor and ceiling."""
        values: FloatArray = self.unit * (1.0 - shares if self.higher_is_better else shares)
        ends = sorted(end for end in (self.floor, self.ceiling) if end is not None)
        if len(ends) == 2:
            return np.asarray(np.clip(values, ends[0], ends[1]))
        if self.floor is not None:
            return np.asarray((np.maximum if self.higher_is_better else np.minimum)(values, self.floor))
        if self.ceiling is not None:
            return np.asarray((np.minimum if self.higher_is_better else np.maximum)(values, self.ceiling))
        return values


def describe_metric(
    name: str,
    metric_N: FloatArray,
    loss_N: FloatArray,
    *,
    higher_is_better: bool | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
) -> tuple[Metric, tuple[FitWarning, ...]]:
    """Decide what the metric is from its name and its values.

    Args:
        name: of its column.
        metric_N: its values [N], in its unit.
        loss_N: the losses of the same runs.
        higher_is_better: None to decide by name, then by correlation.
        floor: what a model that knows nothing reaches (chance).
        ceiling: what a perfect model reaches.

    Returns:
        The metric, and a warning where its name and its correlation with the loss contradict each other.

    Raises:
        FitError: all values are equal, neither name nor correlation gives the direction, the floor is above the
            ceiling, or the values lie outside them.
    """
    if np.ptp(metric_N) == 0:
        raise FitError(
            f"the metric '{name}' has one value, {metric_N[0]:.6g}, in all rows: there is nothing to link to the"
            " loss. Is it the right column?"
        )
    correlation = _rank_correlation(metric_N, loss_N)
    by_name = _direction_of(name)
    warnings: tuple[FitWarning, ...] = ()
    if higher_is_better is not None:
        decided, words = higher_is_better, "the option"
    elif by_name is not None:
        decided, words = by_name, "the name"
    elif abs(correlation) >= LEAST_CORRELATION:
        decided, words = correlation < 0, "the correlation with the loss"
    else:
        raise FitError(
            f"metric '{name}': neither its name nor its rank correlation with the loss ({correlation:.2f}) says whether"
            " higher is better; say --higher-is-better or --lower-is-better (higher_is_better=True or False)"
        )
    if (correlation > LEAST_CORRELATION) == decided and abs(correlation) > LEAST_CORRELATION:
        better = "higher" if decided else "lower"
        text = (
            f"by {words} '{name}' is better when {better}, but its rank correlation with the loss is {correlation:.2f}:"
            " it gets worse as the loss falls"
        )
        warnings = (FitWarning(code="metric_direction", text=text),)
    largest = max(float(np.abs(metric_N).max()), *(abs(end) for end in (floor, ceiling) if end is not None), 0.0)
    metric = Metric(
        name=name, higher_is_better=decided, decided_by=words, unit=100.0 if largest > 1.5 else 1.0, floor=floor,
        ceiling=ceiling,
    )  # fmt: skip
    if floor is not None and ceiling is not None and (floor < ceiling) != decided:
        raise FitError(
            f"metric '{name}' is better when {'higher' if decided else 'lower'}: its floor (chance, {floor:g}) must be"
            f" {'below' if decided else 'above'} its ceiling ({ceiling:g})"
        )
    for words, end, is_lower in (("floor", floor, decided), ("ceiling", ceiling, not decided)):
        if end is not None and (metric_N.max() <= end if is_lower else metric_N.min() >= end):
            raise FitError(
                f"metric '{name}': all of its values ({metric_N.min():.3g} to {metric_N.max():.3g}) lie"
                f" {'below' if is_lower else 'above'} its {words} of {end:g}; give it in the unit of the column"
            )
    return metric, warnings


def _direction_of(name: str) -> bool | None:
    """Whether higher is better by the name; None where the name holds no known word, or words of both directions."""
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    higher, lower = bool(words & set(HIGHER)), bool(words & set(LOWER))
    return None if higher == lower else higher


def _rank_correlation(x_N: FloatArray, y_N: FloatArray) -> float:
    """Spearman's, of values whose ties share their mean rank; 0 where one of them is constant."""
    ranks = []
    for values in (x_N, y_N):
        _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append((ends - (counts - 1) / 2.0)[which])
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
