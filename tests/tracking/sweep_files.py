"""Run folders as the trainer leaves them, written with memscale's own record functions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

from memscale.config.architecture import Architecture, Memory
from memscale.config.data import Data, PythonStdlib
from memscale.config.optimizer import Optimizer, Schedule
from memscale.config.run import Digests, Run
from memscale.records.atomic import write_json
from memscale.records.attempts import Outcome, write_outcome
from memscale.records.heartbeat import Heartbeat, write_heartbeat
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.metrics import MetricsLog
from memscale.records.run_file import OtherConventions, PlannedCounts, RunFile, write_run_file

QUESTION = "Does a table beat nothing?"
START = 1_700_000_000.0
WRITES = (
    *("create_experiment", "set_experiment_tag", "create_run", "log_batch", "log_inputs"),
    *("set_tag", "log_artifact", "set_terminated", "update_run"),
)
"""The methods of MlflowClient by which tracking writes."""


def add_run(
    root: Path, *, seed: int = 0, family: str = "dense", budget: float = 1e13, sweep: str | None = None
) -> RunPaths:
    """A planned run of the sweep in `root`."""
    name = f"{family}-{budget:.0e}-s{seed}".replace("+", "")
    file = RunFile(
        sweep=sweep or root.name,
        question=QUESTION,
        scale="laptop",
        stage="compare",
        name=name,
        run_id=hashlib.sha256(name.encode()).hexdigest()[:12],
        series=family,
        family=family,
        budget=f"{budget:g}",
        budget_flops=budget,
        run=_configuration(seed, family),
        counts=PlannedCounts(
            params_total=1_000_000,
            params_active=200_000,
            params_non_embedding=150_000,
            params_table=800_000,
            rows_read_per_token=128,
            flops_per_token_forward=4e5,
            flops_train=budget,
            flops_mismatch=0.001,
            params_mismatch=None,
        ),
        conventions=OtherConventions(
            six_n_total=1.0, six_n_active=1.0, six_n_non_embedding=1.0, ludziejewski=1.0, palm=1.0
        ),
        data=Data(name="stdlib", sources=(PythonStdlib(name="code"),)),
        tasks=None,
    )
    paths = SweepPaths(root).run(file.name, file.run_id)
    write_run_file(paths.run, file)
    write_json(paths.provenance, {"git": {"commit": "0" * 40}}, format=1)
    return paths


def _configuration(seed: int, family: str) -> Run:
    memory = Memory(layers=(1,), num_keys=16, num_heads=2, knn=4, key_width=8, value_width=8)
    return Run(
        architecture=Architecture(
            family=family,
            d_model=16,
            num_layers=2,
            num_heads=2,
            num_kv_heads=2,
            head_width=8,
            ffn_hidden=32,
            vocab_size=300,
            memory=memory if family == "memory_plus" else None,
        ),
        optimizer=Optimizer(learning_rate=1e-3, table_learning_rate=1e-2 if family == "memory_plus" else None),
        schedule=Schedule(),
        tokens=102_400,
        batch_tokens=1024,
        sequence_length=128,
        seed=seed,
        validations=4,
        digests=Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64),
    )


def start(paths: RunPaths, *, number: int = 1, pid: int | None = None, host: str | None = None) -> None:
    """A new attempt of the run, with its submission."""
    told = {"started": START + 1000 * number, "host": host or socket.gethostname(), "pid": pid or os.getpid()}
    write_json(paths.attempt(number) / "submission.json", told, format=1)


def beat(paths: RunPaths, *, time: float, number: int = 1, pid: int | None = None, host: str | None = None) -> None:
    heartbeat = Heartbeat(
        time=time,
        step=1,
        num_steps=100,
        tokens=1024,
        loss=5.0,
        tokens_per_second=1e4,
        seconds_left=10.0,
        phase="training",
        attempt=number,
        pid=pid or os.getpid(),
        host=host or socket.gethostname(),
    )
    write_heartbeat(paths.heartbeat, heartbeat)


def train(paths: RunPaths, steps: range, *, checkpoint: int | None = None, shift: float = 0.0) -> None:
    """Append five train metrics for each of `steps`, taken `shift` seconds late; leave a checkpoint."""
    log = MetricsLog(paths.metrics, paths.run_id or "")
    for step in steps:
        values = {"loss": 5.0 / (1 + step), "grad_norm": 1.0 + step / 7, "lr": 1e-3, "aux": 0.5, "seconds": 0.1 * step}
        log.add(step, 1024 * step, "train", **values)
    log.close()
    if shift:
        _shift_times(paths.metrics, shift)
    if checkpoint is not None:
        (paths.checkpoints / f"step-{checkpoint}").mkdir(parents=True)


def _shift_times(path: Path, shift: float) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["chain"]
        line["time"] += shift
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def finish(paths: RunPaths, *, steps: int = 100, status: str = "done", loss: float = 3.0) -> None:
    """The run's last words: result and outcome."""
    score = {"value": 0.5, "stderr": 0.02, "num_samples": 400}
    result: dict[str, Any] = {
        "status": status,
        "achieved": {"params_total": 1_000_000, "params_table": 800_000, "tokens": 1024 * steps, "steps": steps},
        "losses": {
            "code": {"nats_per_token": loss, "nats_stderr": 0.01, "bits_per_byte": loss / 2},
            "mixture": {"nats_per_token": loss},
        },
        "usage": {"slots_used": 0.9},
        "scores": {"facts_recall": {"acc": score, "exact_match": {**score, "stderr": None}}},
        "timings": {"train_seconds": 12.0, "tokens_per_second": 8e3},
        "peak_memory_bytes": 10**9,
        "ended": START + 5000,
    }
    write_json(paths.result, result, format=1)
    shutil.rmtree(paths.checkpoints, ignore_errors=True)


def end_attempt(paths: RunPaths, cause: str, *, number: int = 1) -> None:
    ended = START + 1000 + 1000 * number
    outcome = Outcome(cause=cause, evidence="seen", started=START, ended=ended, host=socket.gethostname())
    write_outcome(paths, number, outcome)


def finished_sweep(root: Path, *, num_runs: int = 3, num_steps: int = 20) -> list[RunPaths]:
    runs = []
    for seed in range(num_runs):
        paths = add_run(root, seed=seed, family="memory_plus" if seed % 2 else "dense")
        start(paths)
        train(paths, range(1, num_steps + 1))
        finish(paths, steps=num_steps, loss=3.0 + seed / 10)
        end_attempt(paths, "done")
        runs.append(paths)
    return runs


def points(database: Path) -> list[tuple[str, str, int]]:
    """(memscale run id, key, step) of every metric row in MLflow's database, read without MLflow."""
    query = (
        "SELECT tags.value, metrics.key, metrics.step FROM metrics JOIN tags USING (run_uuid) "
        "WHERE tags.key = 'memscale.run_id' ORDER BY 1, 2, 3"
    )
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


def rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, sorted."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
