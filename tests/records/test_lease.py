"""Leases exclude each other between processes, and die with their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memscale.records.lease import Lease, LeaseTakenError, is_held

HOLD = (
    "import sys, time, pathlib\nfrom memscale.records.lease import Lease\n"
    "with Lease(pathlib.Path(sys.argv[1]), 'it'): print('held', flush=True); time.sleep(60)"
)


def test_a_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lease"
    assert not is_held(path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_held(path)
    with (
        pytest.raises(LeaseTakenError, match=rf'the run x is already held by .*"pid": {holder.pid}'),
        Lease(path, "the run x"),
    ):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert not is_held(path)
    with Lease(path, "the run x"):
        assert is_held(path)
    assert not is_held(path)


def test_many_eyes_on_a_lease_do_not_keep_anybody_from_it(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    look = "import sys, pathlib, memscale.records.lease as l\nwhile True: l.is_held(pathlib.Path(sys.argv[1]))"
    path.touch()
    watchers = [subprocess.Popen([sys.executable, "-c", look, str(path)]) for _ in range(2)]
    try:
        for _ in range(200):
            with Lease(path, "it"):
                pass
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.wait()
