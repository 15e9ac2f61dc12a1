"""Bytes to columns: CSV, Parquet and JSON-lines files as they are, turned into numbers column by column.

Decides nothing about runs, and guesses no types: a column of a CSV file is text until somebody asks for numbers.
Refuses files that are absent, empty, of another kind, encoding or separator, or damaged, columns named twice, and text
where a number is asked for, by row and by the line of the file where it stands.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from analysis.errors import TableError
from analysis.tables.json_lines import read_json_lines
from analysis.tables.raw import RawTable

__all__ = ["RawTable", "read_raw"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
KINDS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
NEEDED = "a .parquet, .csv, .tsv or .jsonl file (the last three also as .gz)"
OTHER_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'", ",": "','"}
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_raw(path: Path, *, separator: str | None = None, thousands: str = "") -> RawTable:
    """Read a table file; `separator` is a CSV file's (default: by the file's ending), `thousands` the mark inside its
    numbers (default: none is allowed). Raises TableError."""
    kind = _kind(path)
    stored = _content(path)
    content = _unpacked(path, stored)
    if kind == ".parquet":
        table = _parquet(path, content)
    else:
        content = content.removeprefix(UTF8_MARK)
        words = _decoded(path, content)
        if not words.strip():
            raise TableError(f"{path} holds blank lines only")
        if kind in SEPARATORS:
            table = _csv(path, content, words, separator or SEPARATORS[kind])
        else:
            table = read_json_lines(path, words)
    names = [str(name).strip() for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path} has the column '{twice[0]}' more than once. Rename or remove one of them")
    return RawTable(
        name=str(path),
        kind=kind[1:],
        sha256=hashlib.sha256(stored).hexdigest(),
        columns=tuple(names),
        num_rows=int(table.num_rows),
        table=table.rename_columns(names),
        content=b"" if kind == ".parquet" else content,
        separator=separator or SEPARATORS.get(kind, ""),
        thousands=thousands,
    )


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


def _parquet(path: Path, content: bytes) -> Any:
    try:
        return pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OSError) as error:
        raise TableError(f"{path} cannot be read as parquet: {str(error).splitlines()[0]}") from None


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


def _csv(path: Path, content: bytes, words: str, separator: str) -> Any:
    """Every column as text: what is a number is decided by who asks, never guessed."""
    header = _header(path, words, separator)
    options = pyarrow.csv.ConvertOptions(
        column_types={name: pyarrow.string() for name in header}, strings_can_be_null=False
    )
    parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    # One block holds the header and at least one row of any sensible table.
    read = pyarrow.csv.ReadOptions(block_size=1 << 24)
    try:
        return pyarrow.csv.read_csv(
            pyarrow.BufferReader(content), read_options=read, parse_options=parse, convert_options=options
        )
    except pyarrow.ArrowInvalid as error:
        ragged = _ragged(words, separator)
        raise TableError(f"{path}{ragged or ' cannot be read as csv: ' + str(error).splitlines()[0]}") from None


def _header(path: Path, words: str, separator: str) -> list[str]:
    """The names in the first line. Refuses a line that another separator would part."""
    header = next((row for row in csv.reader(io.StringIO(words, newline=""), delimiter=separator) if row), [])
    if len(header) == 1:
        for other, name in OTHER_SEPARATORS.items():
            if other != separator and other in header[0]:
                raise TableError(
                    f"{path} has one column, '{_short(header[0])}': it is separated by {name}, and was read with"
                    f" {OTHER_SEPARATORS.get(separator, repr(separator))}. Save it with commas, or give the separator"
                    f" (--separator {name if name != 'tabs' else 'tab'})"
                )
    return header


def _ragged(words: str, separator: str) -> str:
    """Where the first row stands that has more or fewer values than the header, in words; '' where none has."""
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
            return f" cannot be read as csv: line {reader.line_num} has {len(values)} values, the header {width}{more}"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
