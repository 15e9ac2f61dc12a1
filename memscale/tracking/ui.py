"""The MLflow UI over a sweep: sync it, then become the server.

Serves on 127.0.0.1 only, and only to who has the key in the address that is printed (`memscale.tracking.key`): other
people of the machine reach the port too. Refuses a port that is taken. Where `MLFLOW_TRACKING_URI` names a server, that
server has the pages, so its address is printed and nothing is started.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from memscale.records.access import make_folder
from memscale.tracking.key import PARAMETER, new_key
from memscale.tracking.mirror import Synced, sync
from memscale.tracking.output import scrub_output
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
    store_root = _store_root(sweep_root.absolute().parent)
    store = resolve(store_root, uri)
    scrub_output(store.uri)
    listening = None if store.is_server else _listening(port)  # from now on the address is ours
    synced = sync(sweep_root, uri=uri, wait_seconds=_SYNC_SECONDS, store_root=store_root)
    say(_summary(sweep_root.name, synced))
    if store_root != sweep_root.absolute().parent:
        say(f"you may only read the sweep; MLflow's view of it is yours, in {store_root}")
    if listening is not None:
        key = new_key()
        say(f"MLflow UI: {_page(f'http://{HOST}:{port}', synced, key)}")
        say("the address holds its key: who has it can read and change what MLflow holds")
        arguments, environment = server_command(store, listening.fileno(), key)
        sys.stdout.flush()
        os.set_inheritable(listening.fileno(), True)
        os.execve(arguments[0], arguments, environment)
    say(f"MLflow UI: {_page(store.address, synced)}")
    return 0


def server_command(store: Store, descriptor: int, key: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the server; what others may not read goes by the environment.

    Args:
        store: What it shows. Its URI may hold a password.
        descriptor: Of the socket that it listens on.
        key: What a request has to show.

    """
    artifacts = (store.artifacts or Path.cwd()).as_uri()
    environment = {
        **os.environ,
        # As `mlflow server` tells its own processes (mlflow.server.constants).
        "_MLFLOW_SERVER_FILE_STORE": store.uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifacts,
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # one reader needs no job queue, and it writes to the store
        "MEMSCALE_UI_KEY": key,
    }
    return [sys.executable, "-m", "memscale.tracking.serve", str(descriptor)], environment


def _store_root(runs_root: Path) -> Path:
    """Where the store lies: beside the sweeps, or for who may only read them in a folder of the reader's."""
    files = [path for name in ("mlflow.db", "mlflow.lock") if os.path.exists(path := runs_root / name)]
    if all(os.access(path, os.W_OK) for path in [runs_root, *files]):
        return runs_root
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return make_folder(cache / "memscale" / hashlib.sha256(os.fsencode(runs_root)).hexdigest()[:16])


def _page(base: str, synced: Synced, key: str | None = None) -> str:
    asked = f"?{PARAMETER}={key}" if key is not None else ""
    return f"{base}/{asked}" if synced.experiment_id is None else address(base, synced.experiment_id, asked)


def _summary(name: str, synced: Synced) -> str:
    if synced.held_by is not None:
        return f"{name}: shown without a new sync, since {synced.held_by}"
    lines = [f"{name}: {synced.num_runs} runs, {synced.num_points} new points"]
    return "\n".join(lines + [f"  left out: {problem}" for problem in synced.problems])


def _listening(port: int) -> socket.socket:
    """Return a socket that is bound to the port: nobody else can take it while the sweep is mirrored."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise TrackingError(f"port {port} on {HOST} cannot be used ({error}); choose another with --port") from None
    return listening
