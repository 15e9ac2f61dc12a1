"""Files that are either whole or absent: written aside, synced, renamed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from analysis.errors import AnalysisError


def write(path: Path, content: bytes) -> Path:
    """Replace `path` by `content` in one step. Raises AnalysisError where the folder cannot be written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise AnalysisError(
            f"{path} cannot be written: {error.strerror or error}. Give another folder with --out"
        ) from None
    return path
