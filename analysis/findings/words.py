"""Phrases that several findings share: shares of repeats with exact intervals, numbers of a table's cells."""

from __future__ import annotations

import math

from scipy.special import betaincinv

from analysis import formatting
from analysis.gains.differences import Comparison, Difference
from analysis.interval import ConfidenceInterval


def share_interval(number: int, of: int) -> ConfidenceInterval:
    """The exact 95 % interval of a share (Clopper and Pearson 1934).

    Example:
        >>> interval = share_interval(1, 20)
        >>> round(interval.lower, 4), round(interval.upper, 4)
        (0.0013, 0.2487)
    """
    lower = 0.0 if number == 0 else float(betaincinv(number, of - number + 1, 0.025))
    upper = 1.0 if number == of else float(betaincinv(number + 1, of - number, 0.975))
    return ConfidenceInterval(lower=lower, upper=upper)


def share(number: int, of: int) -> str:
    """'3 of 20 (15 %, 95 % interval 3.2 to 38 %)'."""
    interval = share_interval(number, of)
    low, high = (formatting.significant(100 * end, 2) for end in interval)
    return f"{number} of {of} ({formatting.significant(100 * number / of, 2)} %, 95 % interval {low} to {high} %)"


def amount(one: Difference, comparison: Comparison) -> str:
    """A difference with its interval, in the measure's digits."""
    return formatting.with_interval(one.value, one.interval, sign=True, most=comparison.measure.decimals)


def number(value: float, digits: int = 3) -> str:
    """A number for a cell; '' where there is none."""
    return formatting.significant(value, digits) if math.isfinite(value) else ""
