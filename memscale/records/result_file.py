"""`result.json`: what came of a run, written once, last of all, and what the run's other files were by then.

It carries the run's id, a digest of its own content, and under `files` the SHA-256 of `run.json`, `provenance.json`,
`metrics.jsonl`, `answers.jsonl` and of the last checkpoint's manifest, which has those of its tensors. So it vouches
for the folder. A result of format 1 has neither digest nor `files`: its numbers are used, and called unverified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memscale.errors import RecordError
from memscale.records.atomic import read_bytes
from memscale.records.layout import RunPaths
from memscale.records.seal import read_sealed, write_sealed

FORMAT = 2
STATUSES = ("done", "diverged")

_KEYS = frozenset(
    {
        "run_id", "name", "sweep", "stage", "series", "family", "seed", "status", "planned", "achieved", "losses",
        "usage", "scores", "timings", "peak_memory_bytes", "micro_batch_sequences", "ended", "files",
    }
)  # fmt: skip
_OWN = frozenset({"run.json", "provenance.json", "metrics.jsonl", "answers.jsonl"})
"""Files of a run beside its checkpoints; `answers.jsonl` only where dense facts were asked."""
_CHECKPOINT = re.compile(r"checkpoints/step-\d+/manifest\.json")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A result as it was read."""

    content: Mapping[str, Any]
    """As docs/interfaces.md names its keys."""
    verified: bool
    """Whether its digest confirmed it; an earlier version wrote none."""

    @property
    def status(self) -> str:
        """One of STATUSES."""
        return str(self.content["status"])

    @property
    def files(self) -> Mapping[str, str]:
        """Path in the run's folder -> SHA-256 when the result was written; empty in format 1."""
        return self.content.get("files") or {}


def write_result(paths: RunPaths, content: Mapping[str, Any]) -> None:
    """Write a run's result, with the digests of the run's other files as they are now."""
    names = [name for name in sorted(_OWN) if (paths.root / name).is_file()]
    newest = max(paths.checkpoints.glob("step-*"), key=_step, default=None)
    if newest is not None and (newest / "manifest.json").is_file():
        names.append(f"checkpoints/{newest.name}/manifest.json")
    files = {name: hashlib.sha256((paths.root / name).read_bytes()).hexdigest() for name in names}
    write_sealed(paths.result, {**content, "files": files}, format=FORMAT)


def _step(path: Any) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


def read_result(paths: RunPaths) -> Result:
    """Read a run's result.

    Raises:
        RecordError: It is missing, unreadable, damaged, edited, of a newer format, or of another run.

    """
    path = paths.result
    content, verified = read_sealed(path, format=FORMAT)
    format = content.pop("format")
    if format == FORMAT and not verified:
        raise RecordError(f"{path} has lost its digest: it was written anew by another program than memscale")
    if unknown := sorted(content.keys() - _KEYS):
        raise RecordError(f"{path} has keys that no result has: {', '.join(unknown)}")
    if content.get("status") not in STATUSES:
        raise RecordError(f"{path}: status is {content.get('status')!r}; it needs one of {', '.join(STATUSES)}")
    owner = content.get("run_id")
    if owner is not None and paths.run_id is not None and owner != paths.run_id:
        raise RecordError(f"{path} is the result of the run {owner}, not of {paths.run_id}; it was copied here")
    files = content.get("files", {})
    if not isinstance(files, dict) or not all(name in _OWN or _CHECKPOINT.fullmatch(name) for name in files):
        raise RecordError(f"{path}: files names what no run has")
    return Result(content=content, verified=verified)


def check_files(paths: RunPaths, result: Result) -> None:
    """Compare the run's files with those that its result names.

    Checkpoints may be gone: they are removed to free space, and no number depends on them any more.

    Raises:
        RecordError: A file is missing, unreadable, or not what it was when the result was written.

    """
    root = str(paths.root)
    for name, expected in result.files.items():
        if _sha256(f"{root}/{name}") == expected:
            continue
        path, is_checkpoint = paths.root / name, name not in _OWN
        if is_checkpoint and not path.parent.exists():
            continue
        if hashlib.sha256(read_bytes(path)).hexdigest() != expected:
            what = "checkpoint is not the one" if is_checkpoint else "file is not what it was"
            raise RecordError(f"{path}: the {what} when the run's result was written; it was edited or copied over")


def _sha256(path: str) -> str | None:
    """The digest of a small file, by the shortest way: thousands of runs are looked at; None where it is refused."""
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.sha256(file.readall()).hexdigest()
    except OSError:
        return None
