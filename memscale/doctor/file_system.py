"""The file system of the runs: room, renaming, locks between processes, and its clock against this machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from memscale.doctor.finding import Finding
from memscale.records.atomic import write_bytes
from memscale.records.lease import Lease, is_held

_LEAST_FREE_BYTES = 5e9
_MOST_SKEW_SECONDS = 2.0
"""Leases and heartbeats are compared in minutes; a clock off by seconds is one that is not kept."""


def file_system(root: Path) -> Iterator[Finding]:
    """Of the folder of the runs, or the nearest folder above it that is there."""
    folder = next(path for path in (root, *root.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    good = free > _LEAST_FREE_BYTES
    yield _finding(good, f"disk of {root}", f"{free / 1e9:.3g} GB free" + ("" if good else "; checkpoints may not fit"))
    if not os.access(folder, os.W_OK):
        yield _finding(False, f"{folder}", "cannot be written to; MEMSCALE_RUNS moves the runs")
        return
    with tempfile.TemporaryDirectory(prefix=".memscale-doctor-", dir=folder) as probes:
        yield _renaming(Path(probes))
        yield from _locks(Path(probes), folder)
        yield _clock(Path(probes))


def _renaming(probes: Path) -> Finding:
    """A file that is replaced must be the old one or the new one to whoever reads it, at any time."""
    path = probes / "replaced"
    old, new = b"a" * 4096, b"b" * 4096
    write_bytes(path, old)
    reader = path.open("rb")
    try:
        write_bytes(path, new)
        good = reader.read() == old and path.read_bytes() == new
    except OSError:  # a stale handle: the old file is gone from under its reader
        good = False
    finally:
        reader.close()
    meaning = (
        "replaces a file in one step"
        if good
        else "does not keep a replaced file whole for its readers: records may be read half; use another file system"
    )
    return _finding(good, "renaming", meaning)


def _locks(probes: Path, folder: Path) -> Iterator[Finding]:
    """A lease that this process holds must be taken to every other process, and free once the holder is gone."""
    probe = probes / "lease"
    with Lease(probe, "the probe"):
        here, there = is_held(probe), _held_elsewhere(probe)
    after = is_held(probe)
    good = here and there and not after
    meaning = (
        "hold between processes"
        if good
        else "do not hold: two workers could train one run; use another file system (on NFS: version 4, or lockd)"
    )
    yield _finding(good, f"locks in {folder}", meaning)


def _held_elsewhere(probe: Path) -> bool:
    code = (
        "import sys; from pathlib import Path; from memscale.records.lease import is_held;"
        " sys.exit(0 if is_held(Path(sys.argv[1])) else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(probe)], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def _clock(probes: Path) -> Finding:
    path = probes / "clock"
    before = time.time()
    path.touch()
    skew = path.stat().st_mtime - (before + time.time()) / 2
    good = abs(skew) <= _MOST_SKEW_SECONDS
    meaning = f"{skew:+.2g} s against this machine's" if abs(skew) >= 0.01 else "agrees with this machine's"
    meaning += "" if good else ": running runs may be taken for lost; keep both clocks by NTP"
    return _finding(good, "clock of the file system", meaning)


def _finding(good: bool, what: str, meaning: str) -> Finding:
    return Finding(topic="files", good=good, what=what, meaning=meaning)
