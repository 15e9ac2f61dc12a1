"""Where MLflow keeps what we mirror, and that it is there, whole and held by one writer at a time.

By default a SQLite database beside the sweeps, always by its absolute path; `MLFLOW_TRACKING_URI` or an argument
names another. The default database is made aside and renamed, because eight processes that open a fresh one at once
break it for good, and a kill in the middle of its migrations would too.

Refuses MLflow's file store (MLflow 3 does), a damaged database, and a server (MLflow's, or of a database) that does
not answer: MLflow itself would try all of these again for minutes before it fails. Migrates no database that somebody
else made (MLflow itself adds tables that one lacks).
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from memscale.errors import MemscaleError
from memscale.records.access import is_group_folder, make_folder
from memscale.records.atomic import replacing
from memscale.records.lease import Lease, LeaseTakenError
from memscale.records.masking import masked_address, scrubbed, without_user
from memscale.tracking.sqlite_address import SQLITE, address_of, is_plain

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433, "http": 80, "https": 443}
_NOT_ANSWERED = re.compile(r"API request to \S+ failed with exception|error code 50[234]\b|OperationalError")
"""MLflow's messages where a server went away in the middle: its own, or the database behind it."""
_OUTDATED = "out-of-date database schema"
_CREATION_SECONDS = 120.0
"""Longest wait for another process that makes the database (it takes 2 s on a laptop)."""


class TrackingError(MemscaleError):
    """MLflow cannot be written to or shown; no run is lost by it, since MLflow only mirrors the runs' files."""


class AwayError(TrackingError):
    """A server does not answer now; the same call may succeed later."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """An MLflow store and the files around it."""

    uri: str
    """Absolute tracking URI. May hold a password: print `shown` instead."""
    artifacts: Path | None
    """Folder for artifacts; None: the tracking server keeps them."""
    lock: Path
    """Held by the one process that writes to the store."""
    own: Path | None
    """The SQLite file, where the store is the default one, ours to make and to migrate."""

    @property
    def shown(self) -> str:
        """The URI without its password."""
        return masked_address(self.uri)

    @property
    def address(self) -> str:
        """Of a tracking server, for a browser."""
        return without_user(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether the URI names a tracking server that shows its own pages."""
        return self.uri.startswith(("http://", "https://"))


def resolve(runs_root: Path, uri: str | None = None) -> Store:
    """The store at `uri`, else at $MLFLOW_TRACKING_URI, else in `runs_root`. Opens nothing. Raises TrackingError."""
    root = runs_root.absolute()
    lock, own = root / "mlflow.lock", root / "mlflow.db"
    named = uri or os.environ.get("MLFLOW_TRACKING_URI")
    given = named or address_of(own) or f"{SQLITE}{own}"
    scheme = given.split(":", 1)[0].split("+", 1)[0]
    if scheme not in _SCHEMES or (scheme == "sqlite" and not given.startswith(SQLITE)):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is '{masked_address(given)}', which MLflow cannot use as a tracking store. Needed: "
            f"sqlite:///<path>, postgresql://..., mysql://..., or the address of a server (http://host:port). "
            f"Unset it to use {SQLITE}{own}"
        )
    if scheme == "sqlite":
        path = Path(given[len(SQLITE) :]).absolute()
        if not is_plain(path):
            raise TrackingError(
                f"{path} holds a '?' or a '%' with two digits, by which MLflow finds another file in an SQLite address."
                " Name one without them in MLFLOW_TRACKING_URI, or unset it"
            )
        given = f"{SQLITE}{path}"
    is_remote = scheme in ("http", "https", "databricks")
    return Store(
        uri=given,
        artifacts=None if is_remote else root / "mlartifacts",
        lock=lock,
        own=own if given in (f"{SQLITE}{own}", address_of(own)) else None,
    )


def ensure_store(runs_root: Path, *, uri: str | None = None) -> Store:
    """Create or migrate the store before any job starts, waiting for a process that does so. Raises TrackingError."""
    store = resolve(runs_root, uri)
    try:
        with holding(store, wait_seconds=_CREATION_SECONDS):
            open_store(store)
    except LeaseTakenError as error:
        raise TrackingError(
            f"{error}, for more than {_CREATION_SECONDS:.0f} s. If it hangs, end that process"
        ) from None
    return store


