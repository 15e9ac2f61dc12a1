"""A sweep on a real SLURM, with nobody at the terminal, ends with the local pool's losses to the last digit.

Its folders have names that a shell or a URI would take apart, and the code that it was launched from is edited, so that
nothing of it would run, before the first job starts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launch.slurm_cluster import cluster, missing
from tests.sweeps import NAME, ROOT, memscale, small_sweep, wait_for, write_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
]

ODD = "it's [1] of 100 % é # $HOME? %41"
JOB = [
    "launcher.cpus_per_run=1", "launcher.gpus_per_run=0", "launcher.memory=900M", "launcher.minutes=10",
    "launcher.check_minutes=0.3",
]  # fmt: skip


def _losses(runs: Path) -> dict[str, object]:
    return {
        path.parent.name: json.loads(path.read_text())["losses"] for path in sorted(runs.glob(f"{NAME}/*/result.json"))
    }


def test_a_detached_sweep_ends_by_itself_with_the_losses_of_the_local_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of this process and of all that it starts
    sweep = small_sweep(write_text(tmp_path), flops="[2e9]", seeds="[0]")
    with cluster(tmp_path, nodes=4) as environment:
        more = {"SLURM_CONF": environment["SLURM_CONF"]}
        plan = memscale("plan", NAME, runs=tmp_path / "none", more=more)
        assert "launcher slurm (SLURM answers here" in plan.stdout
        assert "scale node" in plan.stdout
        looked = memscale("doctor", "--json", runs=tmp_path / "none", more=more, check=False)
        findings = [one for one in json.loads(looked.stdout)["findings"] if one["topic"] == "slurm"]
        assert [one for one in findings if not one["good"]] == []
        assert {"accounting", "partition main", "controller"} <= {one["what"] for one in findings}

        runs, code = tmp_path / ODD / "runs", tmp_path / ODD / "code"
        for folder in ("memscale", "analysis", "sweeps"):
            shutil.copytree(ROOT / folder, code / folder)
        overrides = [*sweep, "scale=laptop", "launcher=slurm", *JOB]
        _nodes("State=DRAIN", environment)
        told = memscale("sweep", NAME, *overrides, runs=runs, more=more, code=code).stdout
        assert "3 runs submitted" in told
        assert "you may log out" in told
        (code / "memscale" / "__init__.py").write_text("raise SystemExit('edited after the launch')")
        _nodes("State=RESUME", environment)

        wait_for("the end of the sweep and its report", lambda: (runs / NAME / "finished.json").exists(), seconds=900)
        assert memscale("status", NAME, runs=runs, more=more, check=False).returncode == 0
    assert (runs / NAME / "report.html").exists()
    logs = [path.read_text() for path in (runs / NAME / "slurm" / "controllers").glob("*.log")]
    assert sum(log.count("report.html") for log in logs) == 1, logs
    jobs = [run["job_id"] for run in json.loads(memscale("status", NAME, "--json", runs=runs).stdout)["runs"]]
    assert len(set(jobs)) == 6
    assert all("_" in job for job in jobs)
    memscale("sweep", NAME, *sweep, "launcher=local", runs=tmp_path / "local")
    on_slurm = _losses(runs)
    assert len(on_slurm) == 6
    assert on_slurm == _losses(tmp_path / "local")
    _check_mlflow(runs)


def _nodes(state: str, environment: dict[str, str]) -> None:
    command = ["scontrol", "update", "NodeName=n[1-4]", state, "Reason=test"]
    subprocess.run(command, env=environment, check=True)


def _check_mlflow(runs: Path) -> None:
    from mlflow import MlflowClient

    from memscale.tracking.store import resolve

    client = MlflowClient(resolve(runs).uri)
    (experiment,) = [one for one in client.search_experiments() if one.name != "Default"]
    mirrored = client.search_runs([experiment.experiment_id], max_results=1000)
    finished = [run for run in mirrored if "memscale.run_id" in run.data.tags and run.info.status == "FINISHED"]
    assert len(finished) >= 6
