"""Workers without the seconds of their imports: a process that has imported the trainer forks once for each run.

Importing torch and the trainer costs a core over two seconds, as much as the smallest runs train. The launcher
starts one server (`ForkServer`), which imports them once; every worker is then a fork of it, a process of its own with
its own output, signals and exit status, in the launcher's process group. Workers on a GPU are not started so: CUDA must
not be touched before a fork, and those runs are long.

The launcher writes a line of JSON for each worker to the server's input, and reads two for each from its output:
`{"id": 3, "pid": 4711}` when it is forked, `{"id": 3, "status": 0}` when it has ended, as `subprocess` counts exit
statuses. The server leaves when its input ends, as it does when the launcher dies; its workers notice that, and leave
with a checkpoint.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from memscale.launch.code_snapshot import module_command

_LOST = 1
"""The exit status of a worker whose server has died: nobody knows its own."""


@dataclass(kw_only=True, eq=False)
class ForkedWorker:
    """A worker, with the methods of `subprocess.Popen` that a launcher calls."""

    _update: Callable[[bool], None]
    pid: int | None = None
    """None until the server has forked it."""
    status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or minus the signal that ended it; None while it is at work."""
        self._update(False)
        return self.status

    def send_signal(self, number: int) -> None:
        """Send it a signal, once it is forked."""
        while self.pid is None and self.status is None:
            self._update(True)
        if self.status is None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


@dataclass(kw_only=True)
class ForkServer:
    """The launcher's side. It starts the server with the first worker.

    Args:
        module: What a worker runs: its `main` takes the arguments and returns the exit status.
        preloaded: Modules that every worker would import.
        environment: Environment variables of the server and of all workers.

    """

    module: str
    preloaded: Sequence[str]
    environment: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = None
    _workers: dict[int, ForkedWorker] = field(default_factory=dict)
    """Those that have not ended, by id."""
    _num_started: int = 0
    _unread: bytes = b""

    def start(self, arguments: Sequence[str]) -> ForkedWorker:
        """Start a worker with these arguments; it is forked as soon as the server is ready."""
        if self._process is None:
            command = [*module_command("memscale.launch.fork_server"), self.module, *self.preloaded]
            self._process = subprocess.Popen(
                command, env=dict(self.environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        self._num_started += 1
        worker = self._workers[self._num_started] = ForkedWorker(_update=self._update)
        assert self._process.stdin is not None
        request = json.dumps({"id": self._num_started, "arguments": list(arguments)}) + "\n"
        with contextlib.suppress(BrokenPipeError):  # it has died: the next update says so of its workers
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
        return worker

    def close(self) -> None:
        """Let the server leave. Workers that are still there notice that they are alone."""
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _update(self, wait: bool) -> None:
        """Take what the server has reported; `wait` for a report where there is none."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while select.select([output], [], [], None if wait else 0)[0]:
            wait = False
            received = os.read(output, 65536)
            if not received:
                for worker in self._workers.values():
                    worker.status = _LOST
                self._workers.clear()
                self._process.wait()
                self._process = None
                return
            *lines, self._unread = (self._unread + received).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, report: Mapping[str, int]) -> None:
        worker = self._workers[report["id"]]
        worker.pid = report.get("pid", worker.pid)
        if "status" in report:
            worker.status = report["status"]
            del self._workers[report["id"]]


def serve(requests: int, reports: int) -> list[str] | None:
    """Fork for every request; returns its arguments in the fork, and None in the server once the requests end.

    Args:
        requests: File descriptor that requests are read from.
        reports: File descriptor that reports are written to.

    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ids: dict[int, int] = {}
    unread = b""
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ends(ids, reports)
        if requests not in ready:
            continue
        received = os.read(requests, 65536)
        if not received:
            return None
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            request = json.loads(line)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for descriptor in (requests, reports, woken, wake):
                    os.close(descriptor)
                arguments: list[str] = request["arguments"]
                return arguments
            ids[pid] = request["id"]
            _report(reports, id=request["id"], pid=pid)


def _report_ends(ids: dict[int, int], reports: int) -> None:
    """Report the workers that have ended."""
    while ids:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _report(reports, id=ids.pop(pid), status=os.waitstatus_to_exitcode(status))


def _report(reports: int, **report: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the launcher has died; the requests end in a moment
        os.write(reports, json.dumps(report).encode() + b"\n")


def main() -> int:
    """Be the server, and in each fork a worker. A Ctrl-C is for the launcher and the workers, not for the server.

    Signals are blocked, not ignored: one that is sent to a fork before it has unblocked them is delivered then.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    requests, reports = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    worker, *_ = (importlib.import_module(name) for name in sys.argv[1:])
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # OpenBLAS can fork
    gc.freeze()  # forks then share these pages, which a collection would write to
    arguments = serve(requests, reports)
    if arguments is None:
        return 0
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status: int = worker.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
