"""Exclusive leases: a lock on a file, which the system frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from memscale.errors import RecordError
from memscale.records.access import open_lock, open_to_look

_ATTEMPTS, _PAUSE_SECONDS, _WAIT_SECONDS = 12, 0.02, 0.5
"""`is_held` looks by locking for an instant, so a holder asks again before it believes that somebody has the lease."""


class LeaseTakenError(RecordError):
    """Another process holds the lease; the message names it."""


class Lease:
    """Holds an exclusive lock on the file `path` as a context manager.

    Entering raises LeaseTakenError where another process still holds it after `seconds`. The system frees the lock
    when its holder dies.
    """

    def __init__(self, path: Path, what: str, *, seconds: float = 0.0) -> None:
        self._path, self._what, self._seconds = path, what, seconds
        self._descriptor = -1

    def __enter__(self) -> Lease:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_lock(self._path)
        until = time.monotonic() + self._seconds
        while not (locked := _locked(descriptor)) and time.monotonic() < until:
            time.sleep(_WAIT_SECONDS)
        if not locked:
            named = os.pread(descriptor, 4096, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise LeaseTakenError(f"{self._what} is already held by {named} (lock {self._path})")
        self._descriptor = descriptor
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": round(time.time(), 3)}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _locked(descriptor: int) -> bool:
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < _ATTEMPTS - 1:
                time.sleep(_PAUSE_SECONDS)
    return False


def is_held(path: Path) -> bool:
    """Whether some process holds the lease now. Who may only read can ask, too."""
    descriptor = open_to_look(path)
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
