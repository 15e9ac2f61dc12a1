"""Who may read and change what memscale makes: the modes of new folders and files, and files opened without links.

Who can write to a sweep's folder can run code as the one who goes on with it: jobs start from pickles and a snapshot of
the code that lie there. So a new folder is its owner's alone (0700). Below a group folder, which its group may write to
and which hands its group on (setgid, as `chmod 2770` makes it), a new folder is the group's (2770), and so are files in
it, whatever the umask of the person is. A folder that is there keeps its mode: `chmod 755 runs runs/<sweep>` lets
everybody read.

A file that is appended to, locked or made is opened without following a link that stands at its name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memscale.errors import RecordError

PRIVATE, GROUP = 0o700, 0o2770
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What a system answers to a reader who would write."""


class LinkError(RecordError):
    """A link stands where memscale would open a file."""


def make_folder(path: Path) -> Path:
    """Make a folder and those above it that are missing, each its owner's or its group's alone; return it."""
    if not path.is_dir():
        make_folder(path.parent)
        try:
            path.mkdir(mode=PRIVATE)
        except FileExistsError:
            if not path.is_dir():
                raise RecordError(f"{path} is no folder, but memscale needs one there; move it away") from None
            return path
        if is_group_folder(path.parent):
            path.chmod(GROUP)
    return path


def is_group_folder(folder: Path) -> bool:
    """Whether the group of a folder may write to it, and what is made in it gets that group."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


@contextmanager
def modes_of(folder: Path) -> Iterator[None]:
    """Let new files have the mode that a group folder asks for; elsewhere the umask of the person holds.

    `folder` need not be there: the next one above it that is decides.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not is_group_folder(folder):
        yield
        return
    before = os.umask(~folder.stat().st_mode & 0o007)
    try:
        yield
    finally:
        os.umask(before)


def open_lock(path: Path) -> int:
    """Open the file of a lock, made where it is missing, for reading and writing; return the descriptor.

    Raises:
        RecordError: It is a link, or the person may not write to it.

    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with _told(path):
        descriptor = os.open(path, flags, 0o644)
    found, folder = os.fstat(descriptor), path.parent.stat()
    if folder.st_mode & stat.S_IWGRP and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWGRP:
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | stat.S_IRGRP | stat.S_IWGRP)
    return descriptor


def open_to_look(path: Path) -> int | None:
    """Open the file of a lock to see who holds it, which takes no right to write.

    Returns None where there is none, or a link in its place, through which nobody locks.

    Raises:
        RecordError: The person may not read it.

    """
    try:
        with _told(path):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, LinkError):
        return None


def open_to_append(path: str | os.PathLike[str], flags: int = 0) -> int:
    """Open a file for appending, made where it is missing; also an `opener` for `open(path, "a")`.

    Raises:
        RecordError: It is a link, or the person may not write to it.

    """
    flags = flags or os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with _told(Path(path)):
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LinkError(
                f"{path} is a link, and memscale writes through none; look who made it, and remove it"
            ) from None
        if error.errno == errno.EISDIR:
            raise RecordError(f"{path} is a folder, and memscale needs a file there; remove the folder") from None
        if error.errno in REFUSED:
            raise RecordError(
                f"{path} may not be opened by you ({error.strerror}); its owner or group can change that, see "
                "docs/security.md"
            ) from None
        raise
