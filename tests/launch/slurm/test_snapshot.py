"""How runs stand where SLURM is slow, silent, incomplete or says what nobody knows."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from memscale.config.launcher import Launcher
from memscale.config.load import load_sweep
from memscale.config.resources import Resources
from memscale.config.retries import Retries
from memscale.config.run import Digests
from memscale.launch.executor import JobRequest, RunStatus
from memscale.launch.retry import decide
from memscale.launch.slurm import arrays, commands, job
from memscale.launch.slurm.arrays import adopt_orphans, submit
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.slurm.controllers import KINDS, controller_name
from memscale.launch.slurm.snapshot import SweepSnapshot
from memscale.records.attempts import Outcome, new_attempt, read_outcome, write_outcome
from memscale.records.launch_file import Launch, write_launch
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.lease import Lease
from memscale.records.submissions import accepted, new_submission, submissions, write_submission
from tests.launch.fake_slurm import FakeSlurm

NAME = "memscale-s-"


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return SweepPaths(tmp_path / "s")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin", monkeypatch)


def requests(paths: SweepPaths, number: int) -> list[JobRequest]:
    return [JobRequest(paths=RunPaths(paths.root / f"r{i}-{i:012x}"), arguments=(str(i),)) for i in range(number)]


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


def test_arrays_are_cut_at_the_clusters_limit_and_share_the_workers(paths: SweepPaths, slurm: FakeSlurm) -> None:
    slurm.say({"scontrol config": "MaxArraySize            = 10"})
    done = submit(paths, Launcher(workers=40), paths.code, requests(paths, 95), num_alive=10, exclude=("n9",))
    assert [len(one.runs) for one in done] == [10] * 9 + [5]
    assert len(slurm.calls("sbatch")) == 10
    assert len({one.array for one in done}) == 10
    scripts = [path.read_text() for path in paths.slurm.glob("*/*_submission.sh")]
    assert sum("--array=0-9%3" in script for script in scripts) == 9
    assert sum("--array=0-4%3" in script for script in scripts) == 1
    assert all("--exclude=n9" in script and "--signal=USR2@120" in script for script in scripts)
    assert {run for one in submissions(paths) for run in one.runs} == {o.paths.root.name for o in requests(paths, 95)}


def test_runs_that_ask_for_the_same_are_an_array_and_all_arrays_share_the_workers(
    paths: SweepPaths, slurm: FakeSlurm
) -> None:
    large = Resources(families=("memory_plus",), params_above=1e9, memory="512G", gpus_per_run=4, partition="big")
    launcher = Launcher(name="slurm", workers=9, resources=(large, Resources(flops_above=1e20, minutes=60)))
    asked = [
        launcher.for_run(family, params, flops)
        for family, params, flops in [
            ("dense", 2e9, 1e19), ("memory_plus", 2e9, 1e19), ("memory_plus", 1e9, 1e19), ("memory_plus", 2e9, 2e20),
            ("dense", 2e9, 2e20), ("memory_plus", 3e9, 1e19),
        ]
    ]  # fmt: skip
    given = [replace(request, resources=one) for request, one in zip(requests(paths, 6), asked, strict=True)]
    done = submit(paths, launcher, paths.code, given, num_alive=1, exclude=())
    assert [len(one.runs) for one in done] == [2, 2, 1, 1]
    assert len(slurm.calls("sbatch")) == 4
    assert done[1].runs == tuple(given[place].paths.root.name for place in (1, 5))
    scripts = [next((paths.slurm / one.uid).glob("*_submission.sh")).read_text() for one in done]
    for script, memory, gpus, minutes in zip(
        scripts, ("64G", "512G", "512G", "64G"), (1, 4, 4, 1), (1440, 1440, 60, 60), strict=True
    ):
        assert f"--mem={memory}\n" in script
        assert f"--gpus-per-node={gpus}\n" in script
        assert f"--ntasks-per-node={gpus}\n" in script
        assert f"--time={minutes}\n" in script
        assert ("--partition=big" in script) == (gpus == 4)
        assert ("--kill-on-bad-exit=1" in script) == (gpus == 4)
    assert all("--array=0-1%2" in script for script in scripts[:2])  # of 8 workers that are free, 2 an array


def test_a_cluster_without_arrays_and_one_run_get_single_jobs(paths: SweepPaths, slurm: FakeSlurm) -> None:
    slurm.say({"scontrol config": "MaxArraySize            = 0"})
    done = submit(paths, Launcher(), paths.code, requests(paths, 2), num_alive=0, exclude=())
    assert [one.job_id(0) for one in done] == ["101", "102"]


def test_a_refused_array_is_withdrawn_and_said(paths: SweepPaths, slurm: FakeSlurm) -> None:
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho 'Invalid account' >&2\nexit 1\n")
    with pytest.raises(SlurmError, match="sbatch refused 3 runs"):
        submit(paths, Launcher(), paths.code, requests(paths, 3), num_alive=0, exclude=())
    assert [one.void for one in submissions(paths)] == [True]


def test_a_retried_run_keeps_away_from_the_node_that_failed_it_where_there_are_others(
    paths: SweepPaths, slurm: FakeSlurm
) -> None:
    given = [replace(request, avoid=("n3",) if i else ()) for i, request in enumerate(requests(paths, 3))]
    done = submit(paths, Launcher(), paths.code, given, num_alive=0, exclude=("n9",))
    assert [len(one.runs) for one in done] == [1, 2]
    scripts = [next((paths.slurm / one.uid).glob("*_submission.sh")).read_text() for one in done]
    assert "--exclude=n9\n" in scripts[0]
    assert "--exclude=n9,n3\n" in scripts[1]
    refusing = "#!/bin/sh\n/bin/grep -q exclude=n9,n3 $1 && exit 1\necho Submitted batch job 300\n"
    (slurm.folder / "sbatch").write_text(refusing)
    (alone,) = submit(paths, Launcher(), paths.code, given[1:], num_alive=0, exclude=("n9",))
    assert alone.array == "300"
    assert [one.void for one in submissions(paths)] == [False, False, True, False]


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


def test_jobs_that_wait_are_counted_for_this_sweep_alone(paths: SweepPaths, slurm: FakeSlurm) -> None:
    _, name = submitted(paths)
    lines = [f"7|0|PENDING||{name}|Priority", f"7|1|RUNNING|n3|{name}|None", "8|0|PENDING||memscale-other-1|Priority"]
    slurm.say({"squeue": "\n".join(lines)})
    assert arrays.waiting_jobs(paths) == 1


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


def test_an_orphaned_array_is_adopted_or_cancelled(
    paths: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(arrays, "accepted", die)
        with pytest.raises(KeyboardInterrupt):
            submit(paths, Launcher(), paths.code, requests(paths, 3), num_alive=0, exclude=())
    (intent,) = submissions(paths)
    assert intent.array is None
    assert not adopt_orphans(paths, {})  # sbatch may have outlived its launcher by a moment
    slurm.say({"squeue": "\n".join(f"101|{i}|PENDING||{intent.name}|Priority" for i in range(3))})
    assert adopt_orphans(paths, commands.queue())
    assert [one.array for one in submissions(paths)] == ["101"]

    write_submission(paths, intent)
    next(paths.slurm.glob("*/101_2_submitted.pkl")).unlink()
    assert not adopt_orphans(paths, commands.queue())
    assert slurm.calls("scancel") == [["--quiet", "101"]]


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
    launch = Launch(launched=0.0, sweep=sweep, digests=digests, data_folder="/d", code=str(paths.code), python="python")
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
