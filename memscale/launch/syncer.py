"""Mirrors run files into MLflow from a process of its own, so that training never waits for it."""

from __future__ import annotations

import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from memscale.launch.code_snapshot import module_command
from memscale.records.access import open_to_append
from memscale.records.layout import SweepPaths

_SYNC_SECONDS = 45.0


@dataclass(kw_only=True)
class Syncer:
    """Mirrors one sweep, now and then, and whole at the end."""

    paths: SweepPaths
    _process: subprocess.Popen[bytes] | None = None
    _last: float = field(default_factory=time.monotonic)

    def now_and_then(self) -> None:
        """Start to mirror, unless that is under way or was done less than `_SYNC_SECONDS` ago."""
        running = self._process is not None and self._process.poll() is None
        if not running and time.monotonic() - self._last > _SYNC_SECONDS:
            self._last = time.monotonic()
            self._process = self._start()

    def once(self) -> None:
        """Mirror what there is by now, and wait for it; nothing where it was done less than `_SYNC_SECONDS` ago."""
        with suppress(FileNotFoundError):
            found = self._log.lstat()
            if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime < _SYNC_SECONDS:
                return
        self._start().wait()

    def finish(self) -> int:
        """Wait for the one under way, then mirror everything; return the exit status."""
        if self._process is not None:
            self._process.wait()
        return self._start("--wait", "120").wait()

    @property
    def _log(self) -> Path:
        """What mirrors write; each ends with a line."""
        return self.paths.root / "sync.log"

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        log = open(self._log, "ab", opener=open_to_append)  # noqa: SIM115 (the child keeps it)
        with log:
            command = [*module_command("memscale.tracking"), str(self.paths.root), *options]
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
