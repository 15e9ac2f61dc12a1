"""Makes a damaged run fit to be trained again from its last good checkpoint. Nothing is removed.

What is damaged is moved to `damaged/<n>/` in the run's folder; so is the result, which vouched for it. The launch
after that writes `run.json` anew, and the trainer keeps the metrics up to the first damaged line. Checkpoints that are
damaged or of another run are renamed.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from memscale.errors import RecordError
from memscale.records.atomic import write_json
from memscale.records.layout import RunPaths
from memscale.records.run_file import RunFile, read_run_file
from memscale.training.checkpoint_files import set_aside_bad

_FORMAT = 1


def set_aside_damage(paths: RunPaths, why: str) -> None:
    """Move what is damaged of a run out of the way.

    Args:
        paths: The run's folder; nothing may train it.
        why: What is damaged, as `memscale.records.inspection` found it.

    Raises:
        RecordError: The system refuses to move a file.

    """
    try:
        if not paths.root.is_dir():
            paths.root.rename(_free(paths.root))
            return
        folder = _new_folder(paths)
        write_json(folder / "why.json", {"why": why}, format=_FORMAT)
        file = _run_file(paths)
        if file is None:
            _move(paths.run, folder)
        _move(paths.result, folder)
        if paths.metrics.is_file():
            shutil.copyfile(paths.metrics, folder / paths.metrics.name)
        for path in (paths.metrics, paths.provenance, paths.heartbeat, paths.lease, paths.stop):
            if not path.is_file():
                _move(path, folder)
        for path in (paths.attempts, paths.checkpoints):
            if not path.is_dir():
                _move(path, folder)
        if file is not None:
            set_aside_bad(paths.checkpoints, file.run)
    except OSError as error:
        raise RecordError(f"{paths.root}: its damaged files cannot be set aside: {error}. Remove the folder") from None


def clear_way(path: Path) -> None:
    """Rename a folder that lies where the file `path` has to be written, and a file that lies where its folder has."""
    if path.parent.exists() and not path.parent.is_dir():
        path.parent.rename(_free(path.parent))
    if path.is_dir():
        path.rename(_free(path))


def _run_file(paths: RunPaths) -> RunFile | None:
    """The run's own `run.json`; None where it is damaged or another's."""
    with suppress(RecordError):
        file = read_run_file(paths.run)
        return file if paths.run_id in (None, file.run_id) else None
    return None


def _new_folder(paths: RunPaths) -> Path:
    if paths.damaged.exists() and not paths.damaged.is_dir():
        paths.damaged.rename(_free(paths.damaged))
    folder = _free(paths.damaged / "set", name="")
    folder.mkdir(parents=True)
    return folder


def _move(path: Path, folder: Path) -> None:
    if os.path.lexists(path):
        path.rename(folder / path.name)


def _free(path: Path, name: str | None = None) -> Path:
    """Return `path` with the first number behind its name that is not taken; `name`, in place of its own."""
    stem = f"{path.name}." if name is None else name
    return next(one for number in range(1, 1_000_000) if not os.path.lexists(one := path.with_name(f"{stem}{number}")))
