"""Numbers for people: three significant digits, with units."""

from __future__ import annotations

from memscale.planning.names import number_name

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float) -> str:
    """1290000 -> 1.29M; above 1e15 as a power of ten."""
    value = float(f"{value:.3g}")
    for step, letter in _STEPS:
        if abs(value) >= step and abs(value) < 1e15:
            return f"{value / step:.3g}{letter}"
    return f"{value:.3g}"


def size(num_bytes: float) -> str:
    """Bytes as kB, MB, GB or TB."""
    num_bytes = float(f"{num_bytes:.3g}")
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= step:
            return f"{num_bytes / step:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"


def percent(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:+.{digits}%}"


def exact(value: float) -> str:
    """A budget with every digit it has."""
    return number_name(value)
