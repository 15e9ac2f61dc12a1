"""A runs root with MLflow's database made once and copied: making it takes longer than most tests."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ui_server import UiServer, ui_server

Forked = Callable[[Callable[[], object]], int]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("empty")

    def make() -> None:
        from memscale.tracking.store import ensure_store

        ensure_store(root, uri=f"sqlite:///{root / 'mlflow.db'}")

    assert _in_a_process(make) == 0
    return root / "mlflow.db"


@pytest.fixture
def runs_root(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return tmp_path


def _in_a_process(action: Callable[[], object]) -> int:
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture
def in_a_process() -> Forked:
    """Run something in a process of its own; return its exit code (negative: the signal that killed it)."""
    return _in_a_process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[UiServer]:
    """`open_ui` as a person starts it, over three done runs."""
    runs_root = tmp_path_factory.mktemp("ui") / "runs"
    runs_root.mkdir()
    shutil.copy(empty_database, runs_root / "mlflow.db")
    with ui_server(runs_root) as started:
        yield started
