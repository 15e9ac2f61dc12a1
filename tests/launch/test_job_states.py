"""What a person reads of a run's job: suspended, held, refused, in a partition that is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.launch.executor import RunStatus
from memscale.launch.job_states import needs_a_person, state_on_slurm
from memscale.launch.slurm.commands import QueueEntry
from memscale.launch.states import RunState
from memscale.records.attempts import new_attempt
from memscale.records.launch_file import Launch
from memscale.records.layout import RunPaths
from memscale.records.lease import Lease
from memscale.records.submissions import Refusal


@pytest.fixture(scope="module")
def launch() -> Launch:
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop"]).sweep
    digests = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)
    return Launch(launched=0.0, sweep=sweep, digests=digests, code="/c", python="python")


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "s" / "dense-0123456789ab")


def waiting(run: RunPaths, state: str, reason: str) -> RunStatus:
    entry = QueueEntry(job_id="7_0", name="memscale-s-0", state=state, reason=reason, node="")
    return RunStatus(paths=run, state="queued", entry=entry)


def told(status: RunStatus, launch: Launch, *, scheduled: bool = True) -> RunState:
    return state_on_slurm(status, launch, (), scheduled=scheduled)


@pytest.mark.parametrize("state", ["SUSPENDED", "STOPPED", "RUNNING"])
def test_a_suspended_job_is_not_called_training(state: str, run: RunPaths, launch: Launch) -> None:
    run.root.mkdir(parents=True)
    new_attempt(run, threads=1, device="cpu")
    entry = QueueEntry(job_id="7_0", name="memscale-s-0", state=state, reason="None", node="n1")
    with Lease(run.lease, "the run"):
        found = told(RunStatus(paths=run, state="working", entry=entry), launch)
    assert found.state == "running"
    assert (found.advice == "it goes on when somebody resumes it: scontrol resume 7_0") == (state != "RUNNING")
    assert (found.evidence == f"its job 7_0 is {state} on n1") == (state != "RUNNING")


@pytest.mark.parametrize(
    ("state", "reason", "advice", "needy"),
    [
        ("PENDING", "Priority", "", False),
        ("PENDING", "AssocMaxJobsLimit", "", False),
        ("PENDING", "QOSMaxJobsPerUserLimit", "", False),
        ("REQUEUED", "BeginTime", "", False),
        ("PENDING", "PartitionDown", "its partition is down", False),
        ("PENDING", "PartitionInactive", "its partition is down", False),
        ("PENDING", "JobHeldUser", "scontrol release 7_0", True),
        ("PENDING", "JobHeldAdmin", "an administrator holds it", True),
        ("PENDING", "job requeued in held state", "scontrol release 7_0", True),
        ("REQUEUE_HOLD", "None", "scontrol release 7_0", True),
        ("PENDING", "BadConstraints", "it will not start as it is", True),
        ("PENDING", "QOSMaxWallDurationPerJobLimit", "it will not start as it is", True),
        ("PENDING", "AssocMaxCpuPerJobLimit", "it will not start as it is", True),
        ("PENDING", "InvalidQOS", "it will not start as it is", True),
        ("PENDING", "PartitionTimeLimit", "it will not start as it is", True),
    ],
)
def test_a_job_that_waits_says_for_what_and_for_whom(
    state: str, reason: str, advice: str, needy: bool, run: RunPaths, launch: Launch
) -> None:
    status = waiting(run, state, reason)
    found = told(status, launch)
    assert (found.state, found.evidence) == ("queued", f"its job 7_0 is {state} ({reason})")
    assert advice in found.advice
    assert bool(found.advice) == bool(advice)
    assert needs_a_person(status) == needy


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("full", [True, False])
def test_a_run_whose_job_was_refused_is_not_called_queued(
    full: bool, scheduled: bool, run: RunPaths, launch: Launch
) -> None:
    status = RunStatus(paths=run, state="unsubmitted", refusal=Refusal(why="sbatch said no", full=full))
    found = told(status, launch, scheduled=scheduled)
    assert found.state == "planned"
    assert "sbatch said no" in found.evidence
    assert needs_a_person(status) == (not full)
    assert ("make sweep SWEEP=s" in found.advice) == (not full or not scheduled)
