"""Several processes and killed ones: one clean store, no point twice, nothing missing."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sweep_files
from mlflow import MlflowClient

from memscale.records.lease import Lease
from memscale.records.metrics import cut_back
from memscale.tracking import metric_history as sending
from memscale.tracking.mirror import sync
from memscale.tracking.store import ensure_store


def test_eight_syncers_at_once_leave_one_clean_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "demo"
    runs = sweep_files.finished_sweep(root, num_runs=4)
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(8), context.Queue()

    def one() -> None:
        barrier.wait()
        answers.put(sync(root))

    processes = [context.Process(target=one) for _ in range(8)]
    for process in processes:
        process.start()
    synced = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    assert sum(answer.num_points > 0 for answer in synced) == 1
    assert any(answer.held_by is not None for answer in synced)
    held = sweep_files.points(tmp_path / "mlflow.db")
    assert len(held) == len(set(held)) == max(answer.num_points for answer in synced)
    assert {run_id for run_id, _, _ in held} == {paths.root.name[-12:] for paths in runs}
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (5,)
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "mlartifacts", "mlflow.db", "mlflow.lock"}


def test_eight_creators_at_once_all_get_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=ensure_store, args=(tmp_path,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8


def test_a_second_syncer_says_who_holds_the_store(runs_root: Path) -> None:
    sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
    with Lease(runs_root / "mlflow.lock", "writing to MLflow"):
        answer = sync(runs_root / "demo")
        assert answer.held_by is not None
        assert str(os.getpid()) in answer.held_by
        assert sweep_files.points(runs_root / "mlflow.db") == []
    assert sync(runs_root / "demo", wait_seconds=5).num_points > 0


@pytest.mark.slow
def test_sigkill_after_any_write_leaves_no_double_and_no_gap(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, in_a_process: Callable[..., int]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sending, "_METRICS_PER_BATCH", 50)
    reference, num_kills = None, 0
    for allowed in itertools.chain([None], itertools.count(1)):
        runs_root = tmp_path / str(allowed)
        sweep_files.finished_sweep(runs_root / "demo", num_runs=1)
        (runs_root / "mlflow.db").write_bytes(empty_database.read_bytes())
        code = in_a_process(lambda root=runs_root / "demo", allowed=allowed: _sync_and_die(root, allowed))
        if allowed is not None and code == 0:
            break  # more writes allowed than there are
        num_kills += code == -signal.SIGKILL
        assert in_a_process(lambda root=runs_root / "demo": sync(root)) == 0
        held = sweep_files.points(runs_root / "mlflow.db")
        reference = reference or held
        assert held == reference, f"killed after {allowed} writes"
        with sqlite3.connect(runs_root / "mlflow.db") as connection:
            assert connection.execute("SELECT status, count(*) FROM runs GROUP BY 1").fetchall() == [("FINISHED", 2)]
    assert reference is not None
    assert len(reference) > 100
    assert len(reference) == len(set(reference))
    assert num_kills >= 12


def _sync_and_die(root: Path, allowed: int | None) -> None:
    """Sync; die by SIGKILL right after the allowed number of writes, a batch's points being stored but not its tags."""
    left = [allowed]

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    keywords.pop("tags", None) if write.__name__ == "log_batch" else None
                    write(*arguments, **keywords)
                    os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **keywords)

        return call

    for name in sweep_files.WRITES:
        setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    sync(root)


def test_killed_while_sending_and_trained_again_with_other_times(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch, in_a_process: Callable[..., int]
) -> None:
    """The one case in which MLflow's own refusal of identical rows does not help."""
    monkeypatch.setattr(sending, "_METRICS_PER_BATCH", 50)
    root = runs_root / "demo"
    paths = sweep_files.add_run(root)
    sweep_files.start(paths)
    sweep_files.train(paths, range(1, 41), checkpoint=40)
    # Writes: experiment, parent, child, params, dataset, then the batches of 50 points.
    assert in_a_process(lambda: _sync_and_die(root, 7)) == -signal.SIGKILL
    held = sweep_files.points(runs_root / "mlflow.db")
    assert len(held) == 100  # died among the batches
    cut_back(paths.metrics, 0)  # both checkpoints found corrupt: trained from the start again
    sweep_files.train(paths, range(1, 51), checkpoint=50, shift=3600)
    assert in_a_process(lambda: sync(root)) == 0
    held = sweep_files.points(runs_root / "mlflow.db")
    assert len(held) == len(set(held)) == 50 * 6


def test_a_write_cut_short_by_sigkill_is_rolled_back_by_the_next_sync(runs_root: Path) -> None:
    root = runs_root / "demo"
    sweep_files.finished_sweep(root, num_runs=1, num_steps=10)
    sync(root)
    before = sweep_files.points(runs_root / "mlflow.db")
    code = """
import os, signal, sqlite3, sys
writing = sqlite3.connect(sys.argv[1], isolation_level=None)
writing.execute("PRAGMA cache_size = 2")  # pages go to the file before the commit, as in a large batch
writing.execute("BEGIN IMMEDIATE")
writing.execute("UPDATE metrics SET value = value + 1")
writing.execute("CREATE TABLE filler AS SELECT a.key, b.value FROM metrics a, metrics b, metrics c LIMIT 20000")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(runs_root / "mlflow.db")], check=False)
    assert (runs_root / "mlflow.db-journal").stat().st_size > 0
    assert sync(root).num_points == 0
    assert sweep_files.points(runs_root / "mlflow.db") == before


def test_sigkill_at_any_moment(runs_root: Path) -> None:
    root = runs_root / "demo"
    sweep_files.finished_sweep(root, num_runs=4, num_steps=100)
    context = multiprocessing.get_context("fork")
    codes = []
    for milliseconds in (20, 50, 90, 130, 170, 220, 300):
        process = context.Process(target=sync, args=(root,))
        process.start()
        time.sleep(milliseconds / 1000)
        process.kill()
        process.join()
        codes.append(process.exitcode)
    assert -signal.SIGKILL in codes
    process = context.Process(target=sync, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 0
    held = sweep_files.points(runs_root / "mlflow.db")
    finals = sum(name.startswith(("loss/", "score/", "usage/", "cost/")) for _, name, _ in held)
    assert len(held) == len(set(held)) == 4 * 100 * 6 + finals
    assert finals == 4 * 11
