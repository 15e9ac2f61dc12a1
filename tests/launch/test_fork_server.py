"""Forked workers are processes like others: status, signals, output of their own; none outlives the server unseen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memscale.launch.fork_server import ForkedWorker, ForkServer
from tests.sweeps import wait_for

_WORKER = """
import os, pathlib, signal, sys, time
LOADED_BY = os.getpid()

def main(arguments):
    file, what = arguments
    lines = [os.getpid(), LOADED_BY, os.getppid(), repr(sys.stdin.read()), len(os.listdir("/proc/self/task"))]
    lines += [str(signal.getsignal(signal.SIGINT)), signal.getsignal(signal.SIGTERM)]
    pathlib.Path(file + ".aside").write_text("\\n".join(map(str, lines)))
    os.rename(file + ".aside", file)
    if what == "wait":
        while os.getppid() == lines[2]:
            time.sleep(0.01)
        pathlib.Path(file + ".alone").touch()
    if what == "raise":
        raise KeyError("seven")
    return int(what) if what.isdigit() else 0
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    (tmp_path / "forked_worker.py").write_text(_WORKER)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    server = ForkServer(module="forked_worker", preloaded=("memscale.records.lease",), environment=environment)
    yield server
    server.close()


def ended(worker: ForkedWorker) -> int:
    wait_for("its end", lambda: worker.poll() is not None, seconds=60)
    assert worker.status is not None
    return worker.status


def test_workers_share_the_imports_and_have_all_else_to_themselves(server: ForkServer, tmp_path: Path) -> None:
    workers = [server.start([str(tmp_path / what), what]) for what in ("0", "76", "raise")]
    assert [ended(worker) for worker in workers] == [0, 76, 1]
    told = [(tmp_path / what).read_text().split("\n") for what in ("0", "76", "raise")]
    assert [int(lines[0]) for lines in told] == [worker.pid for worker in workers]
    for _, loaded_by, parent, *rest in told:
        assert loaded_by == parent == told[0][1]
        assert rest == ["''", "1", str(signal.getsignal(signal.SIGINT)), str(signal.SIG_DFL)]


def test_a_signal_ends_the_worker_and_not_the_server(server: ForkServer, tmp_path: Path) -> None:
    waiting = server.start([str(tmp_path / "waiting"), "wait"])
    waiting.send_signal(signal.SIGTERM)
    assert ended(waiting) == -signal.SIGTERM
    waiting.kill()  # it is gone: nothing happens
    assert server._process is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        server._process.send_signal(number)  # as a Ctrl-C does, which reaches the whole group
    assert ended(server.start([str(tmp_path / "next"), "3"])) == 3


def test_a_dead_server_is_noticed_on_both_sides_and_another_takes_its_place(server: ForkServer, tmp_path: Path) -> None:
    worker = server.start([str(tmp_path / "first"), "wait"])
    wait_for("its start", (tmp_path / "first").exists)
    assert server._process is not None
    server._process.kill()
    assert ended(worker) == 1
    wait_for("the worker that is alone", (tmp_path / "first.alone").exists)
    assert ended(server.start([str(tmp_path / "second"), "0"])) == 0


def test_when_the_launcher_is_killed_the_server_and_its_workers_leave(server: ForkServer, tmp_path: Path) -> None:
    code = (
        "import sys, time; from memscale.launch.fork_server import ForkServer; import os;"
        "server = ForkServer(module='forked_worker', preloaded=(), environment=os.environ);"
        "server.start([sys.argv[1], 'wait']); print(server._process.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "one")]
    with subprocess.Popen(command, env=dict(server.environment), stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        serving = int(launcher.stdout.readline())
        wait_for("the worker's start", (tmp_path / "one").exists)
        launcher.kill()
    wait_for("the worker that is alone", (tmp_path / "one.alone").exists)
    until = time.monotonic() + 60
    while Path(f"/proc/{serving}").exists() and ") Z" not in Path(f"/proc/{serving}/stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
