"""The code a sweep was launched with, kept beside its runs: what was submitted is what runs, also when it is requeued.

The snapshot is named by the hash of its files, so launching again without a change makes no new one. It carries the
commit and the uncommitted changes it was made from, for `provenance.json`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from memscale.records.atomic import fsync_directory, write_json
from memscale.records.provenance import CODE, CODE_STATE, FORMAT, git_state

_PACKAGES = ("memscale", "analysis")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def take_snapshot(folder: Path) -> Path:
    """Copy the running code into a folder of its own below `folder`, and return it: to be put on PYTHONPATH."""
    target = folder / _digest()
    if (target / CODE_STATE).exists():
        return target
    aside = folder / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        for package in _PACKAGES:
            shutil.copytree(CODE / package, aside / package, ignore=_LEFT_OUT)
        write_json(aside / CODE_STATE, git_state(), format=FORMAT)
        fsync_directory(aside)
        if not target.exists():
            os.rename(aside, target)
            fsync_directory(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _digest() -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((CODE / package).rglob("*")):
            parts = path.relative_to(CODE).parts
            hidden = any(part == "__pycache__" or part.startswith(".") for part in parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                digest.update("/".join(parts).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
