"""A sweep on a real SLURM: all runs done, with the local pool's losses to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.launch.slurm_cluster import cluster, missing
from tests.sweeps import NAME, memscale, small_sweep, write_text

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "")]

JOB = ["launcher.cpus_per_run=1", "launcher.gpus_per_run=0", "launcher.memory=900M", "launcher.minutes=10"]


def _losses(runs: Path) -> dict[str, object]:
    return {
        path.parent.name: json.loads(path.read_text())["losses"] for path in sorted(runs.glob(f"{NAME}/*/result.json"))
    }


def test_slurm_trains_what_the_local_pool_trains(tmp_path: Path) -> None:
    sweep = small_sweep(write_text(tmp_path), flops="[2e9]", seeds="[0]", more=("recipe.tune.learning_rates=[0.01]",))
    with cluster(tmp_path) as environment:
        more = {"SLURM_CONF": environment["SLURM_CONF"]}
        plan = memscale("plan", NAME, runs=tmp_path / "none", more=more)
        assert "launcher slurm (SLURM answers here" in plan.stdout
        assert "scale node" in plan.stdout
        looked = memscale("doctor", "--json", runs=tmp_path / "none", more=more, check=False)
        findings = [one for one in json.loads(looked.stdout)["findings"] if one["topic"] == "slurm"]
        assert [one for one in findings if not one["good"]] == []
        assert {"accounting", "partition main", "controller"} <= {one["what"] for one in findings}
        overrides = [*sweep, "scale=laptop", "launcher=slurm", *JOB]
        memscale("sweep", NAME, *overrides, runs=tmp_path / "slurm", more=more)
    told = json.loads(memscale("status", NAME, "--json", runs=tmp_path / "slurm").stdout)["runs"]
    assert sorted(int(run["job_id"]) for run in told) == [1, 2, 3, 4, 5, 6]
    memscale("sweep", NAME, *sweep, "launcher=local", runs=tmp_path / "local")
    on_slurm = _losses(tmp_path / "slurm")
    assert len(on_slurm) == 6
    assert on_slurm == _losses(tmp_path / "local")
    submissions = list((tmp_path / "slurm" / NAME / "slurm").glob("*_submission.sh"))
    assert len(submissions) == 6
