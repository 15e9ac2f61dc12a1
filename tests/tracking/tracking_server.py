"""MLflow's server on a PostgreSQL, both real and started by the scripts that the containers run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "docker" / "scripts"


def missing() -> str:
    """Why no such server can be started here; '' where one can."""
    if importlib.util.find_spec("psycopg2") is None:
        return "psycopg2 is not installed (the extra `postgres`)"
    return "" if Path("/usr/lib/postgresql").is_dir() else "PostgreSQL is not installed (Debian: postgresql)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TrackingServer:
    """A context manager. PostgreSQL runs as `postgres`, which must reach the folder: it lies in /tmp itself."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="memscale-tracking-"))
        self.folder.chmod(0o755)
        self._ports = _free_port(), _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    def __enter__(self) -> TrackingServer:
        self.start("postgres")
        self.start("mlflow")
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("mlflow", "postgres"):
            self.kill(name)
        shutil.rmtree(self.folder)

    def start(self, name: str, *, wait: bool = True) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "BOX_"))}
        given = {
            "BOX_FOLDER": str(self.folder),
            "POSTGRES_PORT": str(self._ports[0]),
            "MLFLOW_PORT": str(self._ports[1]),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        with open(self.folder / f"{name}.out", "ab") as out:
            self._processes[name] = subprocess.Popen(
                [SCRIPTS / f"{name}.sh"], env={**kept, **given}, stdout=out, stderr=out, start_new_session=True
            )
        if wait:
            self.wait_for(name)

    def wait_for(self, name: str) -> None:
        until = time.monotonic() + 600
        while not self._answers(name):
            said = (self.folder / f"{name}.out").read_text()[-2000:]
            assert self._processes[name].poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.2)

    def _answers(self, name: str) -> bool:
        if name == "postgres":
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self._ports[0])) == 0
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200)
        return False

    def kill(self, name: str) -> None:
        """kill -9: its workers too."""
        process = self._processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The database itself, without MLflow."""
        import psycopg2

        password = (self.folder / "tracking" / "password").read_text().strip()
        given = {"host": "127.0.0.1", "port": self._ports[0], "user": "mlflow", "password": password}
        with contextlib.closing(psycopg2.connect(dbname="mlflow", **given)) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())
