"""`read`: a CSV, TSV, JSON-lines, Parquet or Excel file, or an MLflow experiment, as a DataFrame.

Column names stay as the source has them. A column of a text file is numeric where every value is a number or empty,
else text: a single word in a column of numbers is found, by row and line, when the column is used. Columns that name
runs (`NAMES`) and columns that the caller lists are text whatever they hold: '1e+14', '007' and 'NA' stay as written.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from analysis.errors import TableError
from analysis.tables import mlflow
from analysis.tables.cells import DECIMAL_COMMA, MLFLOW, ROW, numbers
from analysis.tables.excel import read_excel
from analysis.tables.json_lines import read_json_lines

SEPARATORS = {".csv": ",", ".tsv": "\t"}
KINDS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".xlsx")
NEEDED = "a .parquet, .csv, .tsv, .jsonl or .xlsx file (all but .parquet and .xlsx also as .gz)"
NAMES = ("run_id", "run_name", "name")
"""Columns that are always text: an id such as 12345678e901 would become an infinite number."""
OTHER_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'", ",": "','"}
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read(
    source: str | Path,
    *,
    separator: str | None = None,
    decimal: str = ".",
    thousands: str = "",
    sheet: str | None = None,
    text: Collection[str] = (),
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    r"""Read a table of runs from a file or an MLflow experiment.

    Args:
        source: Path of a .csv, .tsv, .jsonl, .ndjson (these also as .gz), .parquet or .xlsx file, or
            `mlflow:EXPERIMENT`.
        separator: Character between the values of a .csv file (default ',').
        decimal: Decimal mark of a text file; ',' for 3,14.
        thousands: Mark inside the numbers of a text file, as ',' in 1,000; by default none is allowed.
        sheet: Name of a sheet of an .xlsx file; needed where it has several.
        text: Further columns that are text as the file writes it, even where every value is a number or 'NA', such as
            a family. A Parquet file has types of its own, and so has a cell of a workbook that holds a number.
        tracking_uri: MLflow's store (default: MLFLOW_TRACKING_URI).

    Returns:
        The table, its columns named as in the source, its index named 'row' and counted from 1 below the header.
        `attrs` holds the source and the file's sha256.

    Raises:
        TableError: The file is absent, empty, damaged, of another kind, encoding or separator, or names a column
            twice; names file and line.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("runs.csv").write_text("N,D,loss\n1e7,2e8,4.1\n1e8,2e9,3.3\n")
        >>> table = read("runs.csv")
        >>> print(table)
                       N             D  loss
        row
        1     10000000.0  2.000000e+08   4.1
        2    100000000.0  2.000000e+09   3.3
        >>> table.attrs["source"]
        'runs.csv'
    """
    if str(source).startswith(MLFLOW):
        return mlflow.read_experiment(str(source).removeprefix(MLFLOW), tracking_uri=tracking_uri)
    if not isinstance(source, str | Path):
        raise TableError(f"read takes the path of a file; given {type(source).__name__}, which needs no reading")
    path = Path(source)
    kind = _kind(path)
    stored = _content(path)
    as_text = {*NAMES, *text}
    marks = {"decimal": decimal, "thousands": thousands, "separator": separator or SEPARATORS.get(kind, "")}
    if kind == ".parquet":
        table = _parquet(path, stored)
    elif kind == ".xlsx":
        table = read_excel(path, stored, sheet)
    else:
        words = _decoded(path, _unpacked(path, stored).removeprefix(UTF8_MARK))
        if not words.strip():
            raise TableError(f"{path} holds blank lines only")
        table = _csv(path, words, as_text, **marks) if kind in SEPARATORS else read_json_lines(path, words, as_text)
    names = [str(name).strip() for name in table.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path} has the column '{twice[0]}' more than once. Rename or remove one of them")
    table.columns = pd.Index(names)
    table.index = pd.RangeIndex(1, len(table) + 1, name=ROW)
    table.attrs |= {"source": str(path), "sha256": hashlib.sha256(stored).hexdigest(), "kind": kind[1:]} | marks
    table.attrs |= {"sheet": sheet or ""}
    return table


def _kind(path: Path) -> str:
    if not path.exists():
        raise TableError(f"{path} does not exist. Give a table: {NEEDED}")
    if not path.is_file():
        raise TableError(f"{path} is a folder; give the table itself: {NEEDED}")
    kind = (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()
    if kind not in KINDS:
        raise TableError(f"{path} ends in '{path.suffix}'; a table is {NEEDED}")
    return kind


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    if not content:
        raise TableError(f"{path} is empty (0 bytes)")
    return content


def _unpacked(path: Path, content: bytes) -> bytes:
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise TableError(f"{path} cannot be unpacked: {error}. It is no gzip file, or it was cut short") from None


def _parquet(path: Path, content: bytes) -> pd.DataFrame:
    try:
        # Through pyarrow, since pandas would hide the columns that a pandas user had as the index.
        stored = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
        table: pd.DataFrame = stored.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None
    return table


def _decoded(path: Path, content: bytes) -> str:
    """The text of a file; refuses any encoding but UTF-8."""
    if content.startswith(UTF16_MARKS):
        raise TableError(f"{path} is written in UTF-16; save it as UTF-8")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8. Save the file as UTF-8"
        ) from None


def _csv(
    path: Path, words: str, as_text: Collection[str], *, separator: str, decimal: str, thousands: str
) -> pd.DataFrame:
    header = _header(path, words, separator)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row that is longer than the header
            table = pd.read_csv(
                io.StringIO(words, newline=""), sep=separator, dtype=str, keep_default_na=False, index_col=False
            )
        reason = ""
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        table, reason = pd.DataFrame(), str(error).splitlines()[0]
    # pandas fills up lines that are too short: only they and lines that end in an empty value end in ''.
    if not reason and (table.iloc[:, -1] == "").any():
        reason = _ragged(words, separator)
    if reason:
        raise TableError(f"{path} cannot be read as csv: {_ragged(words, separator) or reason}")
    table.columns = pd.Index(header)
    marks = {"thousands": thousands, "decimal": decimal}
    parts = [table.iloc[:, at] for at in range(table.shape[1])]
    columns = [part.str.strip() if str(part.name).strip() in as_text else _numeric(part, **marks) for part in parts]
    return pd.concat(columns, axis=1)


def _numeric(column: pd.Series, *, thousands: str, decimal: str) -> pd.Series:
    """A column of text as numbers if every value is a number or empty, whole numbers as integers; else stripped."""
    values, is_text = numbers(column, thousands=thousands, decimal=decimal)
    named = column.str.fullmatch(r"\s*0\d+\s*").to_numpy(dtype=bool)  # a name such as 007
    if is_text.any() or named.any() or np.isnan(values).all():
        return column.str.strip()
    whole = bool((np.abs(values) < 2**53).all()) and column.str.fullmatch(r"\s*[+-]?\d+\s*").to_numpy(dtype=bool).all()
    return pd.Series(values.astype(np.int64) if whole else values, name=column.name, index=column.index)


def _header(path: Path, words: str, separator: str) -> list[str]:
    """The names in the first line. Refuses a line that another separator would part."""
    rows = (row for row in csv.reader(io.StringIO(words, newline=""), delimiter=separator) if row)
    header = next(rows, [])
    if len(header) == 1:
        for other, name in OTHER_SEPARATORS.items():
            if other != separator and other in header[0]:
                values = separator.join(next(rows, [])).split(other)
                comma = any(pd.Series(values).str.strip().str.fullmatch(DECIMAL_COMMA)) and other != ","
                raise TableError(
                    f"{path} has one column, '{_short(header[0])}': it is separated by {name}, and was read with"
                    f" {OTHER_SEPARATORS.get(separator, repr(separator))}. Save it with commas, or give the separator"
                    f" (--separator {name if name != 'tabs' else 'tab'}{' --decimal ,' if comma else ''})"
                )
    return header


def _ragged(words: str, separator: str) -> str:
    """Where the first row is that has more or fewer values than the header, in words; '' where none has."""
    reader = csv.reader(io.StringIO(words, newline=""), delimiter=separator)
    width = 0
    for values in reader:
        width = width or len(values)
        if values and len(values) != width:
            more = (
                ". A comma inside a number or a text parts it: put the value into quotes"
                if len(values) > width and separator == ","
                else ""
            )
            return f"line {reader.line_num} has {len(values)} values, the header {width}{more}"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
