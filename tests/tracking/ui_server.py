"""`open_ui` as a person starts it, in a process of its own, for the tests that talk to it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sweep_files

STARTING_SECONDS = 600.0
SCRIPT = "import sys, pathlib, memscale.tracking.ui as ui; ui.open_ui(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"


@dataclass(frozen=True, kw_only=True)
class UiServer:
    base: str
    view: str
    """The address that `open_ui` printed for the sweep."""
    key: str
    runs_root: Path
    pid: int
    log: Path

    def page(self, fragment: str) -> str:
        """A page of the UI by what follows `#`, for a browser that was never here."""
        return f"{self.base}/?token={self.key}#{fragment}"

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, key: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and content of an answer; `key` goes where MLflow's client puts it."""
        given = {**headers, **({"Authorization": f"Bearer {key}"} if key is not None else {})}
        request = urllib.request.Request(self.base + path, data=body, method=method, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()


@contextmanager
def ui_server(runs_root: Path) -> Iterator[UiServer]:
    """Serve three done runs."""
    port = free_port()
    sweep_files.finished_sweep(runs_root / "demo", num_runs=3)
    log = runs_root / "log.txt"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(runs_root / "demo"), str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{base}/health", process, log)
        (view,) = re.findall(r"demo: 3 runs, \d+ new points\nMLflow UI: (http\S+)", log.read_text())
        (key,) = re.findall(r"\?token=([\w-]+)#", view)
        yield UiServer(base=base, view=view, key=key, runs_root=runs_root, pid=process.pid, log=log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=300)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the address answers, be it with a refusal."""
    deadline = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"the UI did not start in {STARTING_SECONDS} s:\n{log.read_text()}")
