"""Names of runs: numbers keep all their digits, so that two runs never share a name."""

from __future__ import annotations

from typing import Any


def number_name(value: float) -> str:
    """Return a number as it appears in names, with every digit it has, so that two values never share a name.

    Numbers below 1e5 are written out, larger ones in scientific notation without a plus sign.

    Example:
        >>> number_name(4e11), number_name(2.15e18), number_name(0.005)
        ('4e11', '2.15e18', '0.005')
    """
    if value < 1e5:
        return repr(float(value)).removesuffix(".0")
    short = next(text for text in (f"{value:.{digits}e}" for digits in range(18)) if float(text) == value)
    mantissa, exponent = short.split("e")
    return f"{mantissa}e{int(exponent)}"


def value_name(value: Any) -> str:
    """Return a setting's value as it appears in names: numbers with all digits, lists joined by dashes.

    Example:
        >>> value_name((4, 12, 20)), value_name(1e-4), value_name(None)
        ('4-12-20', '0.0001', 'none')
    """
    if isinstance(value, tuple):
        return "-".join(value_name(item) for item in value)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value).lower()
    return str(value) if isinstance(value, int) else number_name(value)
