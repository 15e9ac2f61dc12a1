"""The user's own .txt, .jsonl, .jsonl.gz and .parquet files as a source.

A row of a .jsonl or .parquet file is a document. A .txt file is cut into documents of about PIECE_BYTES at blank lines,
or at a line end where there is no blank line, so that some of it can be held out. Refuses patterns without a match,
empty files, other kinds of files and missing columns; rows without usable text are refused or left out, as the source
says. Bytes are read as UTF-8 whatever the locale.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from memscale.config.data import TextFiles
from memscale.data.bad_rows import BadRow, RowPolicy
from memscale.data.readers import UnreadableError, json_rows, lines, parquet_rows
from memscale.errors import DataError

ENDINGS = (".txt", ".jsonl", ".jsonl.gz", ".parquet")
"""File name endings, which decide how a file is read."""
PIECE_BYTES = 4_096
LONGEST_PIECE_BYTES = 16_384


def matched_files(source: TextFiles, shared_files: tuple[str, ...]) -> list[Path]:
    """Return the files of the source (`shared_files` where it names none), sorted by path, each once.

    Raises DataError, which names the pattern and the folder that it is relative to.
    """
    patterns = source.files or shared_files
    if not patterns:
        raise DataError(
            f"source '{source.name}' names no files. Give data.files (or data.sources.{source.name}.files): paths or "
            "patterns such as '../texts/*.txt'"
        )
    found: dict[str, Path] = {}
    for pattern in patterns:
        expanded = os.path.expanduser(pattern)
        if os.path.lexists(expanded):  # a name with brackets or a star in it
            paths = [Path(expanded)]
        else:
            paths = [Path(path) for path in glob.glob(expanded, recursive=True)]
            paths = [path for path in paths if not (path.is_dir() and _is_pattern(pattern))]
        if not paths:
            raise DataError(
                f"source '{source.name}': '{pattern}' matches no file (looked from {Path.cwd()}). "
                "Give an existing path or pattern in data.files"
            )
        for path in paths:
            _check(source, path)
            found[os.path.realpath(path)] = path
    return [found[key] for key in sorted(found)]


def kind_of(path: Path) -> str:
    """Return the ending that determines how a file is read, or '' for an unknown one."""
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(ending)), "")


def documents(source: TextFiles, shared_files: tuple[str, ...], policy: RowPolicy | None = None) -> Iterator[str]:
    """Yield the non-blank documents of all files, in order.

    Args:
        source: Where the text is, and what becomes of rows without any.
        shared_files: `data.files`, for a source that names none itself.
        policy: Counts the rows that are left out; None: nobody asks for their number.

    Raises:
        DataError: A file cannot be read, or a row of it holds no text and `on_bad_rows` is `refuse`.
    """
    policy = policy or RowPolicy(source)
    for path in matched_files(source, shared_files):
        is_text, kind = kind_of(path) == ".txt", kind_of(path)
        try:
            texts = policy.texts(_rows(path, source.text_column), str(path), "row" if kind == ".parquet" else "line")
            yield from pieces(texts) if is_text else (text for text in texts if text.strip())
        except (UnreadableError, OSError) as error:
            told = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise DataError(
                f"source '{source.name}': {path} cannot be read as {kind} ({told}). Repair the file, or leave it out "
                "of data.files"
            ) from None


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """Cut a text, given as lines with their line ends, into documents; only blank documents are dropped.

    Example:
        >>> lines = [f"line {i} of a text{chr(10)}" for i in range(2000)]
        >>> [len(piece) for piece in pieces(lines)]
        [16401, 16389, 6100]
    """
    held: list[str] = []
    num_bytes = 0
    for line in _of_bounded_length(lines):
        held.append(line)
        num_bytes += len(line.encode())
        if num_bytes >= LONGEST_PIECE_BYTES or (num_bytes >= PIECE_BYTES and not line.strip()):
            yield from _unless_blank(held)
            held, num_bytes = [], 0
    yield from _unless_blank(held)


def datasets_library() -> Any:
    """Import `datasets` where it is needed, as it is slow to import, and turn off progress bars and usage counting.

    Usage counting sends a request for every load, even of local files, which waits on a node without a network.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets


def _rows(path: Path, column: str) -> Iterator[str | BadRow]:
    kind = kind_of(path)
    return lines(path) if kind == ".txt" else (parquet_rows if kind == ".parquet" else json_rows)(path, column)


def _check(source: TextFiles, path: Path) -> None:
    if path.is_dir():
        raise DataError(f"source '{source.name}': {path} is a folder; name its files, such as '{path}/*.txt'")
    if not kind_of(path):
        raise DataError(
            f"source '{source.name}': {path} cannot be read; valid endings: {', '.join(ENDINGS)}. "
            "Convert it, or make the pattern in data.files narrower"
        )
    if path.stat().st_size == 0:
        raise DataError(f"source '{source.name}': {path} is empty (0 bytes). Fill it, or leave it out of data.files")


def _is_pattern(pattern: str) -> bool:
    return glob.has_magic(pattern)


def _of_bounded_length(lines: Iterable[str]) -> Iterator[str]:
    """Cut lines that are too long for one piece, so that a file without line ends also has documents."""
    most_characters = LONGEST_PIECE_BYTES // 4  # a character is at most 4 bytes of UTF-8
    for line in lines:
        for start in range(0, len(line), most_characters):
            yield line[start : start + most_characters]


def _unless_blank(held: list[str]) -> Iterator[str]:
    text = "".join(held)
    if text.strip():
        yield text
