"""A measured number with its uncertainty, and the one standard error lm-eval does not offer: that of a ratio.

Refuses to pass on a standard error that is no number: what lm-eval calls "N/A" is None here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one task."""

    value: float
    stderr: float | None
    """Standard error over the samples; None where there are too few (fewer than two) to know it."""
    num_samples: int
    """Questions or documents the value is taken over."""


def number_or_none(given: object) -> float | None:
    """Return `given` as a float; None where it is not a finite number ("N/A" of lm-eval among others)."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        return None
    return float(given)


def ratio_stderr(numerators: Sequence[float], denominators: Sequence[float]) -> float | None:
    """Standard error of sum(numerators) / sum(denominators) over independent pairs; None for fewer than two pairs.

    The linearised variance of a ratio estimator (Cochran 1977, section 6.4): with R the ratio and n the pairs,
    n / (n - 1) * sum((a_i - R b_i)^2) / sum(b_i)^2. For equal denominators it is that of a mean.
    """
    num_pairs, total = len(numerators), math.fsum(denominators)
    if num_pairs < 2 or total <= 0:
        return None
    ratio = math.fsum(numerators) / total
    squares = math.fsum((a - ratio * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
    return math.sqrt(num_pairs / (num_pairs - 1) * squares) / total
