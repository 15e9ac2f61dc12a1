"""The code a sweep was launched with, kept beside its runs: what was submitted is what runs, also when it is requeued.

The snapshot is named by the hash of its files, so launching again without a change makes no new one. It carries the
commit and the uncommitted changes it was made from, for `provenance.json`. A job names it in `MEMSCALE_CODE`, and its
processes refuse to start from other code: Python puts the folder that a job was submitted from before PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import uuid
from pathlib import Path

from memscale.errors import ConfigError
from memscale.records.atomic import fsync_directory, write_json
from memscale.records.provenance import CODE, CODE_STATE, FORMAT, git_state

VARIABLE = "MEMSCALE_CODE"
"""Names the snapshot that a job must run."""
_PACKAGES = ("memscale", "analysis")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def take_snapshot(folder: Path) -> Path:
    """Copy the running code into a folder of its own below `folder`, and return it: to be put on PYTHONPATH."""
    target = folder / _digest(CODE)
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


def shell_lines(code: Path) -> list[str]:
    """Return the lines of a job's script that make Python run the snapshot `code`."""
    return [f"export PYTHONPATH={shlex.quote(str(code))}", f"export {VARIABLE}={shlex.quote(str(code))}"]


def check_running_code() -> None:
    """Make sure that this process runs the snapshot that MEMSCALE_CODE names; do nothing without that variable.

    Raises:
        ConfigError: The code was imported from elsewhere, or a file of the snapshot was changed.

    """
    launched = os.environ.get(VARIABLE)
    if launched is None:
        return
    if not Path(launched).is_dir() or not CODE.samefile(launched):
        raise ConfigError(
            f"this process runs the code in {CODE}; its sweep was launched with that in {launched}. Start the sweep"
            " again, which takes a new snapshot of the code"
        )
    if _digest(CODE) != CODE.name:
        raise ConfigError(
            f"files in {CODE}, the snapshot of the code that the sweep was launched with, were changed since. Remove"
            " that folder, and start the sweep again"
        )


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*")):
            parts = path.relative_to(root).parts
            hidden = any(part == "__pycache__" or part.startswith(".") for part in parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                digest.update("/".join(parts).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
