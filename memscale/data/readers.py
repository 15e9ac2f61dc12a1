"""Reads rows of text from .txt, .jsonl, .jsonl.gz and .parquet files: UTF-8 whatever the locale, one column only.

A row without usable text is yielded as a `BadRow`, and reading goes on. Rows, their depth and the memory that they take
are bounded, so that no file can crash a reader. Refuses files that cannot be read as what they are called.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from memscale.data.bad_rows import BadRow
from memscale.errors import nearest, one_line

LONGEST_ROW_BYTES = 64 << 20
"""Of a row of .jsonl; a line of .txt is read in parts of this size."""
MOST_DEPTH = 100
"""Levels of nesting of a JSON row; parsers that recurse need a bound, whatever column is asked for."""
_ROWS_AT_ONCE = 256
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\(?:.|\Z)[^"\\]*)*(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
"""A string, closed or not, or a bracket. It matches at every quote, so that no content is gone through twice."""


class UnreadableError(Exception):
    """A file that cannot be read as what it is called; the caller knows which."""


def lines(path: Path) -> Iterator[str | BadRow]:
    """Yield the lines of a text file with their line ends, which become a single newline."""
    with open(path, "rb") as file:
        held = b""
        while part := held + (read := file.readline(LONGEST_ROW_BYTES)):
            held = b""
            if read and not read.endswith(b"\n"):  # the last line, or a part of a longer one
                part, held = _whole_characters(part)
            text = _decoded(part)
            if isinstance(text, BadRow):
                yield text
            else:
                yield from _split(text)


def json_rows(path: Path, column: str) -> Iterator[str | BadRow]:
    """Yield the value of `column` of every row of a .jsonl or .jsonl.gz file; blank lines are no rows.

    Raises UnreadableError where a compressed file is damaged.
    """
    decoder = json.JSONDecoder(parse_int=float, parse_constant=float)  # numbers of any length
    with gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb") as file:
        try:
            for number, line in enumerate(_bounded_lines(cast(IO[bytes], file))):
                if line is None:
                    yield BadRow(f"longer than {LONGEST_ROW_BYTES >> 20} MiB")
                else:
                    yield _json_text(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line, column, decoder)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableError(one_line(str(error))) from None


def parquet_rows(path: Path, column: str) -> Iterator[str | BadRow]:
    """Yield the values of `column` of a .parquet file; no other column is read.

    Raises UnreadableError where the file is damaged, or has no such column of text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:  # a path would be taken apart where it has '::' in it
            table = pq.ParquetFile(file)
            names = table.schema_arrow.names
            if column not in names:
                raise UnreadableError(no_column(column, names))
            kind = table.schema_arrow.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UnreadableError(
                    f"the column '{column}' holds {kind}, not text; set text_column to the one that holds the text"
                )
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column]):
                values = batch.column(0)
                values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
                for raw in values.cast(pa.large_binary()).to_pylist():
                    yield _decoded(raw) if raw is not None else BadRow("null in the place of text")
    except (pa.ArrowException, OSError, MemoryError, OverflowError, ValueError) as error:
        raise UnreadableError(one_line(str(error))) from None


def no_column(column: str, names: Any) -> str:
    """Return a message about a row or file without the column that holds the text."""
    shown = one_line(", ".join(f"{name}"[:60] for name in list(names)[:20]))
    near = nearest(column, [one_line(str(name)) for name in names])
    return f"has no column '{column}'; it has {shown}.{near} Set text_column to the right one"


def text_of(row: dict[str, object], column: str) -> str | BadRow:
    """Return the text of a row that was read, or what is wrong with it."""
    if column not in row:
        return BadRow(f"no column '{column}'", f"; it {no_column(column, row).partition('; it ')[2]}")
    text = row[column]
    if text is None:
        return BadRow("null in the place of text", f" in '{column}'")
    if not isinstance(text, str):
        kind = {bool: "true or false", float: "a number", int: "a number", list: "a list", dict: "an object"}
        held = kind.get(type(text), type(text).__name__)
        return BadRow(f"{held} in the place of text", f" in '{column}'; text_column says which column holds the text")
    if not text.isascii() and re.search("[\ud800-\udfff]", text):
        return BadRow("half of a surrogate pair in its text", ", which is not Unicode")
    return text


def too_deep(content: bytes) -> bool:
    """Whether JSON is nested deeper than MOST_DEPTH; what stands in strings does not count."""
    if content.count(b"[") + content.count(b"{") <= MOST_DEPTH:
        return False
    depth = 0
    for found in _BRACKETS.finditer(content):
        first = content[found.start()]
        if first != 0x22:  # a string
            depth += 1 if first in b"[{" else -1
            if depth > MOST_DEPTH:
                return True
    return False


def refuse_deep_json(path: Path) -> None:
    """Raise UnreadableError for a .json or .jsonl file, compressed or not, that nests deeper than MOST_DEPTH."""
    with gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb") as file:
        try:
            for number, line in enumerate(_bounded_lines(cast(IO[bytes], file)), start=1):
                if line is None or too_deep(line):
                    what = f"longer than {LONGEST_ROW_BYTES >> 20} MiB" if line is None else "nested too deep"
                    raise UnreadableError(f"line {number} is {what} to be parsed safely")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableError(one_line(str(error))) from None


def _json_text(line: bytes, column: str, decoder: json.JSONDecoder) -> str | BadRow:
    if not line.strip():
        return ""
    if too_deep(line):
        return BadRow(f"nested deeper than {MOST_DEPTH} levels")
    decoded = _decoded(line)
    if isinstance(decoded, BadRow):
        return decoded
    try:
        row = decoder.decode(decoded)
    except (ValueError, RecursionError) as error:
        return BadRow("not JSON", f" ({error})")
    return text_of(row, column) if isinstance(row, dict) else BadRow("not an object with keys", "; a row is {...}")


def _bounded_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines; None for one that is too long."""
    while line := file.readline(LONGEST_ROW_BYTES):
        if len(line) < LONGEST_ROW_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_ROW_BYTES)
        yield None


def _decoded(raw: bytes) -> str | BadRow:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow(
            "not UTF-8", f" (the byte 0x{raw[error.start]:02x} at {error.start:,}); convert the file to UTF-8"
        )


def _whole_characters(part: bytes) -> tuple[bytes, bytes]:
    """Cut before a character, or a line end of two bytes, whose last bytes may follow."""
    for back in range(1, min(3, len(part) - 1) + 1):
        byte = part[-back]
        if byte >= 0xC0:  # the first byte of a character of several
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return (part[:-back], part[-back:]) if back < needs else (part, b"")
        if byte < 0x80:
            break
    return (part[:-1], part[-1:]) if part.endswith(b"\r") and len(part) > 1 else (part, b"")


def _split(text: str) -> Iterator[str]:
    """Yield the lines of a text, which end as in Unix, Windows or old Mac files, with one newline each."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    *whole, last = text.split("\n")
    yield from (f"{line}\n" for line in whole)
    if last:
        yield last
