"""Cells of a DataFrame as numbers or text, and where each row is in its source.

A table that `read` made has the index `row` (counted from 1 below the header) and `attrs` hold how it was written:
source, sha256, separator, decimal, thousands, sheet. The line of a row in its file is looked up only for an error.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
from pyarrow import compute

from analysis.errors import TableError
from analysis.tables.excel import read_excel

FloatArray = npt.NDArray[np.float64]

EMPTY = ("", "nan", "na", "n/a", "none", "null")
"""Words (in lower case) that mean no value."""
MLFLOW = "mlflow:"
"""Start of the source of an MLflow experiment."""
ROW = "row"
GROUPED = r"[+-]?\d{1,3}([,.' ]\d{3})+(\.\d*)?"
DECIMAL_COMMA = r"[+-]?\d+,\d+([eE][+-]?\d+)?"


def source(table: pd.DataFrame) -> str:
    """The file's path or the experiment, for errors."""
    return str(table.attrs.get("source") or "the DataFrame")


def place(table: pd.DataFrame, at: int) -> str:
    """Where the row at a position (from 0) is, as a person counts: 'row 5 (line 6 of the file)'."""
    row = int(table.index[at])
    if source(table).startswith(MLFLOW) and {"run_name", "run_id"} <= set(table.columns):
        return f"row {row} (run '{table['run_name'].iloc[at]}', {table['run_id'].iloc[at]})"
    return f"row {row}{_line(table, row)}"


def not_a_number(table: pd.DataFrame, at: int, column: str) -> TableError:
    """The error for the text at a position: where it is, what is wrong, and what to do if that is known."""
    word = text(table[column])[at]
    return TableError(f"{source(table)}, {place(table, at)}, column '{column}': {text_for_number(word)}")


def text_for_number(word: str) -> str:
    """What is wrong with a text where a number is needed."""
    shown = word if len(word) <= 40 else word[:37] + "..."
    message = f"'{shown}' is text; a number is needed"
    if re.fullmatch(GROUPED, word):
        mark = next(mark for mark in word.lstrip("+-") if not mark.isdigit())
        return f'{message}. It seems to have thousands separators: remove them, or allow them (--thousands "{mark}")'
    if re.fullmatch(DECIMAL_COMMA, word):
        return f"{message}. It seems to have a decimal comma: write a point, or allow it (--decimal ,)"
    return message


def text(column: pd.Series) -> npt.NDArray[np.object_]:
    """A column as text without blanks around it, '' where it is empty; whole numbers without a decimal point."""
    if pd.api.types.is_float_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        words = ["" if np.isnan(one) else f"{one:.0f}" if one == round_(one) else repr(one) for one in values.tolist()]
    else:
        words = ["" if is_missing(one) else str(one).strip() for one in column.tolist()]
    return np.array(words, dtype=object)


def round_(value: float) -> float:
    """The whole number that a float is, not-a-number where it is none that is written without an exponent."""
    return float(round(value)) if abs(value) < 1e15 else np.nan


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, not-a-number, NA or NaT."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def numbers(column: pd.Series, *, thousands: str = "", decimal: str = ".") -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """A column as numbers, and which of its rows hold text that is none.

    Empty cells and text become not-a-number. Whole numbers too large for a float are infinite.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(len(column), dtype=bool)
    plain = _plain(column) if not thousands and decimal == "." else None
    if plain is not None:
        return plain, np.zeros(len(column), dtype=bool)
    words = pd.Series(text(column), dtype=object)
    empty = words.str.lower().isin(EMPTY).to_numpy(dtype=bool)
    if thousands:
        whole, part = rf"[+-]?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+", rf"(?:{re.escape(decimal)}\d*)?"
        grouped = words.str.fullmatch(whole + part)
        words = words.where(~grouped.astype(bool), words.str.replace(thousands, "", regex=False))
    if decimal != ".":
        comma = words.str.fullmatch(rf"[+-]?\d*{re.escape(decimal)}?\d*(?:[eE][+-]?\d+)?")
        words = words.where(~comma.astype(bool), words.str.replace(decimal, ".", regex=False))
    parsed = pd.to_numeric(words.where(~empty, "nan"), errors="coerce")
    if parsed.dtype == object:  # a whole number of more than 64 bits
        parsed = parsed.map(float_or_infinity)
    values = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
    said_nan = words.str.fullmatch(r"[+-]?nan", case=False).to_numpy(dtype=bool)
    return values, np.isnan(values) & ~empty & ~said_nan


def _plain(column: pd.Series) -> FloatArray | None:
    """A column of text as numbers, all at once; None where some cell is neither a plain number nor blank."""
    try:
        words = compute.utf8_trim_whitespace(pyarrow.array(column, pyarrow.string(), from_pandas=True))
        filled = compute.if_else(compute.equal(words, ""), pyarrow.scalar(None, pyarrow.string()), words)
        values = compute.cast(filled, pyarrow.float64()).to_numpy(zero_copy_only=False)
    except pyarrow.ArrowException:
        return None
    return np.array(values, dtype=np.float64)


def float_or_infinity(value: float) -> float:
    """A number as a float; infinite where it has more digits than a float can hold."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def column_numbers(table: pd.DataFrame, column: str) -> FloatArray:
    """A column of a table as numbers, not-a-number where empty. Raises TableError with the row of a text."""
    values, is_text = parsed(table, column)
    for at in np.flatnonzero(is_text):
        raise not_a_number(table, int(at), column)
    return values


def parsed(table: pd.DataFrame, column: str) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """`numbers` of a column, with the marks that the table was read with."""
    marks = {name: str(table.attrs.get(name) or default) for name, default in (("thousands", ""), ("decimal", "."))}
    return numbers(table[column], **marks)


def _line(table: pd.DataFrame, row: int) -> str:
    """' (line 6 of the file)' for the row with this number; '' where the source has no lines."""
    path = Path(str(table.attrs.get("source", "")))
    kind = str(table.attrs.get("kind", ""))
    if kind == "xlsx" and path.is_file():
        rows = read_excel(path, path.read_bytes(), str(table.attrs["sheet"]) or None).index
        return f" (row {rows[row - 1]} of the sheet)" if row <= len(rows) else ""
    if kind not in ("csv", "tsv", "jsonl", "ndjson") or not path.is_file():
        return ""
    content = path.read_bytes()
    words = (gzip.decompress(content) if path.suffix == ".gz" else content).decode(errors="replace")
    lines = _json_lines(words) if kind in ("jsonl", "ndjson") else _csv_lines(words, table)
    line = next((line for number, line in enumerate(lines, start=1) if number == row), None)
    return "" if line is None else f" (line {line} of the file)"


def _json_lines(words: str) -> Iterator[int]:
    return (number for number, line in enumerate(words.split("\n"), start=1) if line.strip())


def _csv_lines(words: str, table: pd.DataFrame) -> Iterator[int]:
    reader = csv.reader(io.StringIO(words, newline=""), delimiter=str(table.attrs.get("separator") or ","))
    lines = (reader.line_num for values in reader if values)
    next(lines, None)
    return lines


def nested_as_text(value: object) -> object:
    """A list or object of a JSON line as its JSON; anything else as it is."""
    return json.dumps(value) if isinstance(value, list | dict) else value
