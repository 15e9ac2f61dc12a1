"""Numbers for people: three significant digits, with units."""

from __future__ import annotations

from memscale.planning.names import number_name

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float) -> str:
    """1290000 -> 1.29M."""
    for step, letter in _STEPS:
        if abs(value) >= step:
            return f"{value / step:.3g}{letter}"
    return f"{value:.3g}"


def size(num_bytes: float) -> str:
    """Bytes as MB or GB."""
    return f"{num_bytes / 1e9:.2g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.3g} MB"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:+.2%}"


def exact(value: float) -> str:
    """A budget with every digit it has."""
    return number_name(value)
