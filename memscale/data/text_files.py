"""The user's own .txt, .jsonl, .jsonl.gz and .parquet files as a source; read with `datasets`.

A row of a .jsonl or .parquet file is a document. A .txt file is cut into documents of about PIECE_BYTES at blank lines,
or at a line end where there is no blank line, so that some of it can be held out. Refuses patterns without a match,
empty files, other kinds of files, missing columns and unreadable text.
"""

from __future__ import annotations

import glob
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from memscale.config.data import TextFiles
from memscale.errors import DataError, nearest

BUILDERS = {".txt": "text", ".jsonl": "json", ".jsonl.gz": "json", ".parquet": "parquet"}
"""File name ending -> the builder of `datasets` that reads it."""
PIECE_BYTES = 4_096
LONGEST_PIECE_BYTES = 16_384
_ROWS_AT_ONCE = 1_000


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
        paths = [Path(path) for path in glob.glob(os.path.expanduser(pattern), recursive=True)]
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
    return next((ending for ending in sorted(BUILDERS, key=len, reverse=True) if path.name.endswith(ending)), "")


def documents(source: TextFiles, shared_files: tuple[str, ...]) -> Iterator[str]:
    """Yield the non-blank documents of all files, in order. Raises DataError for a file that cannot be read."""
    for path in matched_files(source, shared_files):
        column = "text" if kind_of(path) == ".txt" else source.text_column
        texts = _column(source, path, column)
        yield from pieces(texts) if kind_of(path) == ".txt" else (text for text in texts if text.strip())


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


def rows(dataset: Iterable[dict[str, object]], column: str, where: str) -> Iterator[str]:
    """Yield the texts of a column, without nulls. Raises DataError for a missing column or a value that is not text."""
    for number, row in enumerate(dataset):
        if column not in row:
            raise DataError(
                f"{where}: row {number} has no column '{column}'; it has {', '.join(row)}."
                f"{nearest(column, row)} Set text_column to the one that holds the text"
            )
        text = row[column]
        if isinstance(text, str):
            yield text
        elif text is not None:
            raise DataError(
                f"{where}: '{column}' of row {number} is {type(text).__name__}, not text. "
                "Set text_column to the column that holds the text"
            )


def datasets_library() -> Any:
    """Import `datasets` where it is needed, as it is slow to import, and turn off progress bars and usage counting.

    Usage counting sends a request for every load, even of local files, which waits on a node without a network.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets


def _column(source: TextFiles, path: Path, column: str) -> Iterator[str]:
    datasets = datasets_library()
    builder = BUILDERS[kind_of(path)]
    options = {"keep_linebreaks": True} if builder == "text" else {}
    try:
        # Streaming: no copy of the files is left in a cache.
        loaded = datasets.load_dataset(builder, data_files=str(path), split="train", streaming=True, **options)
        batches = loaded.iter(batch_size=_ROWS_AT_ONCE)
        yield from rows((row for batch in batches for row in _rows_of(batch)), column, f"{path}")
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zlib.error, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"source '{source.name}': {path} cannot be read as {kind_of(path)} ({' '.join(str(error).split())[:300]}). "
            "Repair the file, or leave it out of data.files"
        ) from None


def _rows_of(batch: dict[str, list[object]]) -> Iterator[dict[str, object]]:
    names = list(batch)
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(names, values, strict=True))


def _check(source: TextFiles, path: Path) -> None:
    if path.is_dir():
        raise DataError(f"source '{source.name}': {path} is a folder; name its files, such as '{path}/*.txt'")
    if not kind_of(path):
        raise DataError(
            f"source '{source.name}': {path} cannot be read; valid endings: {', '.join(BUILDERS)}. "
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
