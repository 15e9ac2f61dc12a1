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
from typing import Any

from memscale.errors import RecordError


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
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_json(path: Path, content: dict[str, Any], *, format: int) -> None:
    """Write `content` with `format` as its first key. Infinity and NaN are refused: they are no JSON."""
    text = json.dumps({"format": format, **content}, indent=1, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_json(path: Path, *, format: int) -> dict[str, Any]:
    """Read a JSON object of at most this format. Raises RecordError (also FileNotFoundError's case, by name)."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} is not JSON ({error}); it was damaged outside memscale") from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise RecordError(f"{path} has no 'format'; it was not written by memscale")
    if content["format"] > format:
        raise RecordError(
            f"{path} has format {content['format']}; this memscale reads up to {format}. Update memscale to read it"
        )
    return content


def rename_keys(plain: object, names: Mapping[str, str]) -> None:
    """Give the object of an older format the keys of the present one; of a damaged file nothing is changed."""
    if isinstance(plain, dict):
        for old, new in names.items():
            if old in plain and new not in plain:
                plain[new] = plain.pop(old)
