"""Whether prepared data are what their manifest says: read once a machine and file, then known by the file's stamp.

1. A file is read whole once on each machine. What was found is kept in `verified/<host>.json` of the data's folder with
   the file's stamp: size, times of change, inode and device. As long as these are the same, it is not read again.
2. Workers that start together wait for one of them to read.
3. Of a file above LARGE_BYTES the blocks that a run reads are checked as it reads them (`CheckedBlocks`), if it has
   digests of blocks; earlier versions prepared data without, and such a file is read whole.

A difference is a DataError that names the file and the block. A folder that cannot be written to is read by every run.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from memscale.data import manifest as manifests
from memscale.data.blocks import BLOCKS, differing_block, digest_of, sha256_of
from memscale.data.fingerprint import sha256
from memscale.data.manifest import File, Manifest, how_to_rebuild
from memscale.errors import DataError, RecordError
from memscale.records.atomic import read_object, write_json
from memscale.records.lease import Lease

FORMAT = 1
LARGE_BYTES = 64 * 2**30
"""Read whole in about a minute at a gigabyte a second; above it, what a run reads is far less."""
_READ_AT_ONCE_BYTES = 256 * 2**20
"""A file that was changed is read again by `what_changed`, which must answer at once, up to this size."""
_WAIT_SECONDS = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class VerifiedFile:
    """A file that was found to be what the manifest says."""

    path: str
    """Relative to the data's folder."""
    how: str
    """`whole`: it was read whole; `blocks`: each block is checked when the run first reads it."""
    verified: float
    """Unix seconds when it was read whole, or from when on its blocks are checked."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A file as it was when it was read."""

    sha256: str
    stamp: tuple[int, ...]
    """Size in bytes, modification and change time in nanoseconds, inode, device."""
    verified: float


@dataclass(frozen=True, kw_only=True)
class _KnownFile(_Known):
    path: str


@dataclass(frozen=True, kw_only=True)
class _Memory:
    """The content of `verified/<host>.json`."""

    files: tuple[_KnownFile, ...]


