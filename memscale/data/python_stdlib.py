"""The running Python's standard library as a source: one document a file.

Left out are tests, installed packages, and folders of tables rather than code. Files are taken in the order of a hash
of their names, each one that still fits into `max_bytes`. Refuses an installation without source files.
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
"""Folder names; `encodings` and `pydoc_data` hold character tables and one large text."""


@cache
def library_files(library: Path) -> tuple[tuple[str, int], ...]:
    """Return name (relative, with slashes) and bytes of every source file, in the order of the names' hashes."""
    found = []
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                found.append((path.relative_to(library).as_posix(), path.stat().st_size))
    return tuple(sorted(found, key=lambda file: hashlib.sha256(file[0].encode()).digest()))


def taken_files(source: PythonStdlib, library: Path | None = None) -> list[Path]:
    """Return the files that the source takes, in order. Raises DataError where there are none."""
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
    """Yield the texts of the files; blank ones and the few that are not UTF-8 are passed over."""
    for path in taken_files(source):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # test material in another encoding; a fixed rule, so still a function of the contents
        if text.strip():
            yield text
