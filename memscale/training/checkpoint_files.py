"""The files of checkpoints, without their tensors: which there are, and whether they are whole and the run's own.

A checkpoint is a folder `step-<n>`; one that is not good is renamed to `damaged-step-<n>`. This reads every byte, and
imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from memscale.config.codec import to_plain
from memscale.config.run import Run
from memscale.errors import CheckpointError, RecordError
from memscale.records.atomic import read_json

FORMAT = 2
"""2 renamed two keys of `state` in state.json; checkpoints of format 1 are still read."""
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
_FORMAT_1_KEYS = {"place": "hardware", "interval": "window"}
"""Key of `state` in format 1 -> its name since."""


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints there are, whole or not, as (step, path), oldest first."""
    found = [(path.name.removeprefix("step-"), path) for path in folder.glob("step-*")]
    return sorted((int(step), path) for step, path in found if step.isdigit())


def checked_state(path: Path, run: Run) -> dict[str, Any]:
    """Return the state of a checkpoint whose every file is as it was written, and which is of `run`.

    Raises CheckpointError for any other.
    """
    try:
        sums = read_json(path / MANIFEST, format=FORMAT)["sha256"]
        for name in (MODEL, OPTIMIZER, STATE):
            _check_sum(path / name, sums[name])
        content = read_json(path / STATE, format=FORMAT)
        named: dict[str, Any] = dict(content["state"])
        saved = dict(content["run"])
    except CheckpointError:
        raise
    except (RecordError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} lacks {error} in {MANIFEST} or {STATE}") from error
    _check_run(path, saved, run)
    return {_FORMAT_1_KEYS.get(key, key): value for key, value in named.items()} if content["format"] == 1 else named


def set_aside_bad(folder: Path, run: Run) -> list[Path]:
    """Rename the checkpoints that are damaged or of another run, so that the others are resumed from; return them."""
    bad = []
    for _, path in numbered(folder):
        try:
            checked_state(path, run)
        except CheckpointError:
            set_aside(path)
            bad.append(path)
    return bad


def _check_sum(path: Path, expected: str) -> None:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        size = path.stat().st_size
        raise CheckpointError(f"checkpoint file {path} ({size} bytes) is not what was written: its SHA-256 differs")


def _check_run(path: Path, saved: dict[str, Any], run: Run) -> None:
    current = json.loads(json.dumps(to_plain(run)))
    if saved != current:
        differing = sorted(key for key in {*saved, *current} if saved.get(key) != current.get(key))
        raise CheckpointError(f"checkpoint {path} is of another run: it differs in {', '.join(differing)}")


def discard(path: Path) -> None:
    """Remove a checkpoint; renamed first, so that a kill in between leaves none that looks whole."""
    if path.exists():
        doomed = path.with_name(f".removed-{path.name}")
        os.rename(path, doomed)
        shutil.rmtree(doomed)


def set_aside(path: Path) -> None:
    """Rename a checkpoint that is not good; what was set aside under its name before is removed."""
    target = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(target, ignore_errors=True)
    os.rename(path, target)
