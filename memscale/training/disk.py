"""A full disk as an error of its own: which folder has no space, and what to do. Other errors pass unchanged."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memscale.errors import RecordError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(RecordError):
    """A file of a run could not be written: no space is left, or the quota is used up."""


@contextmanager
def explain_full_disk(folder: Path, what: str) -> Iterator[None]:
    """Raise DiskFullError instead of the OSError of a full disk while `what` is written inside `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free = shutil.disk_usage(folder).free
        raise DiskFullError(
            f"{what} could not be written to {folder}: {os.strerror(error.errno)} ({free / 1e6:.3g} MB free). Make "
            "room, or move the runs with MEMSCALE_RUNS, and start again: the last whole checkpoint is taken up"
        ) from error
