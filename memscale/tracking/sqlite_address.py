"""The address of an SQLite database for MLflow, also where its folder's name holds what addresses give a meaning.

In an address a `?` begins options. `%41` is an A to SQLAlchemy 2.1 and itself to 2.0, and MLflow makes the folder that
the address names before it is decoded. So no spelling of such a path names one file to all of them, and a link in the
person's own cache folder stands for the folder. SQLite follows it: journals and locks are the real file's.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from urllib.parse import unquote

from memscale.records.access import make_folder

SQLITE = "sqlite:///"


def is_plain(path: Path) -> bool:
    """Whether a path means itself in an address."""
    return "?" not in str(path) and unquote(str(path)) == str(path)


def address_of(database: Path) -> str | None:
    """Return the address of a database; None where neither its path nor the cache folder's means itself.

    Args:
        database: An absolute path, whose own name has neither `?` nor `%`.

    """
    if is_plain(database):
        return f"{SQLITE}{database}"
    link = _links() / hashlib.sha256(os.fsencode(database.parent)).hexdigest()[:16]
    if not is_plain(link):
        return None
    make_folder(link.parent)
    if not link.is_symlink() or link.readlink() != database.parent:
        aside = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}.tmp")
        aside.symlink_to(database.parent)
        aside.replace(link)
    return f"{SQLITE}{link / database.name}"


def _links() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "memscale" / "folders"
