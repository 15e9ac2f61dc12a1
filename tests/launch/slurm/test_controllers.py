"""What stands in a controller's script, which SLURM keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.launch.slurm.commands import FullError
from memscale.launch.slurm.controllers import KINDS, _script, controller_name, ensure_controllers
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths
from memscale.records.submissions import accepted, new_submission, write_submission
from tests.launch.fake_slurm import FakeSlurm


@pytest.fixture(scope="module")
def launch() -> Launch:
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop"]).sweep
    digests = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)
    return Launch(launched=0.0, sweep=sweep, digests=digests, code="/runs/s/code/c", python="python")


def test_a_look_that_is_at_work_does_not_keep_the_next_one_from_being_submitted(
    launch: Launch, paths: SweepPaths, slurm: FakeSlurm
) -> None:
    submission = new_submission("s", ("dense-0123456789ab",))
    write_submission(paths, submission)
    accepted(paths, submission, "7")
    look, following = (controller_name(paths, kind) for kind in KINDS)
    others = f"7|N/A|RUNNING|n1|{submission.name}|None\n4|N/A|PENDING||{following}|Dependency"
    for state, submitted in (("RUNNING", 1), ("PENDING", 0)):
        before = len(slurm.calls("sbatch"))
        slurm.say({"squeue": f"3|N/A|{state}||{look}|None\n{others}"})
        ensure_controllers(launch, paths, own_job="2", submitted=False)
        assert len(slurm.calls("sbatch")) - before == submitted
        assert all(call[0] == "--begin=now+300" for call in slurm.calls("sbatch"))


def test_where_the_queue_is_full_the_jobs_in_it_see_to_a_controller(
    launch: Launch, paths: SweepPaths, slurm: FakeSlurm
) -> None:
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\nexit 1\n")
    with pytest.raises(FullError, match="QOSMaxSubmitJobPerUserLimit"):  # nobody would ever look again
        ensure_controllers(launch, paths, own_job=None, submitted=True)
    submission = new_submission("s", ("dense-0123456789ab",))
    write_submission(paths, submission)
    accepted(paths, submission, "7")
    slurm.say({"squeue": f"7|N/A|RUNNING|n1|{submission.name}|None"})
    ensure_controllers(launch, paths, own_job=None, submitted=True)


def test_no_password_stands_in_a_controllers_script(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:geheim@db/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "geheim")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    script = _script(launch, SweepPaths(Path("/runs/s")), [])
    assert "geheim" not in script
    assert "export MLFLOW_HTTP_REQUEST_TIMEOUT=30\n" in script
    assert "export MEMSCALE_RUNS=/runs\n" in script
