"""What `status` has read of runs that have a result, kept in one file from look to look.

A finished run does not change any more. As long as the stamps of the files that its result vouches for are the same
(size, times, inode), the next look asks for these alone; the first one reads the files and compares their digests. What
was found damaged is read again at every look.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from memscale.config.codec import to_plain
from memscale.errors import RecordError
from memscale.launch.states import RunState, state_of
from memscale.records.atomic import to_object
from memscale.records.attempts import host_of, job_id
from memscale.records.inspection import inspect
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.seal import read_sealed, write_sealed

_FORMAT = 2
"""1 had one time a run, and no digest."""
_MANY_NEW = 20


@dataclass(frozen=True, kw_only=True)
class _Stamp:
    """A file as it was when its digest was compared."""

    path: str
    """In the run's folder."""
    stamp: tuple[int, ...]
    """Size in bytes, modification and change time in nanoseconds, inode."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has a result."""

    folder: str
    """Its name."""
    state: RunState
    job_id: str | None
    node: str | None
    stamps: tuple[_Stamp, ...]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    runs: tuple[FinishedRun, ...]


class FinishedRuns:
    """The runs of a sweep that have a result."""

    def __init__(self, paths: SweepPaths) -> None:
        self._path = paths.finished_runs
        self._new = 0
        try:
            content, verified = read_sealed(self._path, format=_FORMAT)
            kept = to_object(_Kept, self._path, content).runs if verified and content.pop("format") == _FORMAT else ()
        except RecordError:  # only a cache
            kept = ()
        self._kept = {one.folder: one for one in kept}

    def find(self, folder: RunPaths) -> FinishedRun | None:
        """Return a run that has a result; None for any other, one that is damaged too."""
        kept = self._kept.get(folder.root.name)
        if kept is not None and all(_stamp(folder.root / one.path) == one.stamp for one in kept.stamps):
            return kept
        if not folder.result.exists():
            return None
        seen = inspect(folder)
        if seen.result is None:
            return None
        state = replace(state_of(folder, seen), heartbeat=None)
        names = [folder.result.name, folder.run.name, *(name for name in seen.result.files if name != folder.run.name)]
        found = FinishedRun(
            folder=folder.root.name,
            state=state,
            job_id=job_id(folder),
            node=(host_of(folder, state.attempts) or None) if state.attempts else None,
            stamps=tuple(_Stamp(path=name, stamp=_stamp(folder.root / name)) for name in names),
        )
        self._kept[found.folder] = found
        self._new += 1
        return found

    def keep(self) -> None:
        """Write what is new. A reader without the right to write loses nothing."""
        if self._new >= _MANY_NEW:
            try:
                write_sealed(self._path, to_plain(_Kept(runs=tuple(self._kept.values()))), format=_FORMAT)
            except OSError:
                return


def _stamp(path: Path) -> tuple[int, ...]:
    """The stamp of a file; one of zeros where it is gone, as a checkpoint may be."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
