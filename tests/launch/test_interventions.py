"""On a real SLURM: what people and sites do to the jobs of a sweep, and to its files while they wait.

A job that no node can take, limits on jobs of a QOS and of a user met in the middle of a submission, jobs and
controllers held, a partition that goes down while jobs wait and while they run, suspension, cancelling and requeueing
by hand, code edited between start and requeue, and a purge of checkpoints and metrics meanwhile. After each the status
is true, and the sweep goes on or says what it needs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from memscale import api
from memscale.launch.overview import RunLine, SweepStatus
from memscale.launch.slurm.controllers import KINDS, controller_name
from memscale.launch.states import DONE, NEEDS_ATTENTION, RUNNING
from memscale.records.layout import SweepPaths
from memscale.records.metrics import Metric, read_metrics
from tests.launch.slurm_cluster import cluster, missing
from tests.sweeps import NAME, ROOT, memscale, small_sweep, wait_for, write_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or ""),
]

JOB = (
    "scale=laptop", "launcher=slurm", "launcher.cpus_per_run=1", "launcher.gpus_per_run=0", "launcher.minutes=10",
    "launcher.check_minutes=0.2", "launcher.grace_seconds=20", "launcher.checkpoint_seconds=0.2",
    "launcher.workers=3",
)  # fmt: skip
ONE_STAGE = ("recipe=berges2024", "recipe.learning_rate.value=0.01", "evaluate.tasks=[]")
MEMORY, TOO_MUCH = "launcher.memory=900M", "launcher.memory=900G"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster, the sweep's folder and the code that it is launched from."""

    environment: dict[str, str]
    paths: SweepPaths
    code: Path
    overrides: list[str]

    def slurm(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def launch(self, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        conf = {"SLURM_CONF": self.environment["SLURM_CONF"]}
        given = [*self.overrides, *more]
        return memscale("sweep", NAME, *given, runs=self.paths.root.parent, more=conf, code=self.code, check=check)

    def status(self) -> SweepStatus:
        return api.status(NAME)

    def run(self, name: str) -> RunLine:
        (line,) = [line for line in self.status().runs if line.row.name.startswith(name)]
        return line

    def folder(self, name: str) -> Path:
        (found,) = self.paths.root.glob(f"{name}-*-[0-9a-f]*")
        return found

    def wait_for_evidence(self, name: str, text: str) -> RunLine:
        """Wait until the status of a run says so, as a person does."""
        wait_for(f"{text} of {name}", lambda: text in self.run(name).state.evidence, seconds=90)
        return self.run(name)

    def nodes(self, state: str) -> None:
        self.slurm("scontrol", "update", "NodeName=n[1-3]", f"State={state}", "Reason=test")

    def jobs_at_most(self, number: int, *, of: str = "user") -> None:
        """Limit the jobs that this user may have in the queue, by the user or the QOS; -1: no limit."""
        whose, key = {"user": ("root", "MaxSubmitJobs"), "qos": ("normal", "MaxSubmitJobsPerUser")}[of]
        self.slurm("sacctmgr", "--immediate", "modify", of, whose, "set", f"{key}={number}")
        time.sleep(1)  # slurmdbd tells slurmctld


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    code, runs = tmp_path / "code", tmp_path / "runs"
    for folder in ("memscale", "analysis", "sweeps"):
        shutil.copytree(ROOT / folder, code / folder, ignore=shutil.ignore_patterns("__pycache__"))
    small = small_sweep(write_text(tmp_path), flops="[1.2e11]", seeds="[0]")
    overrides = [one for one in small if not one.startswith("recipe.tune")]
    with cluster(tmp_path, nodes=3, enforce="associations,limits,qos") as environment:
        made = Site(
            environment=environment,
            paths=SweepPaths(runs / NAME),
            code=code,
            overrides=[*overrides, *ONE_STAGE, *JOB],
        )
        for what in (("account", "lab"), ("user", "root", "account=lab")):
            made.slurm("sacctmgr", "--immediate", "add", *what)
        monkeypatch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        monkeypatch.setenv("MEMSCALE_RUNS", str(runs))
        monkeypatch.setenv("PATH", environment.get("PATH", os.environ["PATH"]))
        yield made


def test_after_each_intervention_the_status_is_true_and_the_sweep_goes_on(site: Site) -> None:
    _no_node_can_take_it(site)
    first = _a_limit_in_mid_submission(site)
    _held_by_an_administrator_and_by_the_user(site, first)
    _the_partition_goes_down(site, first)
    _the_controllers_are_held(site, first)
    site.jobs_at_most(-1)
    site.nodes("RESUME")
    _suspended_in_mid_training(site)
    _the_partition_goes_down_while_a_run_trains(site, "dense")
    (site.code / "memscale" / "__init__.py").write_text("raise SystemExit('edited between start and requeue')")
    _cancelled(site, "dense")
    _requeued_and_held_and_purged(site, "moe")
    _requeued_and_purged(site, "memory_plus")
    wait_for("the end of the sweep", site.paths.finished.exists, seconds=900)
    _check_the_end(site)


def _no_node_can_take_it(site: Site) -> None:
    site.nodes("DRAIN")
    said = site.launch(TOO_MUCH, check=False)
    assert said.returncode == 2, said.stdout + said.stderr
    assert "sbatch refused 3 runs" in said.stderr
    seen = site.status()
    assert seen.counts == {"planned": 3}  # no queue holds them
    assert (seen.state, seen.scheduled) == (NEEDS_ATTENTION, False)
    for line in seen.runs:
        assert "its job was refused: sbatch refused 3 runs" in line.state.evidence
        assert "mend the keys of the launcher" in line.state.advice


def _a_limit_in_mid_submission(site: Site) -> str:
    """The queue has room for two jobs: a run and a controller. Return the name of the run."""
    site.jobs_at_most(2, of="qos")
    said = site.launch(MEMORY).stdout
    assert "1 runs submitted" in said
    assert "2 runs wait for room in the queue: " in said
    assert "QOSMaxSubmitJobPerUserLimit" in said
    site.jobs_at_most(2)
    site.jobs_at_most(-1, of="qos")
    said = site.launch(MEMORY).stdout
    assert "2 runs wait for room in the queue: " in said
    assert "AssocMaxSubmitJobLimit" in said
    seen = site.status()
    assert (seen.counts, seen.state, seen.scheduled) == ({"queued": 1, "planned": 2}, RUNNING, True)
    waiting = [line for line in seen.runs if line.state.state == "planned"]
    assert all("no room for its job in the queue" in line.state.evidence for line in waiting)
    assert all(line.state.advice == "" for line in waiting)
    (queued,) = [line for line in seen.runs if line.state.state == "queued"]
    return queued.row.name


def _held_by_an_administrator_and_by_the_user(site: Site, name: str) -> None:
    job = site.run(name).job_id
    assert job is not None
    for hold, reason, advice in (
        ("hold", "JobHeldAdmin", "an administrator holds it"),
        ("uhold", "JobHeldUser", f"scontrol release {job}"),
    ):
        site.slurm("scontrol", hold, job)
        line = site.wait_for_evidence(name, reason)
        assert (line.state.state, line.held) == ("queued", True)
        assert advice in line.state.advice
        assert site.status().state == NEEDS_ATTENTION
        site.slurm("scontrol", "release", job)
        wait_for("its release", lambda: not site.run(name).held, seconds=60)
    assert site.status().state == RUNNING


def _the_partition_goes_down(site: Site, name: str) -> None:
    site.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    line = site.wait_for_evidence(name, "PartitionDown")
    assert line.state.state == "queued"
    assert "its partition is down" in line.state.advice
    site.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    wait_for("the partition", lambda: "PartitionDown" not in site.run(name).state.evidence, seconds=60)


def _the_controllers_are_held(site: Site, name: str) -> None:
    names = f"--name={','.join(controller_name(site.paths, kind) for kind in KINDS)}"
    jobs = site.slurm("squeue", "--noheader", "--format=%A", names).split()
    assert len(jobs) == 1  # for a second one there was no room
    site.slurm("scontrol", "hold", *jobs)
    wait_for("held controllers", lambda: site.status().controllers_held, seconds=60)
    seen = site.status()
    assert f"scontrol release {jobs[0]}" in seen.controllers_held
    assert not seen.scheduled
    assert site.run(name).state.state == "queued"
    site.slurm("scontrol", "release", *jobs)
    wait_for("their release", lambda: site.status().scheduled, seconds=60)


def _suspended_in_mid_training(site: Site) -> None:
    """Each run as soon as it has written metrics, so that all are caught in the middle: they are long enough for it."""
    suspended: set[str] = set()

    def all_suspended() -> bool:
        for line in site.status().runs:
            name, beat = line.row.name, line.state.heartbeat
            if name not in suspended and line.state.state == "running" and beat is not None and beat.step > 10:
                site.slurm("scontrol", "suspend", str(line.job_id))
                suspended.add(name)
        return len(suspended) == 3

    wait_for("three runs in mid-training", all_suspended, seconds=300)
    for line in site.status().runs:
        assert line.state.state == "running"
        assert "SUSPENDED" in line.state.evidence
        assert line.state.advice == f"it goes on when somebody resumes it: scontrol resume {line.job_id}"
        assert 0 < (line.step or 0) < line.num_steps


def _the_partition_goes_down_while_a_run_trains(site: Site, name: str) -> None:
    """Its job goes on, and nothing asks for anybody."""
    before = site.run(name).step or 0
    site.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    job = _resumed(site, name)
    wait_for("its next steps", lambda: (site.run(name).step or 0) > before, seconds=60)
    line = site.run(name)
    assert (line.state.state, line.state.advice) == ("running", "")
    site.slurm("scontrol", "suspend", job)
    site.slurm("scontrol", "update", "PartitionName=main", "State=UP")


def _resumed(site: Site, name: str) -> str:
    job = site.run(name).job_id
    assert job is not None
    site.slurm("scontrol", "resume", job)
    return job


def _outcome(site: Site, name: str, attempt: int) -> dict[str, object] | None:
    path = site.folder(name) / "attempts" / str(attempt) / "outcome.json"
    return json.loads(path.read_text()) if path.exists() else None


def _cancelled(site: Site, name: str) -> None:
    site.slurm("scancel", _resumed(site, name))
    wait_for("the cause of its end", lambda: (_outcome(site, name, 1) or {}).get("cause") == "cancelled", seconds=120)


def _requeued_and_held_and_purged(site: Site, name: str) -> None:
    job = _resumed(site, name)
    site.slurm("scontrol", "requeuehold", job)
    wait_for("its outcome", lambda: _outcome(site, name, 1), seconds=60)
    wait_for("its hold", lambda: site.run(name).held, seconds=60)
    shutil.rmtree(site.folder(name) / "checkpoints")
    line = site.run(name)
    assert line.state.state == "queued"
    assert f"scontrol release {job}" in line.state.advice
    site.slurm("scontrol", "release", job)


def _requeued_and_purged(site: Site, name: str) -> None:
    site.slurm("scontrol", "requeue", _resumed(site, name))
    wait_for("its outcome", lambda: _outcome(site, name, 1), seconds=60)
    (site.folder(name) / "metrics.jsonl").unlink()
    assert site.run(name).state.state == "queued"


def _check_the_end(site: Site) -> None:
    seen = site.status()
    assert (seen.state, seen.counts) == (DONE, {"done": 3})
    assert seen.code_differs == ""  # the edited code trained nothing
    assert {line.state.attempts for line in seen.runs} == {2}
    steps = {
        name: [one.step for one in _lines(site, name, "train", "loss")] for name in ("dense", "moe", "memory_plus")
    }
    for name in ("dense", "moe"):
        assert len(steps[name]) == len(set(steps[name])) > 10
    # Two were trained from their start again.
    assert steps["dense"][0] == steps["moe"][0] < min(20, steps["memory_plus"][0])
    (lost,) = _lines(site, "memory_plus", "record", "lines_lost")
    assert lost.value > 0
    logs = [path.read_text() for path in (site.paths.slurm / "controllers").glob("*.log")]
    assert sum(log.count("\nall 3 runs done") for log in logs) == 1, logs
    assert sum(log.count("report.html") for log in logs) == 1, logs


def _lines(site: Site, name: str, split: str, metric: str) -> list[Metric]:
    found = read_metrics(site.folder(name) / "metrics.jsonl")
    return [one for one in found if one.split == split and one.name == metric]
