"""One published number beside ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """`published` is as it was printed; `tolerance` is half of its last digit, or what its own noise allows."""

    what: str
    published: float
    ours: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether ours is a number within `tolerance` of the published one."""
        return math.isfinite(self.ours) and abs(self.ours - self.published) <= self.tolerance * (1 + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All of one publication."""

    name: str
    title: str
    source: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


def lines(published: Sequence[tuple[str, str]], ours: Sequence[float]) -> tuple[Line, ...]:
    """Lines from the numbers as they were printed; their digits give their precision."""
    return tuple(
        Line(what=what, published=float(text), ours=float(value), tolerance=half_digit(text))
        for (what, text), value in zip(published, ours, strict=True)
    )


def half_digit(text: str) -> float:
    """Half of the last printed digit: 0.005 for '477.83', 0.5 for '239'; a little more, for numbers rounded twice."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.51 * 10.0**-decimals * 10.0 ** int(exponent or 0)
