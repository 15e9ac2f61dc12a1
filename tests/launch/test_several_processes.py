"""On a real SLURM: runs of two nodes each, and the loss of a node's process in the middle of one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from memscale.records.metrics import read_metrics
from tests.launch.slurm_cluster import cluster, missing
from tests.sweeps import FEWER, NAME, memscale, small_sweep, wait_for, write_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
]

JOB = [
    "scale=laptop", "launcher=slurm", "launcher.nodes_per_run=2", "launcher.cpus_per_run=1", "launcher.gpus_per_run=0",
    "launcher.memory=900M", "launcher.minutes=10", "launcher.check_minutes=0.15", "launcher.grace_seconds=20",
]  # fmt: skip


def test_runs_of_several_nodes_train_what_others_do_and_outlive_a_process(tmp_path: Path) -> None:
    sweep = small_sweep(write_text(tmp_path), flops="[2e10]", seeds="[0]", more=FEWER)
    runs = tmp_path / "slurm"
    with cluster(tmp_path, nodes=4) as environment:
        more = {"SLURM_CONF": environment["SLURM_CONF"]}
        refused = memscale(
            "sweep", NAME, *sweep, *JOB, "launcher.gpus_per_run=8", runs=runs, more=more, check=False
        )  # fmt: skip
        assert refused.returncode != 0
        assert "8 sequences a batch, too few for its 16 processes" in refused.stderr
        memscale("sweep", NAME, *sweep, *JOB, runs=runs, more=more)
        hit = wait_for("a second process in mid-training", lambda: _kill_a_second_process(runs), seconds=900)
        wait_for("the end of the sweep", lambda: (runs / NAME / "finished.json").exists(), seconds=900)
    first = json.loads((hit / "attempts" / "1" / "outcome.json").read_text())
    assert first["cause"] == "killed"
    assert "another process of this run is gone" in first["evidence"]
    assert (hit / "attempts" / "2" / "log-1.txt").exists()
    memscale("sweep", NAME, *sweep, "launcher=local", runs=tmp_path / "local")
    ours, theirs = _training(runs), _training(tmp_path / "local")
    assert len(ours) == 6
    assert {name: list(steps) for name, steps in ours.items()} == {name: list(steps) for name, steps in theirs.items()}
    for name, losses in theirs.items():  # sums round differently, and training makes more of it from step to step
        assert list(ours[name].values())[:20] == pytest.approx(list(losses.values())[:20], rel=3e-2), name


def _kill_a_second_process(runs: Path) -> Path | None:
    """Kill the second process of a run that is in mid-training; return the run's folder, None where there is none."""
    for beat in runs.glob(f"{NAME}/*/heartbeat.json"):
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(beat.read_text())
            if 0 < told["step"] < told["num_steps"] / 2 and (pid := _second_process(told["pid"])):
                os.kill(pid, signal.SIGKILL)
                return beat.parent
    return None


def _second_process(first: int) -> int | None:
    """The process that srun started beside `first` on another node."""
    step = _environment(first)
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and b"submitit" in (entry / "cmdline").read_bytes():
                other = _environment(int(entry.name))
                if other.get("SLURM_JOB_ID") == step["SLURM_JOB_ID"] and other.get("SLURM_PROCID") == "1":
                    return int(entry.name)
    return None


def _environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def _training(runs: Path) -> dict[str, dict[int, float]]:
    """The training losses of every run by step; a step that is there twice is refused."""
    found = {}
    for path in runs.glob(f"{NAME}/*/metrics.jsonl"):
        losses = [(one.step, one.value) for one in read_metrics(path) if (one.split, one.name) == ("train", "loss")]
        found[path.parent.name] = dict(losses)
        assert len(found[path.parent.name]) == len(losses)
    return found
