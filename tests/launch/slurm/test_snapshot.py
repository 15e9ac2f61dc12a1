"""How runs stand where SLURM is slow, silent, incomplete or says what nobody knows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from memscale.config.load import load_sweep
from memscale.config.retries import Retries
from memscale.config.run import Digests
from memscale.launch.executor import RunStatus
from memscale.launch.retry import decide
from memscale.launch.slurm import arrays, commands, job
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.slurm.controllers import KINDS, controller_name
from memscale.launch.slurm.snapshot import SweepSnapshot
from memscale.records.attempts import Outcome, new_attempt, read_outcome, write_outcome
from memscale.records.launch_file import Launch, write_launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import Lease
from memscale.records.submissions import accepted, new_submission, submissions, write_submission
from tests.launch.fake_slurm import FakeSlurm, requests

NAME = "memscale-s-"


def submitted(paths: SweepPaths, array: str = "7", number: int = 2) -> tuple[list[RunPaths], str]:
    """A submission of runs and the name of its jobs."""
    runs = [request.paths for request in requests(paths, number)]
    submission = new_submission("s", tuple(run.root.name for run in runs))
    write_submission(paths, submission)
    accepted(paths, submission, array)
    return runs, submission.name


def attempt(run: RunPaths, monkeypatch: pytest.MonkeyPatch, array: str = "7", index: int = 0) -> int:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", array)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
    monkeypatch.setenv("SLURMD_NODENAME", "n3")
    number = new_attempt(run, threads=1, device="cpu")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME"):
        monkeypatch.delenv(name)
    return number


def look(paths: SweepPaths, run: RunPaths, *, later: float = 0.0, grace: float = 100.0) -> RunStatus:
    """A look `later` seconds from now, after one now."""
    for now in (time.time(), time.time() + later):
        snapshot = SweepSnapshot(paths=paths, grace_seconds=grace, launched=0.0, queue=commands.queue(), now=now)
        (status,) = snapshot.observe([run])
        snapshot.remember()
    return status


def squeue(name: str, word: str = "RUNNING", reason: str = "None", job: str = "7|0") -> dict[str, str | None]:
    return {"squeue": f"{job}|{word}|n3|{name}|{reason}"}


def test_who_is_in_the_queue_is_left_alone_whatever_word_it_is_in(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, _), name = submitted(paths)
    attempt(run, monkeypatch)
    slurm.say(squeue(name, "TELEPORTING"))
    assert look(paths, run, later=1e6).state == "working"
    slurm.say(squeue("another-1a2b3c4d"))  # a cluster set up anew counts from one: this is not our job
    assert look(paths, run, later=1e6).state == "unsubmitted"


def test_without_accounting_the_controller_is_asked_and_then_the_grace_decides(
    paths: SweepPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = FakeSlurm(tmp_path / "bin", monkeypatch, without=("sacct",))
    (run, _), _ = submitted(paths)
    attempt(run, monkeypatch)
    assert look(paths, run, later=50).state == "unsettled"
    lost = look(paths, run, later=150)
    assert (lost.state, lost.outcomes[-1].cause, lost.outcomes[-1].host) == ("unsubmitted", "lost", "n3")
    slurm.say({"scontrol job 7_0": "JobId=8 JobState=FAILED Reason=RaisedSignal:9 ExitCode=0:9 NodeList=n3"})
    assert look(paths, run).state == "unsettled"  # a shared file system may lag
    killed = look(paths, run, later=10)
    assert (killed.outcomes[-1].cause, len(killed.new_outcomes)) == ("killed", 1)
    assert "SIGKILL" in killed.outcomes[-1].evidence


def test_since_when_a_job_is_missing_is_kept_while_stage_after_stage_is_looked_at(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.say({"sacct": None})
    (run, _), _ = submitted(paths)
    attempt(run, monkeypatch)
    kinds = []
    for seconds in (0, 60, 120):
        now = time.time() + seconds
        snapshot = SweepSnapshot(paths=paths, grace_seconds=100, launched=0.0, queue=commands.queue(), now=now)
        for stage in ([], [run]):
            statuses = snapshot.observe(stage)
            snapshot.remember()
        kinds.append(statuses[0].state)
    assert kinds == ["unsettled", "unsettled", "unsubmitted"]


def test_an_accounting_that_lags_says_nothing_about_an_end(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, _), _ = submitted(paths)
    attempt(run, monkeypatch)
    slurm.say({"sacct": "7_0|RUNNING|0:0|n3"})
    assert look(paths, run, later=50).state == "unsettled"
    slurm.say({"sacct": "7_0|NODE_FAIL|1:0|n3"})
    assert look(paths, run, later=50).outcomes[-1].cause == "node_failure"


@pytest.mark.parametrize(
    "word, exit_code, output, cause",
    [
        ("PREEMPTED", "0:15", "", "preempted"),
        ("TIMEOUT", "0:15", "", "time_limit"),
        ("BOOT_FAIL", "0:0", "", "node_failure"),
        ("OUT_OF_MEMORY", "0:125", "", "host_out_of_memory"),
        ("CANCELLED by 1000", "0:15", "", "cancelled"),
        ("CANCELLED by 0", "0:9", "slurmstepd: error: Step 7.0 exceeded memory limit (9 > 5)", "host_out_of_memory"),
        ("FAILED", "137:0", "", "killed"),
        ("FAILED", "1:0", "ModuleNotFoundError: No module named 'torch'", "error"),
        ("FAILED", "1:0", "", "error"),
        ("COMPLETED", "0:0", "", "lost"),
        ("TELEPORTED", "0:0", "", "unknown"),
    ],
)
def test_each_end_is_told_from_its_evidence(
    paths: SweepPaths,
    slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    exit_code: str,
    output: str,
    cause: str,
) -> None:
    (run, never_started), _ = submitted(paths)
    attempt(run, monkeypatch)
    slurm.say({"sacct": f"7_0|{word}|{exit_code}|n3\n7_1|{word}|{exit_code}|n4"})
    (submission,) = submissions(paths)
    for job_id in ("7_0", "7_1"):
        log = arrays.job_output(paths, submission, job_id)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{output}\n")
    for number, one in ((1, run), (None, never_started)):
        status = look(paths, one, later=10)
        assert [end.number for end in status.new_outcomes] == [number]
        assert status.outcomes[-1].cause == cause
        assert status.outcomes[-1].evidence
    assert status.outcomes[-1].host == "n4"


def test_a_preemption_that_cancels_is_submitted_again(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, _), _ = submitted(paths)
    number = attempt(run, monkeypatch)
    told = Outcome(cause="stopped", evidence="asked to by SIGTERM", started=1.0, ended=2.0, host="n3", step=4)
    write_outcome(run, number, told)
    slurm.say({"sacct": "7_0|PREEMPTED|0:15|n3"})
    status = look(paths, run)
    assert (status.state, status.outcomes[-1].cause) == ("unsubmitted", "preempted")
    assert decide(status.outcomes, Retries()).again


def test_a_requeued_job_is_slurms_and_its_attempt_is_told_by_its_own_record(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, _), name = submitted(paths)
    attempt(run, monkeypatch)
    slurm.say({**squeue(name, "PENDING", "BeginTime"), "sacct": "7_0|NODE_FAIL|1:0|n3\n7_0|PENDING|0:0|"})
    status = look(paths, run, later=10)
    assert (status.state, status.outcomes[-1].cause) == ("queued", "node_failure")
    slurm.say({"sacct": None})
    silent = look(paths, run, later=10)
    assert (silent.state, silent.outcomes[-1].cause) == ("queued", "stopped")


def test_a_held_job_needs_attention(paths: SweepPaths, slurm: FakeSlurm) -> None:
    (run, _), name = submitted(paths)
    slurm.say(squeue(name, "PENDING", "launch failed requeued held"))
    status = look(paths, run)
    assert status.state == "queued"
    assert status.entry is not None
    assert status.entry.held


def test_a_lease_says_more_than_slurm(paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    (run, _), _ = submitted(paths)
    attempt(run, monkeypatch)
    slurm.say({"sacct": "7_0|FAILED|1:0|n3"})
    with Lease(run.lease, "the run"):
        assert look(paths, run, later=1e6).state == "working"


def test_a_silent_controller_is_no_news(slurm: FakeSlurm) -> None:
    slurm.say({"squeue": None})
    with pytest.raises(SlurmError, match="squeue failed: squeue: error: not for you"):
        commands.queue()


def test_a_job_that_may_not_requeue_itself_leaves_it_to_the_next_step(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (run, _), _ = submitted(paths)
    number = attempt(run, monkeypatch)

    def work(_: list[str]) -> int:
        told = Outcome(cause="time_limit", evidence="asked to by SIGUSR2", started=1.0, ended=2.0, host="n3", step=4)
        write_outcome(run, number, told)
        return job.EXIT_STOPPED

    monkeypatch.setattr(job, "work", work)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    with pytest.raises(SystemExit, match="75"):
        job.run_job((str(run.root), "--threads", "1"))
    assert slurm.calls("scontrol")[-1] == ["requeue", "7_0"]
    assert "may not put itself back" in caplog.text
    status = look(paths, run)
    assert status.state == "unsubmitted"
    assert decide(status.outcomes, Retries()).again
    assert read_outcome(run, number) is not None
    assert json.loads((paths.submissions / f"{next(submissions(paths)).uid}.json").read_text())["array"] == "7"


def test_a_runs_job_sees_to_it_at_its_end_that_a_job_looks_after_the_sweep(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load_sweep("memory_vs_moe", ["launcher=slurm", "scale=laptop"]).sweep
    digests = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)
    launch = Launch(launched=0.0, sweep=sweep, digests=digests, code=str(paths.code), python="python")
    write_launch(paths, launch)
    monkeypatch.setattr(job, "work", lambda _: 0)

    def end_a_job() -> None:
        with pytest.raises(SystemExit, match="0"):
            job.run_job((str(requests(paths, 1)[0].paths.root), "--threads", "1"))

    end_a_job()
    look, next_ = (controller_name(paths, kind) for kind in KINDS)
    assert slurm.calls("squeue")[-1][-1] == f"--name={look},{next_}"
    assert slurm.calls("sbatch") == [["--begin=now+300", "--export=ALL"]]
    slurm.say({"squeue": f"17 main {next_} root PD 0:00 1 (Dependency)"})
    end_a_job()
    slurm.say({"squeue": ""})
    paths.cancel.write_text("memscale cancel")
    end_a_job()
    assert len(slurm.calls("sbatch")) == 1


def test_what_several_processes_are_told_comes_from_their_job_alone(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_by_srun = {"NTASKS": "8", "PROCID": "5", "LOCALID": "1", "JOB_ID": "12034", "JOB_NODELIST": "g[07,11]"}
    for name, value in told_by_srun.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    slurm.say({"scontrol node g07": "NodeName=g07 NodeAddr=10.0.0.7 State=IDLE"})
    told = job.torch_environment()
    assert told == {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "20034",
    }  # fmt: skip
    slurm.say({"scontrol node g07": None})
    assert job.torch_environment()["MASTER_ADDR"] == "g07"
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert job.torch_environment() == {}
