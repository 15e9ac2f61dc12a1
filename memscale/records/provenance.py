"""`provenance.json`: what made a run, so that it can be made again: code, packages, data, machine, command."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from memscale.records.atomic import read_json, write_json
from memscale.records.masking import masked_lines

FORMAT = 1
_PACKAGES = ("torch", "numpy", "numba", "tokenizers", "datasets", "lm_eval", "safetensors", "hydra-core")
_DIFF_LIMIT = 200_000
_NO_DIFF: Mapping[str, Any] = {"diff": None, "diff_cut": False, "diff_masked": 0}
CODE = Path(__file__).resolve().parents[2]
"""The folder of the running code."""
CODE_STATE = "code.json"
"""In a snapshot of the code: the commit and the changes it was made from."""


def write_provenance(
    path: Path,
    *,
    data_manifest: dict[str, Any],
    verified: Sequence[Mapping[str, Any]] = (),
    record_diff: bool = True,
) -> None:
    """Write what made this run.

    Args:
        path: The run's `provenance.json`.
        data_manifest: The manifest of its prepared data.
        record_diff: Whether uncommitted changes of the code are written too.
        verified: Of each file of the data how and when it was verified on this machine, before the first step.

    """
    content = {
        "git": git_state(record_diff=record_diff),
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": sys.version,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "host": socket.gethostname(),
        "command": sys.argv,
        "data": data_manifest,
        "data_verified": [dict(one) for one in verified],
    }
    write_json(path, content, format=FORMAT)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_state(*, record_diff: bool = True) -> dict[str, Any]:
    """Commit and uncommitted changes of the code, or nulls where it is neither a checkout nor a snapshot of one.

    The changes are cut at 200,000 characters, and lines that look like secrets are masked; without `record_diff` only
    whether there are some is kept.
    """
    snapshot = CODE / CODE_STATE
    if snapshot.exists():
        kept = read_json(snapshot, format=FORMAT)
        del kept["format"]
        return kept if record_diff else {**kept, **_NO_DIFF}
    commit = _git("rev-parse", "HEAD")
    diff = _git("diff", "--no-ext-diff", "--no-textconv", "HEAD") if commit is not None else None
    state: dict[str, Any] = {"commit": commit, "dirty": bool(diff) if diff is not None else None, **_NO_DIFF}
    if diff is not None and record_diff:
        masked, num_masked = masked_lines(diff[:_DIFF_LIMIT])  # cut first: looking at each line takes its time
        cut = len(diff) > _DIFF_LIMIT
        # The last line may be the beginning of a secret.
        state |= {"diff": masked.rpartition("\n")[0] if cut else masked, "diff_cut": cut, "diff_masked": num_masked}
    return state


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-c", f"safe.directory={CODE}", *arguments],  # we run this code, whoever owns it
            cwd=CODE,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
