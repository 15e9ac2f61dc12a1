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
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from memscale.errors import ConfigError
from memscale.records.atomic import fsync_directory, write_json
from memscale.records.provenance import CODE, CODE_STATE, FORMAT, git_state

VARIABLE = "MEMSCALE_CODE"
"""Names the snapshot that a job must run."""
PACKAGES = ("memscale", "analysis")
_CHECK = """\
import hashlib, pathlib, sys
root, digest = pathlib.Path(sys.argv[1]), hashlib.sha256()
for package in ("memscale", "analysis"):
    for path in sorted((root / package).rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix == ".pyc" or path.is_symlink():
            sys.exit(f"memscale: {path} does not belong to the snapshot of the code; remove it")
        if path.is_file() and not any(part.startswith(".") for part in parts):
            digest.update("/".join(parts).encode() + b"\\0" + path.read_bytes() + b"\\0")
if digest.hexdigest()[:12] != sys.argv[2]:
    sys.exit(f"memscale: files in {root}, the snapshot of the code, were changed since the sweep was launched. Remove"
             " that folder, and start the sweep again")
"""
"""The digest of `digest_of_code`, by the interpreter alone."""
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def take_snapshot(folder: Path, *, record_diff: bool = True) -> Path:
    """Copy the running code into a folder of its own below `folder`, and return it: to be put on PYTHONPATH.

    Without `record_diff` the snapshot does not say which uncommitted changes it holds.
    """
    target = folder / digest_of_code(CODE)
    if (target / CODE_STATE).exists():
        write_json(target / CODE_STATE, git_state(record_diff=record_diff), format=FORMAT)
        return target
    aside = folder / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        for package in PACKAGES:
            shutil.copytree(CODE / package, aside / package, ignore=_LEFT_OUT)
        write_json(aside / CODE_STATE, git_state(record_diff=record_diff), format=FORMAT)
        fsync_directory(aside)
        if not target.exists():
            os.rename(aside, target)
            fsync_directory(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def shell_lines(code: Path, python: str = sys.executable) -> list[str]:
    """Return the lines of a job's script that make Python run the snapshot `code`, if its files are what they were.

    SLURM keeps the script as it was submitted, so whoever changes the snapshot cannot change the check. It runs before
    anything of the snapshot does, and takes no compiled file there for the code: none is ever written.
    """
    check = shlex.join([python, "-I", "-c", _CHECK, str(code), code.name])
    return [
        f"{check} || exit 1",
        "export PYTHONDONTWRITEBYTECODE=1",
        f"export PYTHONPATH={shlex.quote(str(code))}",
        f"export {VARIABLE}={shlex.quote(str(code))}",
    ]


def module_command(name: str) -> list[str]:
    """Return the command that runs a module by the code of this process.

    `python -m` would look into the current folder first: in a job, that is where it was submitted from.
    """
    code = (
        f"import runpy, sys; sys.path[0] = {str(CODE)!r};"
        f" runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code]


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
    if digest_of_code(CODE) != CODE.name:
        raise ConfigError(
            f"files in {CODE}, the snapshot of the code that the sweep was launched with, were changed since. Remove"
            " that folder, and start the sweep again"
        )


def digest_of_code(root: Path, packages: Sequence[str] = PACKAGES) -> str:
    """Return the digest of the packages below `root`, in 12 hexadecimal digits; of no hidden and no compiled file."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*")):
            parts = path.relative_to(root).parts
            hidden = any(part == "__pycache__" or part.startswith(".") for part in parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                digest.update("/".join(parts).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
