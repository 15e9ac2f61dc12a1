"""A table's columns as they were written, and where each row stands in its source.

Text becomes numbers only on demand, whole columns at once. Refuses text where a number is needed, by row; says what
the text looks like, where that helps: thousands separators, a decimal comma.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute as compute

from analysis.errors import TableError

EMPTY = frozenset({"", "nan", "na", "n/a", "none", "null"})
"""Words (in small letters) that stand for no value."""
GROUPED = r"^[+-]?\d{1,3}([,.' ]\d{3})+(\.\d*)?$"


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """Columns, not yet checked."""

    name: str
    """The file's path, or what else the table came from."""
    kind: str
    """csv, tsv, jsonl, ndjson, parquet or mlflow."""
    sha256: str
    """Of the file's bytes; '' where there is no file."""
    columns: tuple[str, ...]
    num_rows: int
    table: Any = field(repr=False)
    """The pyarrow table (pyarrow ships no types)."""
    content: bytes = field(default=b"", repr=False)
    """Of a text file: to find the line of a row."""
    separator: str = ""
    thousands: str = ""
    """What may part the digits of a number, such as ','; '' for nothing."""
    labels: tuple[str, ...] = field(default=(), repr=False)
    """A name for each row, where the source has no lines."""

    def place(self, row: int) -> str:
        """Where a row (from 0) stands, as a person counts: 'row 5 (line 6 of the file)', rows below the header."""
        if self.labels:
            return f"row {row + 1} ({self.labels[row]})"
        line = self._line(row) if self.content else None
        return f"row {row + 1}" + (f" (line {line} of the file)" if line else "")

    def _line(self, row: int) -> int | None:
        words = io.StringIO(self.content.decode(), newline="")
        if self.kind in ("jsonl", "ndjson"):
            lines = (number for number, line in enumerate(words.read().split("\n"), start=1) if line.strip())
        else:
            reader = csv.reader(words, delimiter=self.separator)
            lines = (reader.line_num for values in reader if values)
            next(lines, None)
        return next((line for at, line in enumerate(lines) if at == row), None)

    def text(self, column: str) -> tuple[str, ...]:
        """A column as text, '' where it is empty."""
        values = self.table.column(column).to_pylist()
        return tuple("" if value is None else str(value).strip() for value in values)

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """A column as numbers, not-a-number where it is empty. Raises TableError with the row of the first text."""
        values, texts = self.parsed(column)
        for row, word in texts.items():
            raise TableError(f"{self.name}, {self.place(row)}, column '{column}': {self.not_a_number(word)}")
        return values

    def parsed(
        self, column: str, rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
        """Some rows (from 0; default all) of a column as numbers, and the text of those rows that hold no number.

        Not-a-number stands where a row is empty and where it holds text.
        """
        data = self.table.column(column)
        if rows is not None:
            data = data.take(pyarrow.array(rows))
        types = pyarrow.types
        if types.is_dictionary(data.type):
            data = data.cast(data.type.value_type)
        kind = data.type
        if types.is_null(kind):
            return np.full(len(data), np.nan), {}
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
            return _array(compute.cast(data, pyarrow.float64(), safe=False)), {}
        if not (types.is_string(kind) or types.is_large_string(kind)):
            data = pyarrow.chunked_array([[None if one is None else str(one) for one in data.to_pylist()]])
        words = self._words(data)
        try:
            return _array(compute.cast(words, pyarrow.float64())), {}
        except pyarrow.ArrowInvalid:
            return _one_by_one(words, rows)

    def _words(self, data: Any) -> Any:
        """Text without blanks around it and, where they are allowed, without thousands separators; null if empty."""
        words = compute.utf8_trim_whitespace(data)
        empty = compute.is_in(compute.utf8_lower(words), value_set=pyarrow.array(sorted(EMPTY)))
        words = compute.if_else(empty, pyarrow.scalar(None, words.type), words)
        if self.thousands:
            pattern = rf"^[+-]?\d{{1,3}}({re.escape(self.thousands)}\d{{3}})+(\.\d*)?$"
            grouped = compute.match_substring_regex(words, pattern)
            words = compute.if_else(grouped, compute.replace_substring(words, self.thousands, ""), words)
        return words

    def not_a_number(self, word: str) -> str:
        """What is wrong with a text in place of a number, and what to do where that is known."""
        shown = word if len(word) <= 40 else word[:37] + "..."
        said = f"'{shown}' is text; a number is needed"
        if re.match(GROUPED, word):
            mark = next(mark for mark in word.lstrip("+-") if not mark.isdigit())
            return f'{said}. It seems to have thousands separators: remove them, or allow them (--thousands "{mark}")'
        if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", word):
            return f"{said}. It seems to have a decimal comma: write a point"
        return said


def _array(data: Any) -> npt.NDArray[np.float64]:
    return np.array(data.to_numpy(), dtype=np.float64)


def _one_by_one(words: Any, rows: npt.NDArray[np.int64] | None) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
    values = np.full(len(words), np.nan)
    texts: dict[int, str] = {}
    for at, word in enumerate(words.to_pylist()):
        if word is None:
            continue
        try:
            values[at] = float(word)
        except ValueError:
            texts[at if rows is None else int(rows[at])] = word
    return values, texts
