"""On a real SLURM: runs that diverge, outgrow their memory or are damaged, and a node that fails every job it gets.

Each is classified, handled as its row of the retry table says, and shown with the command that mends it; the rest of
the sweep ends as if they were not there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launch.slurm_cluster import cluster, missing
from tests.sweeps import memscale, wait_for, write_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
]

SWEEP = "memory_scaling"
BAD_NODE = "n2"
DIVERGES, TOO_LARGE = 1000, 4194304
"""A rate that with the weight decay below multiplies every weight by ten thousand in each step; rows of a table."""
OVERRIDES = (
    "scale=laptop", "data=text_files", "data.tokenizer.vocab_size=300", "data.tokenizer.train_bytes=50000",
    "data.validation_tokens=2048", "scale.sequence_length=32", "scale.batch_tokens=256", "scale.seeds=[0]",
    "scale.budgets=[{name:d32,tokens:5e4,d_model:32,num_layers:2,num_heads:2}]",
    "families.memory_plus.centred=1", "families.memory_plus.knn=4", "families.memory_plus.num_heads=2",
    f"recipe.tune.learning_rates=[0.01,0.02,{DIVERGES}]", "recipe.weight_decay=10",
    "recipe.tune.table_factors=[1]", "evaluate.validations=1",
    "evaluate.tasks=[]",
    f"grid=[{{families:[dense]}},{{families:[memory_plus],product:{{num_slots:[256,1024,{TOO_LARGE}]}}}}]",
    "launcher=slurm", "launcher.cpus_per_run=1", "launcher.gpus_per_run=0", "launcher.memory=900M",
    "launcher.device_memory=64G", "launcher.minutes=10", "launcher.check_minutes=0.15", "launcher.grace_seconds=20",
    f"launcher.setup=['test $SLURMD_NODENAME != {BAD_NODE} || exit 1']",
)  # fmt: skip


def test_what_fails_is_explained_and_the_rest_is_not_disturbed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with cluster(tmp_path, nodes=4) as environment:
        more = {"SLURM_CONF": environment["SLURM_CONF"]}

        def nodes(*what: str) -> None:
            subprocess.run(["scontrol", "update", "NodeName=n[1-4]", *what], env=environment, check=True)

        nodes("State=DRAIN", "Reason=test")
        overrides = [*OVERRIDES, f"data.files={write_text(tmp_path)}"]
        assert "submitted" in memscale("sweep", SWEEP, *overrides, runs=runs, more=more).stdout
        damaged = _damage(runs)
        nodes("State=RESUME")

        def told() -> dict[str, dict[str, str]]:
            said = json.loads(memscale("status", SWEEP, "--json", runs=runs, more=more, check=False).stdout)
            return {} if said["scheduled"] else {run["name"]: run for run in said["runs"]}

        seen = wait_for("the end of the sweep", told, seconds=900)
        shown = memscale("status", SWEEP, runs=runs, more=more, check=False)
        large = next(name for name in seen if str(TOO_LARGE) in name)
        shutil.copytree(runs, tmp_path / "before")
        memscale("retry", SWEEP, large, runs=runs, more=more)
        mended = "launcher.resources=[{families:[memory_plus],params_above:1e8,memory:4G}]"
        memscale("sweep", SWEEP, *overrides, mended, runs=runs, more=more)
        result = wait_for("the large run", lambda: list(runs.glob(f"{SWEEP}/{large}-*/result.json")), seconds=900)
    assert json.loads(result[0].read_text())["status"] == "done"
    runs = tmp_path / "before"
    assert shown.returncode == 4
    assert {run["state"] for run in seen.values()} == {"done", "failed"}
    failed = {name: run["cause"] for name, run in seen.items() if run["state"] == "failed"}
    assert failed == {
        **{name: "diverged" for name in seen if f"lr{DIVERGES}" in name},
        damaged: "error",
        **{name: "host_out_of_memory" for name in seen if str(TOO_LARGE) in name},
    }
    assert len(failed) == 4
    for name, cause in failed.items():
        assert f"{name} failed ({cause}): {seen[name]['evidence']}\n    {seen[name]['advice']}" in shown.stdout
        assert _causes(runs, name) == [cause] * (2 if name == damaged else 1)  # another node may read it whole
    assert "run.json is not what memscale wrote" in seen[damaged]["evidence"]
    assert all(_causes(runs, name) == ["done"] for name in seen if name not in failed)
    assert "Exceeded job memory limit" in memscale("logs", SWEEP, runs=runs).stdout
    assert (runs / SWEEP / "report.html").exists()
    _check_bad_node(runs)


def _damage(runs: Path) -> str:
    """Edit a waiting run's file by hand; return the run's name."""
    (path,) = runs.glob(f"{SWEEP}/tune-dense-*-lr0.02-*/run.json")
    path.write_text(path.read_text().replace('"d_model": 32', '"d_model": 33'))
    return path.parent.name.rpartition("-")[0]


def _causes(runs: Path, name: str) -> list[str]:
    """How the run's attempts ended, elsewhere than on the bad node."""
    told = [json.loads(path.read_text()) for path in sorted(runs.glob(f"{SWEEP}/{name}-*/attempts/*/outcome.json"))]
    return [outcome["cause"] for outcome in told if outcome["host"] != BAD_NODE]


def _check_bad_node(runs: Path) -> None:
    """It was left out once two runs had failed on it, and no run was given up for it."""
    scripts = [path.read_text() for path in runs.glob(f"{SWEEP}/slurm/*/*_submission.sh")]
    assert any(f"--exclude={BAD_NODE}" in script for script in scripts)
