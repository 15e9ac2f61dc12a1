"""Files into MLflow's artifacts, sent again only when one of them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.entities import Run

DIGEST = "memscale.mirrored_artifacts"


def mirror_artifacts(client: MlflowClient, mirrored: Run, files: Mapping[str, Path]) -> int:
    """Upload `files` (path within MLflow -> file) unless the run holds just these; return how many were sent.

    The digest of the set is written after the files: a kill between sends them once more, under the same names.
    """
    files = {name: file for name, file in files.items() if not file.is_symlink()}  # they may lead anywhere
    if not files:
        return 0
    digest = _digest(files)
    if mirrored.data.tags.get(DIGEST) == digest:
        return 0
    for name, file in files.items():
        parent = PurePosixPath(name).parent
        client.log_artifact(mirrored.info.run_id, str(file), None if parent == PurePosixPath() else str(parent))
    client.set_tag(mirrored.info.run_id, DIGEST, digest)
    return len(files)


def _digest(files: Mapping[str, Path]) -> str:
    whole = hashlib.sha256()
    for name, file in sorted(files.items()):
        whole.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:32]
