"""The type of intervals in analysis/: a two-sided 95 % confidence interval.

Every engine returns it and every report, figure and JSON file reads it. It is a named tuple, so that
`lower, upper = interval` and JSON's two-element lists work without a conversion.
"""

from __future__ import annotations

from typing import NamedTuple

LEVEL = 0.95
"""Probability that a 95 % confidence interval holds the truth."""


class ConfidenceInterval(NamedTuple):
    """Both ends of a confidence interval (95 % unless its holder documents another level).

    An infinite end means that the data give no bound on that side.

    Example:
        >>> interval = ConfidenceInterval(lower=-0.03, upper=-0.01)
        >>> interval.excludes_zero
        True
        >>> interval.times(-100.0)
        ConfidenceInterval(lower=1.0, upper=3.0)
    """

    lower: float
    upper: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: the difference that this interval is of is significant."""
        return self.lower > 0 or self.upper < 0

    @property
    def width(self) -> float:
        """Upper minus lower end, in the quantity's unit."""
        return self.upper - self.lower

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside, ends included."""
        return self.lower <= value <= self.upper

    def overlaps(self, other: ConfidenceInterval) -> bool:
        """Whether the two intervals have a value in common."""
        return self.lower <= other.upper and other.lower <= self.upper

    def times(self, factor: float) -> ConfidenceInterval:
        """The interval of the quantity times `factor`; a negative factor swaps the ends."""
        return ConfidenceInterval(*sorted((self.lower * factor, self.upper * factor)))
