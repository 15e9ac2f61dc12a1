"""Eight workers' runs into a real MLflow server on PostgreSQL while they run, with both servers killed meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sweep_files
from tracking_server import TrackingServer, missing

from memscale.records.layout import RunPaths
from memscale.records.lease import Lease

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
]

_WORKERS, _ROUNDS, _STEPS = 8, 60, 10


def _work(paths: RunPaths, ending: multiprocessing.synchronize.Event) -> None:
    """A run as the trainer leaves it behind: metrics as they come, checkpoints, a result when it may end."""
    with Lease(paths.lease, paths.root.name):
        sweep_files.start(paths)
        for number in range(_ROUNDS):
            steps = range(number * _STEPS + 1, (number + 1) * _STEPS + 1)
            sweep_files.train(paths, steps, checkpoint=steps[-1])
            sweep_files.beat(paths, time=time.time())
            time.sleep(0.5)
        ending.wait(120)
        sweep_files.finish(paths, steps=_ROUNDS * _STEPS)
        sweep_files.end_attempt(paths, "done")


def _sync(root: Path, uri: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "memscale.tracking", str(root), *options]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _points(server: TrackingServer) -> list[tuple[str, str, int, float]]:
    query = (
        "SELECT tags.value, metrics.key, metrics.step, metrics.value FROM metrics JOIN tags USING (run_uuid) "
        "WHERE tags.key = 'memscale.run_id'"
    )
    return server.ask(query)


def _points_of_files(runs: list[RunPaths]) -> list[tuple[str, str, int, float]]:
    found = []
    for paths in runs:
        lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
        run_id = json.loads(paths.run.read_text())["run_id"]
        found += [(run_id, f"{line['split']}/{line['name']}", line["step"], line["value"]) for line in lines]
        found += [(run_id, "progress/tokens", step, 1024.0 * step) for step in {line["step"] for line in lines}]
    return found


def test_eight_workers_runs_stand_in_postgresql_once(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    runs = [sweep_files.add_run(root, seed=seed) for seed in range(_WORKERS)]
    context = multiprocessing.get_context("fork")
    with TrackingServer() as server:
        ending = context.Event()
        workers = [context.Process(target=_work, args=(paths, ending)) for paths in runs]
        for worker in workers:
            worker.start()
        assert _sync(root, server.uri).wait(60) == 0
        assert len(_points(server)) > 0
        assert server.ask("SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(_WORKERS + 1,)]

        under_way = _sync(root, server.uri)
        before = len(_points(server))
        while len(_points(server)) == before and under_way.poll() is None:
            time.sleep(0.02)
        server.kill("mlflow")  # in the middle of sending
        _, said = under_way.communicate(timeout=90)
        assert under_way.returncode == 1, said
        assert "Traceback" not in said

        away = _sync(root, server.uri)
        _, said = away.communicate(timeout=60)
        assert away.returncode == 1
        assert f"MLflow's server at {server.uri} does not answer" in said
        waiting = _sync(root, server.uri, "--wait", "90")  # begun while it is away
        server.start("mlflow")
        assert waiting.wait(90) == 0

        server.kill("postgres")
        server.start("postgres")
        assert any(worker.is_alive() for worker in workers)
        ending.set()
        for worker in workers:
            worker.join(120)
        assert [worker.exitcode for worker in workers] == [0] * _WORKERS
        last = _sync(root, server.uri, "--wait", "90")
        _, said = last.communicate(timeout=100)
        assert last.returncode == 0, said

        finals = ("loss/", "score/", "usage/", "cost/")
        held = [point for point in _points(server) if not point[1].startswith(finals)]
        assert sorted(held) == sorted(_points_of_files(runs))
        assert len(held) == _WORKERS * _ROUNDS * _STEPS * 6
        assert server.ask("SELECT status, count(*) FROM runs GROUP BY 1") == [("FINISHED", _WORKERS + 1)]
        artifacts = server.folder / "tracking" / "artifacts"
        assert len(list(artifacts.rglob("result.json"))) == _WORKERS
