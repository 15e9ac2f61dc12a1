"""One scheme for the JSON that every answer of analysis/ gives: the card.

Every card starts with the same head, `{format, kind, source, sha256, n, exclusions, warnings}`, and goes on with the
keys of its kind. Intervals are two-element lists under `<name>_ci95`; an infinite end, or a number that is not one, is
null. `FORMAT` is raised when a key changes its meaning; new keys may appear at any time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from analysis.interval import ConfidenceInterval

FORMAT = 2
"""Format 1 had no `kind`, named the source `table`, and wrote warnings as plain text in some kinds."""


class LeftOutRow(Protocol):
    """A row of the source that no number of the answer rests on."""

    @property
    def row(self) -> int:
        """Counted from 1 below the header."""

    @property
    def rule(self) -> str:
        """The rule that left it out."""

    @property
    def reason(self) -> str:
        """Why, in words."""


class Table(Protocol):
    """The table behind an answer, as a card needs it; `Observations` has these attributes."""

    @property
    def source(self) -> str:
        """Path or name of the table."""

    @property
    def sha256(self) -> str:
        """Of the file; empty where there is none."""

    @property
    def exclusions(self) -> Sequence[LeftOutRow]:
        """Every row that was left out."""

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader must know about the table."""

    def __len__(self) -> int:
        """Number of rows that the answer rests on."""


class CodedWarning(Protocol):
    """A warning with a short code that a program can test for; `FitWarning` is one."""

    @property
    def code(self) -> str:
        """Such as 'at_bound'."""

    @property
    def text(self) -> str:
        """One sentence for people."""


@dataclass(frozen=True, kw_only=True)
class CardWarning:
    """A warning of an engine that has no type of its own for them."""

    code: str
    text: str


def card(kind: str, table: Table, warnings: Iterable[CodedWarning] = (), /, **body: Any) -> dict[str, Any]:
    """The card of one answer: the common head, then `body`.

    Args:
        kind: What the card is of: 'fit', 'gain', 'isoflop', 'compare', 'downstream', 'design', 'report', ...
        table: What the answer rests on. Its own warnings come first, with the code 'table'.
        warnings: Those of the engine, with their codes.
        body: The keys of this kind. A key that ends in `_ci95` may hold a `ConfidenceInterval`, which is written by
            `ends`; other values are taken as they are and must be plain JSON.

    Returns:
        A dict that `text` can write.

    Raises:
        ValueError: A key of `body` is one of the head's.

    Example:
        >>> from types import SimpleNamespace
        >>> class Rows(SimpleNamespace):
        ...     def __len__(self):
        ...         return 12
        >>> rows = Rows(source="runs.csv", sha256="", exclusions=[], warnings=["two rows are equal"])
        >>> made = card("gain", rows, value=1.4, value_ci95=ConfidenceInterval(1.1, float("inf")))
        >>> made["n"], made["warnings"], made["value_ci95"]
        (12, [{'code': 'table', 'text': 'two rows are equal'}], [1.1, None])
    """
    made: dict[str, Any] = {
        "format": FORMAT,
        "kind": kind,
        "source": table.source,
        "sha256": table.sha256,
        "n": len(table),
        "exclusions": [{"row": one.row, "rule": one.rule, "reason": one.reason} for one in table.exclusions],
        "warnings": [
            *({"code": "table", "text": text} for text in table.warnings),
            *({"code": one.code, "text": one.text} for one in warnings),
        ],
    }
    twice = sorted(set(made) & set(body))
    if twice:
        raise ValueError(f"{', '.join(twice)} in the body of a {kind} card: these keys belong to its head")
    for key, value in body.items():
        made[key] = ends(value) if isinstance(value, ConfidenceInterval) else value
    return made


def ends(interval: Sequence[float] | None) -> list[float | None] | None:
    """An interval as [lower, upper], null at an infinite end; None where there is no interval."""
    return None if interval is None else [finite(end) for end in interval]


def finite(value: float | None) -> float | None:
    """The number, or None where it is infinite or not a number, which JSON cannot write."""
    return float(value) if value is not None and math.isfinite(value) else None


def text(content: dict[str, Any]) -> str:
    """The JSON as it is written to a file or a terminal. Raises ValueError for infinity and not-a-number."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
