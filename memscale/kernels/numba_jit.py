"""How the CPU loops are compiled: by Numba, once, and cached on disk between processes.

Numba's cache checks only the file of a function itself, but these loops are inlined in each other across files. The
cache is therefore a folder named by a hash of all of them: after any change nothing outdated is run. It lies beside the
sources; in the user's cache if that cannot be written, and for a job's snapshot of the code, which stays as it is.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

settings: Any = numba.config  # untyped


def numba_jit(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator that compiles a loop, without the interpreter's lock and with IEEE 754 division.

    Args:
        fastmath: LLVM's fast-math flags ("reassoc", "contract", "arcp"). They change roundings, but the same call still
            gives the same bits.
    """

    def decorate(loop: Callable[..., Any]) -> Any:
        kept = settings.CACHE_DIR
        if "NUMBA_CACHE_DIR" not in os.environ:
            settings.CACHE_DIR = _folder()
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath))(loop)
        finally:
            settings.CACHE_DIR = kept

    return decorate


@functools.cache
def _folder() -> str:
    package = Path(__file__).parent
    contents = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        contents.update(path.read_bytes())
    folder = package / "__pycache__"
    if "MEMSCALE_CODE" in os.environ or not os.access(folder if folder.exists() else package, os.W_OK):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memscale"
    return str(folder / f"numba-{contents.hexdigest()[:16]}")