class CheckedBlocks:
    """Checks the blocks of one token file, each when it is first read."""

    def __init__(self, folder: Path, file: File, item_bytes: int) -> None:
        """`item_bytes`: bytes of a token. The digests of the blocks must have been verified."""
        assert file.block_bytes is not None
        self._folder, self._path, self._item_bytes = folder, folder / file.path, item_bytes
        self._block_bytes = file.block_bytes
        self._blocks = self._path.with_name(self._path.name + BLOCKS).read_bytes()
        self._seen: set[int] = set()

    def check(self, first: int, last: int) -> None:
        """Check the blocks of the tokens from `first` up to, not including, `last`. Raises DataError."""
        for number in range(first * self._item_bytes // self._block_bytes, self._end(last)):
            if number not in self._seen:
                with open(self._path, "rb") as file:
                    block = os.pread(file.fileno(), self._block_bytes, number * self._block_bytes)
                if sha256_of(block) != digest_of(self._blocks, number):
                    raise _differs(self._folder, self._path, number, self._block_bytes)
                self._seen.add(number)

    def _end(self, last: int) -> int:
        return -(-last * self._item_bytes // self._block_bytes)


def verify_once(folder: Path, manifest: Manifest) -> tuple[VerifiedFile, ...]:
    """Make sure that every file is what the manifest says, and read those that this machine has not read before.

    Returns:
        What is known of each file, in the manifest's order.

    Raises:
        DataError: A file is not what was prepared; names it, and the block.

    """
    known = _recall(folder, _host())
    if any(_is_new(folder, file, known) for file in _whole(manifest)):
        with ExitStack() as stack:
            with suppress(OSError):  # a folder that cannot be written to: every run reads for itself
                what = f"the verification of {folder} on {_host()}"
                stack.enter_context(Lease(_memory(folder).with_suffix(".lock"), what, seconds=_WAIT_SECONDS))
            known = _recall(folder, _host())  # meanwhile another process may have read them
            for file in _whole(manifest):
                if _is_new(folder, file, known):
                    known[file.path] = _read(folder, file)
            _remember(folder, known)
    now = time.time()
    return tuple(
        VerifiedFile(path=file.path, how="blocks", verified=now)
        if _is_large(file)
        else VerifiedFile(path=file.path, how="whole", verified=known[file.path].verified)
        for file in manifest.files
    )


def verify(folder: Path, manifest: Manifest) -> None:
    """Read every file, whatever its size and whatever is known of it. Raises DataError as `verify_once` does."""
    for file in manifest.files:
        _read(folder, file)


def large_files(manifest: Manifest) -> tuple[File, ...]:
    """Return the files whose blocks are checked when they are read."""
    return tuple(file for file in manifest.files if _is_large(file))


def what_changed(folder: Path) -> str:
    """Return which file of prepared data was changed since some machine verified it; '' where none was.

    Reads no more than a stamp of each file that is as it was; one that was changed is read, up to 256 MiB. Files that
    no machine has verified yet are left to the first run.
    """
    if not folder.is_dir():
        return ""
    try:
        manifest = manifests.read(folder)
        known = [_recall(folder, path.stem) for path in sorted((folder / "verified").glob("*.json"))]
        for file in manifest.files:
            then = [machine[file.path] for machine in known if file.path in machine]
            # A device has another number on each machine that mounts it.
            if not then or _stamp(folder / file.path)[:-1] in [one.stamp[:-1] for one in then]:
                continue
            if file.num_bytes > _READ_AT_ONCE_BYTES:
                if _stamp(folder / file.path)[:2] in [one.stamp[:2] for one in then]:
                    continue  # copied or moved with its times, most likely; the next run makes sure
                return f"{folder / file.path} was changed after it was verified; the next run that starts reads it"
            mine = _recall(folder, _host())
            mine[file.path] = _read(folder, file)
            _remember(folder, mine)
    except (DataError, OSError) as error:
        return str(error)
    return ""


def _whole(manifest: Manifest) -> Iterable[File]:
    return (file for file in manifest.files if not _is_large(file))


def _is_large(file: File) -> bool:
    return file.num_bytes > LARGE_BYTES and file.block_bytes is not None


def _is_new(folder: Path, file: File, known: dict[str, _Known]) -> bool:
    one = known.get(file.path)
    return one is None or one.sha256 != file.sha256 or one.stamp != _stamp(folder / file.path)


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _read(folder: Path, file: File) -> _Known:
    """Read a file and compare it with the manifest. Raises DataError."""
    path = folder / file.path
    stamp = _stamp(path)  # taken first: a file that changes while it is read is read again
    beside = path.with_name(path.name + BLOCKS)
    if file.block_bytes is None or not beside.exists():
        found = sha256(path)
        if found != file.sha256:
            raise DataError(
                f"{path} is not what was prepared: it has SHA-256 {found[:12]}..., and was written with "
                f"{file.sha256[:12]}.... {how_to_rebuild(folder)}"
            )
    elif (number := differing_block(path, file.block_bytes, beside.read_bytes())) is not None:
        raise _differs(folder, path, number, file.block_bytes)
    return _Known(sha256=file.sha256, stamp=stamp, verified=round(time.time(), 3))


def _differs(folder: Path, path: Path, number: int, block_bytes: int) -> DataError:
    first = number * block_bytes
    last = min(first + block_bytes, path.stat().st_size) - 1
    return DataError(
        f"{path} is not what was prepared: block {number} (bytes {first:,} to {last:,}) has another SHA-256. "
        f"{how_to_rebuild(folder)}"
    )


def _host() -> str:
    return socket.gethostname()


def _memory(folder: Path, host: str | None = None) -> Path:
    return folder / "verified" / f"{host or _host()}.json"


def _recall(folder: Path, host: str) -> dict[str, _Known]:
    """What a machine knows of the files; nothing where its memory cannot be read: they are read again."""
    try:
        memory = read_object(_Memory, _memory(folder, host), format=FORMAT)
    except RecordError:
        return {}
    return {one.path: _Known(sha256=one.sha256, stamp=one.stamp, verified=one.verified) for one in memory.files}


def _remember(folder: Path, known: dict[str, _Known]) -> None:
    files = tuple(_KnownFile(path=path, **asdict(one)) for path, one in known.items())
    with suppress(OSError):
        write_json(_memory(folder), asdict(_Memory(files=files)), format=FORMAT)
