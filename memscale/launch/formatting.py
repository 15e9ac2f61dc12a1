"""Numbers for people: three significant digits, with units."""

from __future__ import annotations

from memscale.planning.names import number_name

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float) -> str:
    """Return a count with a suffix: 1290000 -> 1.29M; from 1e15 on as a power of ten.

    Example:
        >>> quantity(1290000), quantity(2.5e18)
        ('1.29M', '2.5e+18')

    """
    value = float(f"{value:.3g}")
    for step, letter in _STEPS:
        if abs(value) >= step and abs(value) < 1e15:
            return f"{value / step:.3g}{letter}"
    return f"{value:.3g}"


def size(num_bytes: float) -> str:
    """Return a number of bytes as kB, MB, GB or TB (powers of 1000).

    Example:
        >>> size(64e9)
        '64 GB'

    """
    num_bytes = float(f"{num_bytes:.3g}")
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= step:
            return f"{num_bytes / step:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"


def duration(seconds: float) -> str:
    """Return seconds as s, min, h or days.

    Example:
        >>> duration(42), duration(510), duration(11_520), duration(5_650_000)
        ('42 s', '8.5 min', '3.2 h', '65.4 days')

    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.3g} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 86400:.3g} days"


def percent(value: float | None, digits: int = 2) -> str:
    """Return a signed percentage; '' for None.

    Example:
        >>> percent(0.0123)
        '+1.23%'

    """
    return "" if value is None else f"{value:+.{digits}%}"


def exact(value: float) -> str:
    """Return a budget with every digit that it has."""
    return number_name(value)
