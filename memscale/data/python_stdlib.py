"""The standard library of the running Python as a source: one document a file.

Tests, installed packages and folders of character tables are left out. Files are added in the order of a hash of their
names, each if it still fits into `max_bytes`. Refuses an installation without source files.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from memscale.config.data import PythonStdlib
from memscale.errors import DataError

LEFT_OUT = frozenset(
    ("__pycache__", "dist-packages", "encodings", "idle_test", "pydoc_data", "site-packages", "test", "tests")
)
"""Names of folders that are left out; `encodings` and `pydoc_data` hold character tables and one large text."""


@cache
def library_files(library: Path) -> tuple[tuple[str, int], ...]:
    """Return the relative POSIX path and the bytes of every source file, sorted by a hash of the path."""
    found = []
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                found.append((path.relative_to(library).as_posix(), path.stat().st_size))
    return tuple(sorted(found, key=lambda file: hashlib.sha256(file[0].encode()).digest()))


def taken_files(source: PythonStdlib, library: Path | None = None) -> list[Path]:
    """Return the files of the source, in order. Raises DataError where there are none."""
    library = library or Path(sysconfig.get_path("stdlib"))
    left, taken = source.max_bytes, []
    for name, num_bytes in library_files(library):
        if 0 < num_bytes <= left:
            left -= num_bytes
            taken.append(library / name)
    if not taken:
        raise DataError(
            f"source '{source.name}': no .py file of at most {source.max_bytes} bytes in the standard library at "
            f"{library}. Use a Python that ships its source, raise max_bytes, or name text of your own (text_files)"
        )
    return taken


def documents(source: PythonStdlib) -> Iterator[str]:
    """Yield the texts of the files, without blank ones and the few that are not UTF-8."""
    for path in taken_files(source):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # test material in another encoding
        if text.strip():
            yield text
