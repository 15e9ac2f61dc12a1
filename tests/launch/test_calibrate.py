"""Which models are measured, and that measuring them makes the forecast a measurement, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memscale.errors import ConfigError
from memscale.launch.calibrate import calibrate, calibration_workers, models_to_measure
from tests.planning.shipped import planned, shipped
from tests.sweeps import NAME, memscale, small_sweep, write_text


def test_every_family_s_smallest_and_largest_model_come_first() -> None:
    plan = planned("memory_layers_at_scale", "scale=laptop")
    models = models_to_measure(plan)
    families = {run.family for run in plan.runs}
    first = models[: 2 * len(families)]
    for family in families:
        flops = [run.counts.flops_per_token_forward for run in plan.runs if run.family == family]
        taken = {run.counts.flops_per_token_forward for run in first if run.family == family}
        assert taken == {min(flops), max(flops)}
    keys = [(run.series, run.batch_tokens, run.counts.flops_per_token_forward) for run in models]
    assert len(set(keys)) == len(keys)
    assert {run.series for run in models} == {run.series for run in plan.runs}


def test_a_run_of_several_processes_is_refused() -> None:
    sweep = shipped("memory_vs_moe", "launcher=slurm", "launcher.gpus_per_run=4", "launcher.nodes_per_run=2")
    with pytest.raises(ConfigError, match="measures one process, and a run of this launcher has 8"):
        calibration_workers(sweep)


def test_a_login_node_is_refused_and_a_job_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = shipped("memory_vs_moe", "launcher=slurm", "launcher.partition=gpu", "scale=laptop")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=r"srun --partition=gpu .* memscale plan memory_vs_moe --calibrate"):
        calibration_workers(sweep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    (worker,) = calibration_workers(sweep)
    assert worker.gpu == "3"
    assert worker.machine.startswith("SLURM gpu")


def test_what_does_not_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = planned("memory_vs_moe", "scale=laptop", "launcher.workers=1", "launcher.device_memory=1M")
    said: list[str] = []
    found = calibrate(plan, said.append)
    assert (said, found.points) == ([], ())
    assert len(found.unmeasured) == len(models_to_measure(plan))
    assert "dense at d24" in dict(found.unmeasured)
    assert all("GB of memory, and a worker has 0.00105 GB" in reason for _, reason in found.unmeasured)


@pytest.mark.slow
def test_a_calibrated_forecast_is_measured_and_marked(tmp_path: Path) -> None:
    runs, sweep = tmp_path / "runs", small_sweep(write_text(tmp_path), flops="[2e9]", seeds="[0]")
    before = memscale("plan", NAME, *sweep, runs=runs).stdout
    assert "guess: nothing near was measured here for dense, moe, memory_plus" in before
    assert not runs.exists()
    done = memscale("plan", NAME, *sweep, "--calibrate", "--json", runs=runs)
    assert json.loads(done.stdout)["forecast"]["measured"]
    assert "3 of 3" in done.stderr
    assert [path.name for path in runs.iterdir()] == ["speeds.json"]
    ((machine, points),) = json.loads((runs / "speeds.json").read_text())["machines"].items()
    assert "1 threads a run" in machine
    assert {point["family"] for point in points} == {"dense", "moe", "memory_plus"}
    assert {point["source"] for point in points} == {"calibration"}
    assert all(1e7 < point["flops_per_second"] < 1e13 for point in points)
    after = memscale("plan", NAME, *sweep, runs=runs).stdout
    assert "(measured on this machine: 3 calibrated models)" in after
    assert "guess" not in after
