"""What becomes of rows without usable text: refused with file and row, or left out and counted (`on_bad_rows`).

Readers yield a `BadRow` in the place of a text, and go on; `RowPolicy` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memscale.config.data import Hub, TextFiles
from memscale.errors import DataError

MOST_REASONS = 20
"""Reasons that are counted apart; further ones are counted together."""


@dataclass(frozen=True)
class BadRow:
    """A row without usable text."""

    reason: str
    """In a few words that are the same for many rows, such as 'not UTF-8'."""
    detail: str = ""
    """What to add in a message about this row alone."""


@dataclass(frozen=True, kw_only=True)
class SkippedRows:
    """The rows of a source that were left out for one reason."""

    reason: str
    num_rows: int
    first: str
    """Where the first of them is."""

    def __str__(self) -> str:
        """A phrase such as '12 not UTF-8 (the first: a.jsonl, line 3)'."""
        return f"{self.num_rows:,} {self.reason} (the first: {self.first})"


class RowPolicy:
    """Passes texts on, and refuses or counts bad rows, as the source says. One object for one pass over the rows."""

    def __init__(self, source: TextFiles | Hub) -> None:
        """Follow `source.on_bad_rows`."""
        self._name, self._skips = source.name, source.on_bad_rows == "skip"
        self._skipped: dict[str, SkippedRows] = {}

    def texts(self, rows: Iterable[str | BadRow], where: str, unit: str) -> Iterator[str]:
        """Yield the texts of `rows`, which are numbered from 1 in messages: '{where}, {unit} 3'. Raises DataError."""
        for number, row in enumerate(rows, start=1):
            if isinstance(row, str):
                yield row
                continue
            if not self._skips:
                raise DataError(
                    f"source '{self._name}': {where}, {unit} {number}: {row.reason}{row.detail}. Mend it, or set "
                    f"data.sources.{self._name}.on_bad_rows: skip, which leaves such rows out and counts them"
                )
            self._count(row, f"{where}, {unit} {number}")

    def _count(self, row: BadRow, place: str) -> None:
        reason = row.reason if row.reason in self._skipped or len(self._skipped) < MOST_REASONS else "for other reasons"
        known = self._skipped.get(reason)
        num_rows = 1 if known is None else known.num_rows + 1
        first = place if known is None else known.first
        self._skipped[reason] = SkippedRows(reason=reason, num_rows=num_rows, first=first)

    def skipped(self) -> tuple[SkippedRows, ...]:
        """Return what was left out so far, by reason."""
        return tuple(self._skipped.values())
