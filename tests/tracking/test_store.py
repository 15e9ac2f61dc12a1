"""Which store is used, and what is refused before MLflow would wait for it."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import alembic.command
import mlflow.store.db.utils as mlflow_databases
import pytest
import sqlalchemy
import sweep_files
from alembic.script import ScriptDirectory
from mlflow import MlflowClient

from memscale.tracking.mirror import sync
from memscale.tracking.store import AwayError, TrackingError, ensure_store, resolve


@pytest.fixture(autouse=True)
def _no_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_default_is_absolute_and_beside_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = resolve(Path("runs"))
    assert store.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert store.artifacts == tmp_path / "runs" / "mlartifacts"
    assert store.own == tmp_path / "runs" / "mlflow.db"


def test_the_environment_is_honoured_and_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    store = resolve(tmp_path / "runs")
    assert (store.uri, store.own) == (f"sqlite:///{tmp_path}/mine.db", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    store = resolve(tmp_path / "runs")
    assert (store.uri, store.artifacts, store.is_server) == ("http://tracking:5000", None, True)


def test_a_runs_folder_that_mlflow_would_read_otherwise_has_its_store_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, cache = tmp_path / "why? %41 a%20b&mode=ro" / "runs", tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    sweep_files.finished_sweep(runs / "demo")
    synced = sync(runs / "demo")
    assert synced.problems == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", runs.parent.name]
    assert [path.name for path in runs.parent.iterdir()] == ["runs"]
    with sqlite3.connect(runs / "mlflow.db") as database:  # a path, no address
        (num_runs,) = database.execute("SELECT count(*) FROM runs").fetchone()
    assert num_runs > 1
    client = MlflowClient(resolve(runs).uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "demo"]
    run = next(one for one in client.search_runs([experiment.experiment_id]) if client.list_artifacts(one.info.run_id))
    (first, *_) = client.list_artifacts(run.info.run_id)
    assert Path(client.download_artifacts(run.info.run_id, first.path)).exists()
    assert list((runs / "mlartifacts").rglob(first.path))
    other = cache / "memscale" / "folders"
    (link,) = other.iterdir()
    link.unlink()
    link.symlink_to(tmp_path)  # as if it stood for another folder
    assert MlflowClient(resolve(runs).uri).get_experiment_by_name("demo") is not None
    assert link.readlink() == runs


@pytest.mark.parametrize("name", ["why?", "a%20b"])
def test_an_address_that_names_another_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"holds a '\?'.*unset it"):
        resolve(tmp_path, f"sqlite:///{tmp_path}/{name}/mine.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "sqlite://memory", "nonsense"])
def test_what_mlflow_cannot_use_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match=r"Needed: sqlite:///<path>.*Unset it"):
        resolve(tmp_path, uri)


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    store = resolve(tmp_path, "postgresql+psycopg2://me:secret@db:5432/mlflow")
    assert store.shown == "postgresql+psycopg2://me:***@db:5432/mlflow"


def test_a_database_server_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not answer") as raised:
        ensure_store(tmp_path, uri="postgresql://me:secret@127.0.0.1:9/mlflow")
    assert "secret" not in str(raised.value)


def test_a_tracking_server_that_is_away_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(AwayError, match=r"MLflow's server at http://127.0.0.1:9 does not answer.*Start it"):
        ensure_store(tmp_path, uri="http://127.0.0.1:9")


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = f"mssql+pymssql://me:secret@127.0.0.1:{listening.getsockname()[1]}/mlflow"
        with pytest.raises(TrackingError, match="the driver pymssql is not installed") as raised:
            ensure_store(tmp_path, uri=uri)
    assert "secret" not in str(raised.value)


def test_a_damaged_database_is_told(runs_root: Path) -> None:
    (runs_root / "mlflow.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(TrackingError, match="move it away and sync again"):
        ensure_store(runs_root)


def test_what_a_killed_creator_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".mlflow.db.123-abc.tmp"
    left.write_bytes(b"half")
    store = ensure_store(tmp_path)
    assert not left.exists()
    assert store.own is not None
    assert store.own.exists()


def test_an_outdated_database_is_migrated_where_it_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated_database(tmp_path / "mlflow.db", monkeypatch)
    before = revision(tmp_path / "mlflow.db")
    ensure_store(tmp_path)
    assert revision(tmp_path / "mlflow.db") != before


def test_an_outdated_database_of_somebody_else_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outdated_database(tmp_path / "theirs.db", monkeypatch)
    before = revision(tmp_path / "theirs.db")
    with pytest.raises(TrackingError, match="mlflow db upgrade"):
        ensure_store(tmp_path / "runs", uri=f"sqlite:///{tmp_path}/theirs.db")
    assert revision(tmp_path / "theirs.db") == before


def test_a_database_that_cannot_be_migrated_is_told(runs_root: Path) -> None:
    with sqlite3.connect(runs_root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of_a_newer_mlflow'")
    with pytest.raises(TrackingError, match="move it away and sync again"):
        ensure_store(runs_root)


def outdated_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that lacks MLflow's newest migration; one that adds tables is taken for one that adds columns."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    mlflow_databases.InitialBase.metadata.create_all(engine)
    config = mlflow_databases._get_alembic_config(str(engine.url))
    newest, before, *_ = ScriptDirectory.from_config(config).walk_revisions()
    assert newest.down_revision == before.revision
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, before.revision)
    engine.dispose()
    monkeypatch.setattr(mlflow_databases, "_all_tables_exist", lambda _: True)


def revision(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_a_deleted_experiment_is_told_with_the_way_back(runs_root: Path) -> None:
    sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    synced = sync(runs_root / "demo")
    assert synced.experiment_id is not None
    MlflowClient(synced.uri).delete_experiment(synced.experiment_id)
    with pytest.raises(TrackingError, match=rf"mlflow experiments restore -x {synced.experiment_id}"):
        sync(runs_root / "demo")


@pytest.mark.parametrize("password", ["ge/heim", "ge@heim", "ge#heim", "12#heim", "ge:heim", "ge?heim", "ge heim"])
@pytest.mark.parametrize(
    "uri", ["postgresql://me:{}@127.0.0.1:9/mlflow", "postgres://me:{}@db/x", "http://me:{}@127.0.0.1:9"]
)
def test_no_password_is_said_whatever_it_is_made_of(tmp_path: Path, uri: str, password: str) -> None:
    with pytest.raises(TrackingError) as raised:
        ensure_store(tmp_path, uri=uri.format(password))
    assert "heim" not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_what_mlflow_writes_itself_has_no_password(tmp_path: Path) -> None:
    """The syncer's own process, whose output is `sync.log`: messages, warnings and tracebacks."""
    uri = "postgresql://127.0.0.1:9/mlflow?user=me&password=geheim"
    script = (
        "import os, runpy, sys, logging\n"
        "import memscale.tracking.store as store\n"
        "def fail(*_, **__): raise RuntimeError(os.environ['MLFLOW_TRACKING_URI'])\n"
        "store.check = fail\n"
        "sys.argv = ['x', '--create']\n"
        "runpy.run_module('memscale.tracking', run_name='__main__')\n"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MEMSCALE_RUNS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert "RuntimeError: postgresql://127.0.0.1:9/mlflow?user=me&password=***" in done.stderr
    assert "geheim" not in done.stdout + done.stderr
