"""Bytes to columns: CSV and Parquet files as text, turned into numbers column by column.

Decides nothing about runs. Refuses files that are absent, empty, of another kind or damaged, columns named twice, and
text where a number is asked for, by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from analysis.errors import TableError

EMPTY = frozenset({"", "nan", "na", "n/a", "none", "null"})
"""Words (in small letters) that stand for no value in a CSV file."""


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A file's columns, not yet checked."""

    path: Path
    columns: tuple[str, ...]
    num_rows: int
    table: Any
    """The pyarrow table (pyarrow ships no types)."""

    def text(self, column: str) -> tuple[str, ...]:
        """A column as text, '' where it is empty."""
        values = self.table.column(column).to_pylist()
        return tuple("" if value is None else str(value).strip() for value in values)

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """A column as numbers, not-a-number where it is empty. Raises TableError with the row of the first text."""
        data = self.table.column(column)
        kind = data.type
        types = pyarrow.types
        if types.is_null(kind):
            return np.full(self.num_rows, np.nan)
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            cast = pyarrow.compute.cast(data, pyarrow.float64(), safe=False)
            return np.array(cast.to_numpy(), dtype=np.float64)
        values = np.full(self.num_rows, np.nan)
        for row, word in enumerate(self.text(column)):
            if word.lower() not in EMPTY:
                values[row] = self._number(word, row, column)
        return values

    def _number(self, word: str, row: int, column: str) -> float:
        try:
            return float(word)
        except ValueError:
            shown = word if len(word) <= 40 else word[:37] + "..."
            raise TableError(
                f"{self.path}, row {row + 1}, column '{column}': '{shown}' is text; a number is needed"
            ) from None


def read_raw(path: Path) -> RawTable:
    """Read a .parquet or .csv file. Raises TableError."""
    if not path.exists():
        raise TableError(f"{path} does not exist. Give the results table of a sweep (.parquet or .csv)")
    if not path.is_file():
        raise TableError(f"{path} is a folder; give the results table itself (.parquet or .csv)")
    if path.suffix not in (".parquet", ".csv"):
        raise TableError(f"{path} ends in '{path.suffix}'; a results table is a .parquet or a .csv file")
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty (0 bytes)")
    try:
        table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OSError) as error:
        raise TableError(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from None
    names = [str(name) for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path} has the column '{twice[0]}' more than once")
    return RawTable(path=path, columns=tuple(names), num_rows=int(table.num_rows), table=table)


def _read_csv(path: Path) -> Any:
    """Every column as text: what is a number is decided by the column's name, never guessed."""
    first = pyarrow.csv.open_csv(path)
    types = {name: pyarrow.string() for name in first.schema.names}
    first.close()
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    return pyarrow.csv.read_csv(path, convert_options=options)
