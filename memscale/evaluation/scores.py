"""A score with its standard error, and the standard error of a ratio, which lm-eval does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Score:
    """The value of one metric of one task."""

    value: float
    stderr: float | None
    """Standard error over the samples; None for fewer than two."""
    num_samples: int
    """Number of questions or documents."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model knows of one dense fact."""

    fact: int
    """Its number, from 0 (`memscale.data.dense_facts`)."""
    nats: float
    """Negative log-probability of its value in the wording that training held out."""
    right: bool
    """Whether greedy decoding gives the value."""


def number_or_none(given: object) -> float | None:
    """Return `given` as a float, or None where it is not a finite number, such as lm-eval's "N/A"."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return float(given)


def ratio_stderr(numerators: Sequence[float], denominators: Sequence[float]) -> float | None:
    """Return the standard error of R = sum(numerators) / sum(denominators) over n independent pairs (a_i, b_i).

    The linearised variance of the ratio estimator (Cochran 1977, section 6.4),
    n / (n - 1) x sum((a_i - R b_i)^2) / (sum b_i)^2; for equal denominators it is the variance of a mean. None for
    fewer than two pairs.

    Example:
        >>> round(ratio_stderr([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]), 6)  # standard error of the mean, 1 / sqrt(3)
        0.57735
    """
    num_pairs, total = len(numerators), math.fsum(denominators)
    if num_pairs < 2 or total <= 0:
        return None
    ratio = math.fsum(numerators) / total
    squares = math.fsum((a - ratio * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
    return math.sqrt(num_pairs / (num_pairs - 1) * squares) / total
