"""Files that are either whole or absent: written aside, fsynced, renamed.

Every JSON file carries `format: N`; a newer one than this code knows is refused.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from memscale.config.codec import from_plain
from memscale.errors import RecordError

T = TypeVar("T")


def fsync_directory(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to beside `path`; fsync and rename it to `path` at the end, remove it on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield aside
        with open(aside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(aside, path)
        fsync_directory(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as aside, open(aside, "xb") as file:  # x: it follows no link
        file.write(content)


def write_json(path: Path, content: dict[str, Any], *, format: int) -> None:
    """Write `content` with `format` as its first key. Infinity and NaN are refused: they are no JSON."""
    text = json.dumps({"format": format, **content}, indent=1, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_json(path: Path, *, format: int) -> dict[str, Any]:
    """Read a JSON object of at most this format. Raises RecordError (also FileNotFoundError's case, by name)."""
    return parse_json(path, read_bytes(path), format=format)


def read_bytes(path: Path) -> bytes:
    """Read a file of a run whole. Raises RecordError where it is missing, a folder, or the system refuses it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from None


def parse_json(path: Path, raw: bytes, *, format: int) -> dict[str, Any]:
    """Return the JSON object in the bytes `raw` of the file `path`. Raises RecordError, also for a newer format."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:  # also of bytes that are no text
        raise RecordError(f"{path} is not JSON ({error}); it was damaged outside memscale") from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise RecordError(f"{path} has no 'format'; it was not written by memscale")
    if content["format"] > format:
        raise RecordError(
            f"{path} has format {content['format']}; this memscale reads up to {format}. Update memscale to read it"
        )
    return content


def read_object(cls: type[T], path: Path, *, format: int) -> T:
    """Read a JSON object whose keys are the fields of the dataclass `cls`. Raises RecordError, which names the key."""
    content = read_json(path, format=format)
    del content["format"]
    return to_object(cls, path, content)


def to_object(cls: type[T], path: Path, content: dict[str, Any]) -> T:
    """Return the dataclass `cls` with the values of `content`, read from `path`. Raises RecordError for a wrong key."""
    try:
        return from_plain(cls, content, describe=lambda key: f"{key} ({path})")
    except ValueError as error:
        raise RecordError(f"{path} cannot be read back: {error}") from None


def rename_keys(plain: object, names: Mapping[str, str]) -> None:
    """Give the object of an older format the keys of the present one; of a damaged file nothing is changed."""
    if isinstance(plain, dict):
        for old, new in names.items():
            if old in plain and new not in plain:
                plain[new] = plain.pop(old)
