"""Units of counts: 'Model Size (B)', '--units tokens=T' or the value '1.3B' become parameters, tokens and FLOPs.

A unit is taken from --units, from the parenthesis at the end of a column's name, or from the value itself. Every
conversion is reported in a warning, and so are numbers that are too small to be counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.errors import TableError
from analysis.tables.observations import FLOPS, PARAMS, TOKENS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COUNTS = {PARAMS: "params", TOKENS: "tokens", FLOPS: "flops"}
"""Quantities that have units, by letter, with the names that --units has for them."""
WORDS = {"params": "parameters", "tokens": "tokens", "flops": "FLOPs"}
PREFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21}
NAMES = {
    "thousand": 1e3,
    "mm": 1e6,
    "mio": 1e6,
    "million": 1e6,
    "bn": 1e9,
    "billion": 1e9,
    "tn": 1e12,
    "trillion": 1e12,
}
DAY = 86400.0
PETAFLOP_DAY = 1e15 * DAY
SMALLEST = {PARAMS: 1e4, TOKENS: 1e5, FLOPS: 1e9}
"""No table of training runs has only smaller counts."""
ALREADY_COUNTS = 1e6
"""Values from here on contradict a unit in the column's name."""
HINT = re.compile(r"(?:^|[\s_\-.])(k|m|mm|b|bn|t|millions?|billions?|trillions?)$", re.IGNORECASE)
SUFFIXED = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]+)", re.IGNORECASE)


def factor(unit: str) -> float | None:
    """The factor of a unit: 'B' or 'billions' 1e9, 'PF-days' 8.64e19, '1e18' itself; None where it is no unit."""
    word = unit.strip().lower()
    if re.fullmatch(r"(p|peta)[- ]?(f|flops?)(/s)?[- ]?days?", word):
        return PETAFLOP_DAY
    word = re.sub(r"(?:\s*(?:params?|parameters|tokens?)|[- ]?flops?)$", "", word).strip()
    if word in PREFIXES:
        return PREFIXES[word]
    if word.rstrip("s") in NAMES:
        return NAMES[word.rstrip("s")]
    try:
        value = float(word)
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


def count_with_unit(text: str) -> float | None:
    """A count with its unit, such as '1.3B' or '400 billion'; None where it is not one."""
    parts = SUFFIXED.fullmatch(text.strip())
    scale = factor(parts[2]) if parts else None
    return float(parts[1]) * scale if parts and scale is not None else None


def check_units(units: Mapping[str, str]) -> None:
    """Raises TableError for a quantity or a unit that is not known."""
    for quantity, unit in units.items():
        if quantity not in WORDS:
            raise TableError(f"--units {quantity}={unit}: units are those of {', '.join(WORDS)}")
        if factor(unit) is None:
            raise TableError(
                f"--units {quantity}={unit}: '{unit}' is no unit; write K, M, B, T, PF-days, a number such as 1e18, or"
                " 1 for values that are counts already"
            )


@dataclass(kw_only=True)
class Units:
    """Converts columns of counts and collects what it must report."""

    given: Mapping[str, str]
    """As --units gives them: {'params': 'B'}."""
    warnings: list[str] = field(default_factory=list)

    def converted(
        self, where: str, letter: str, column: str, values: FloatArray, words: Mapping[int, str]
    ) -> FloatArray:
        """A column in counts; `words` holds the text of cells that are no plain number. Raises TableError."""
        if letter not in COUNTS:
            return values
        quantity = COUNTS[letter]
        scale = self._scale(where, quantity, column, values)
        values = values * scale
        values = self._suffixed(quantity, column, values, words)
        if quantity not in self.given:
            self._small(letter, column, values)
        return values

    def _scale(self, where: str, quantity: str, column: str, values: FloatArray) -> float:
        if quantity in self.given:
            scale = factor(self.given[quantity]) or 1.0
            if scale != 1:
                self.warnings.append(
                    f"column '{column}' is read in units of {self.given[quantity]} (--units): times {scale:g}"
                )
            return scale
        inside = re.search(r"[(\[]([^()\[\]]*)[)\]]\s*$", column)
        named = factor(inside[1]) if inside else None
        if inside is None or named is None or named == 1:
            return 1.0
        if np.isfinite(values).any() and np.nanmin(values) >= ALREADY_COUNTS:
            raise TableError(
                f"{where}, column '{column}': its name says units of {inside[1]}, but its least value is"
                f" {np.nanmin(values):.6g}. Say which is right: --units {quantity}={inside[1]}, or --units {quantity}=1"
            )
        self.warnings.append(
            f"column '{column}' is read in units of {inside[1]}, as its name says: times {named:g} (other units:"
            f" --units {quantity}=UNIT)"
        )
        return named

    def _suffixed(self, quantity: str, column: str, values: FloatArray, words: Mapping[int, str]) -> FloatArray:
        """Cells such as '1.3B' as counts."""
        found = {}
        for at, word in words.items():
            value = count_with_unit(word)
            if value is not None:
                found[at] = value
        if not found:
            return values
        first = min(found)
        self.warnings.append(
            f"column '{column}': {formatting.counted(len(found), 'value')} with a unit, read as {WORDS[quantity]}:"
            f" '{words[first]}' as {found[first]:g}"
        )
        values = values.copy()
        values[list(found)] = list(found.values())
        return values

    def _small(self, letter: str, column: str, values: FloatArray) -> None:
        """Warn of numbers that are hardly counts."""
        known = values[np.isfinite(values) & (values > 0)]
        hint, quantity = HINT.search(column), COUNTS[letter]
        small = len(known) and (known.min() < 1 or known.max() < SMALLEST[letter])
        hinted = hint and len(known) and known.max() < ALREADY_COUNTS
        if small or hinted:
            unit = hint[1] if hint else "B"
            self.warnings.append(
                f"column '{column}' holds {known.min():.6g} to {known.max():.6g}, small for a number of"
                f" {WORDS[quantity]}: if it is in other units, say so (--units {quantity}={unit}); if it is right,"
                f" --units {quantity}=1"
            )
