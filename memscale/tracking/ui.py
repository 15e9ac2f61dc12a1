"""The MLflow UI over a sweep: sync it, then become the server.

Serves on 127.0.0.1 only: MLflow has no passwords of its own. Refuses a port that is taken. Where `MLFLOW_TRACKING_URI`
names a server, that server has the pages, so its address is printed and nothing is started.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from memscale.tracking.mirror import Synced, sync
from memscale.tracking.store import Store, TrackingError, resolve
from memscale.tracking.view import address

HOST = "127.0.0.1"
_SYNC_SECONDS = 30.0
"""Longest wait for a sync that another process has under way; after it, the page is shown without it."""


def open_ui(sweep_root: Path, port: int = 5000, *, uri: str | None = None, say: Callable[[str], object] = print) -> int:
    """Sync the sweep in `sweep_root`, `say` where its page is, and replace this process by the UI's server.

    Returns, with exit status 0, only where a tracking server serves the UI already. Raises RecordError where there is
    no such sweep, and TrackingError for a port in use or a store that cannot be opened.
    """
    store = resolve(sweep_root.absolute().parent, uri)
    if not store.is_server:
        _require_free(port)
    synced = sync(sweep_root, uri=uri, wait_seconds=_SYNC_SECONDS)
    say(_summary(sweep_root.name, synced))
    base = store.uri.rstrip("/") if store.is_server else f"http://{HOST}:{port}"
    page = base if synced.experiment_id is None else address(base, synced.experiment_id)
    say(f"MLflow UI: {page}")
    if not store.is_server:
        arguments, environment = server_command(store, port)
        sys.stdout.flush()
        os.execve(arguments[0], arguments, environment)
    return 0


def server_command(store: Store, port: int) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the server; the URI goes by the environment, for it may hold a password."""
    artifacts = (store.artifacts or Path.cwd()).as_uri()
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # one reader needs no job queue, and it writes to the store
    }
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ], environment


def _summary(name: str, synced: Synced) -> str:
    if synced.held_by is not None:
        return f"{name}: shown without a new sync, since {synced.held_by}"
    lines = [f"{name}: {synced.num_runs} runs, {synced.num_points} new points"]
    return "\n".join(lines + [f"  left out: {problem}" for problem in synced.problems])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise TrackingError(f"port {port} on {HOST} cannot be used ({error}); choose another") from None