@contextmanager
def holding(store: Store, *, wait_seconds: float) -> Iterator[None]:
    """Be the store's one writer; LeaseTakenError where another still is after `wait_seconds`."""
    deadline = time.monotonic() + wait_seconds
    lease = Lease(store.lock, "writing to MLflow")
    while True:
        try:
            lease.__enter__()
            break
        except LeaseTakenError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        lease.__exit__(None, None, None)


def open_store(store: Store) -> MlflowClient:
    """A client of the store, made where it is ours and absent. The caller holds the lock. Raises TrackingError."""
    if store.own is not None and not store.own.exists():
        _create(store.own)
    if store.artifacts is not None:
        make_folder(store.artifacts)
    check(store)
    with explained(store, "open"):
        try:
            return _connect(store.uri)
        except MlflowException as error:
            if store.own is None or _OUTDATED not in str(error):
                raise
            _migrate(store.own)
            return _connect(store.uri)


def _connect(uri: str) -> MlflowClient:
    """A client that has reached its store. MLflow makes a fresh database's tables here."""
    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


@contextmanager
def explained(store: Store, doing: str) -> Iterator[None]:
    """Turn MLflow's errors into one for people."""
    try:
        yield
    except ModuleNotFoundError as error:  # MLflow imports a database's driver when it connects
        raise TrackingError(
            f"cannot {doing} MLflow at {store.shown}: the driver {error.name} is not installed. For PostgreSQL install "
            f"memscale[postgres] and write postgresql+psycopg2://..."
        ) from None
    except MlflowException as error:
        text = scrubbed(str(error).strip(), store.uri)
        advice = f" Run: mlflow db upgrade '{store.shown}'" if _OUTDATED in text else ""
        kind = AwayError if store.own is None and _NOT_ANSWERED.search(text) else TrackingError
        raise kind(
            f"cannot {doing} MLflow at {store.shown}: {text[:1000]}.{advice}"
        ) from None  # MLflow's own may hold the password


def _create(database: Path) -> None:
    make_folder(database.parent)
    for left in database.parent.glob(f".{database.name}.*.tmp*"):
        left.unlink()  # of a process killed here; nobody else makes one while we hold the lock
    for chatter in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    with replacing(database) as aside:
        _connect(address_of(aside) or f"{SQLITE}{aside}")
        aside.chmod(0o660 if is_group_folder(database.parent) else 0o600)


def _migrate(database: Path) -> None:
    """Migrate our database to the schema of the installed MLflow.

    In place: a renamed copy would not be seen through the connections that MLflow keeps open.
    """
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", address_of(database) or f"{SQLITE}{database}"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrackingError(
            f"{database} has another schema than the installed MLflow and cannot be migrated ({last}). "
            f"It holds nothing that the run files do not: move it away and sync again"
        )


def check(store: Store) -> None:
    """Find at once what MLflow would retry for minutes: a file that is no database, a server that is away."""
    if store.uri.startswith(SQLITE):
        database = Path(store.uri[len(SQLITE) :])
        if not database.exists():
            return
        try:
            # Writable: a syncer killed in mid-write leaves a journal, and only a writer may roll it back.
            connection = sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=20)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise TrackingError(
                f"{database} is not a usable SQLite database ({error}). It only mirrors the run files: "
                f"move it away and sync again"
            ) from None
        return
    parts = urlsplit(store.uri)
    scheme = parts.scheme.split("+", 1)[0]
    try:
        default, given = _PORTS.get(scheme), parts.port
    except ValueError:  # its message quotes what it takes for the port, which may be the password
        raise TrackingError(
            f"MLFLOW_TRACKING_URI is '{store.shown}', which cannot be taken apart: behind the host stands no port. A "
            "password is written with %2F for /, %40 for @, %23 for #, %3A for : and %3F for ?"
        ) from None
    if default is None or parts.hostname is None or scheme in getproxies():  # behind a proxy only MLflow can ask
        return
    try:
        socket.create_connection((parts.hostname, given or default), timeout=5).close()
    except OSError as error:
        what = "MLflow's server" if store.is_server else "the database of MLflow"
        raise AwayError(
            f"{what} at {store.shown} does not answer ({error}). "
            f"Start it, or unset MLFLOW_TRACKING_URI to use a file beside the runs"
        ) from None
