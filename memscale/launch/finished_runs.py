"""What `status` has read of runs that have a result, kept in one file from look to look.

A finished run does not change any more. As long as the stamps of the files that its result vouches for are the same
(size, times, inode), the next look asks for these alone; the first one reads the files and compares their digests. What
was found damaged is read again at every look.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from memscale.errors import RecordError
from memscale.launch.states import RunState, state_of
from memscale.planning.plan import Plan
from memscale.records.attempts import begun, codes_of
from memscale.records.inspection import inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.seal import read_sealed, write_sealed

_FORMAT = 3
"""1 had one time a run and no digest, 2 no codes. Other formats are read anew from the runs."""
_MANY_NEW = 20


Stamp = tuple[int, int, int, int]
"""Size in bytes, modification and change time in nanoseconds, inode; zeros of a file that is gone."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has a result."""

    state: RunState
    job_id: str | None
    node: str | None
    codes: tuple[str, ...]
    """That trained it."""
    stamps: Mapping[str, Stamp]
    """Of the files that its result vouches for, when their digests were compared, by their path in its folder."""


class FinishedRuns:
    """The runs of a sweep that have a result."""

    def __init__(self, paths: SweepPaths) -> None:
        self._path = paths.finished_runs
        self._new = 0
        self._kept: dict[str, FinishedRun] = {}
        try:
            content, verified = read_sealed(self._path, format=_FORMAT)
            if verified and content["format"] == _FORMAT:
                self._kept = {folder: _kept(plain) for folder, plain in content["runs"].items()}
        except (RecordError, KeyError, TypeError):  # only a cache
            return

    def find(self, folder: RunPaths) -> FinishedRun | None:
        """Return a run that has a result; None for any other, one that is damaged too."""
        root = str(folder.root)
        kept = self._kept.get(folder.root.name)
        if kept is not None and all(_stamp(f"{root}/{name}") == stamp for name, stamp in kept.stamps.items()):
            return kept
        if not os.path.lexists(folder.result):
            return None
        seen = inspect(folder)
        if seen.result is None:
            return None
        state = replace(state_of(folder, seen), heartbeat=None)
        last = begun(folder, state.attempts) if state.attempts else None
        found = FinishedRun(
            state=state,
            job_id=last.job_id if last is not None else None,
            node=(last.host or None) if last is not None else None,
            codes=(last.code,) if last is not None and state.attempts == 1 else codes_of(folder),
            stamps={name: _stamp(f"{root}/{name}") for name in ("result.json", "run.json", *seen.result.files)},
        )
        self._kept[folder.root.name] = found
        self._new += 1
        return found

    def keep(self) -> None:
        """Write what is new. A reader without the right to write loses nothing."""
        if self._new >= _MANY_NEW:
            try:
                write_sealed(
                    self._path, {"runs": {name: asdict(one) for name, one in self._kept.items()}}, format=_FORMAT
                )
            except OSError:
                return


def _kept(plain: dict[str, Any]) -> FinishedRun:
    stamps = {name: tuple(stamp) for name, stamp in plain.pop("stamps").items()}
    codes = tuple(plain.pop("codes"))
    return FinishedRun(state=RunState(**plain.pop("state")), stamps=stamps, codes=codes, **plain)


def damaged_runs(paths: SweepPaths, plan: Plan) -> list[str]:
    """Return the names of the plan's runs that have a result and are damaged."""
    finished = FinishedRuns(paths)
    folders = [(run.name, paths.run(run.name, run.run_id)) for run in plan.runs if run.run_id is not None]
    found = [name for name, folder in folders if folder.result.exists() and finished.find(folder) is None]
    finished.keep()
    return found


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
