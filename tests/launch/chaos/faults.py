"""What can happen to a sweep on a cluster, done for real: each fault finds its own victim and says what it did."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memscale.launch.slurm.controllers import KINDS, controller_name
from memscale.records.layout import SweepPaths
from memscale.records.lease import is_held
from tests.launch.slurm_cluster import SCRIPTS, box
from tests.sweeps import NAME, ROOT, environment, memscale, wait_for

_USR2_BIT = 1 << (signal.SIGUSR2 - 1)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster with a sweep on it."""

    folder: Path
    runs: Path
    more: dict[str, str]
    """What the environment of commands has beside this process's."""
    overrides: list[str]
    random: random.Random

    def slurm(self, *command: str) -> str:
        told = subprocess.run(command, env={**os.environ, **self.more}, capture_output=True, text=True, check=False)
        return told.stdout

    def cluster_up(self) -> None:
        """Start again what has ended of it."""
        done = subprocess.run(
            [SCRIPTS / "up.sh"], env={**os.environ, **self.more}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def pid_of(self, daemon: str) -> int:
        return int((box(self.folder) / "run" / "processes" / daemon).read_text().split()[0])


@dataclass(frozen=True, kw_only=True)
class Victim:
    folder: Path
    pid: int
    node: str
    job: str


def victim(site: Site) -> Victim | None:
    """A run in mid-training; None where there is none now."""
    found = []
    for beat in site.runs.glob(f"{NAME}/*/heartbeat.json"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            told = json.loads(beat.read_text())
            attempt = max((beat.parent / "attempts").iterdir(), key=lambda path: int(path.name))
            submission = json.loads((attempt / "submission.json").read_text())
            training = 0 < told["step"] < told["num_steps"] * 0.8 and is_held(beat.parent / "lease")
            if training and submission["job_id"] and told["pid"] == submission["pid"]:
                found.append(Victim(folder=beat.parent, pid=told["pid"], node=told["host"], job=submission["job_id"]))
    return site.random.choice(found) if found else None


def cancelled(site: Site, one: Victim) -> str:
    site.slurm("scancel", one.job)
    return f"scancel {one.job}"


def preempted(site: Site, one: Victim) -> str:
    options = ("--partition=urgent", f"--nodelist={one.node}", "--exclusive", "--time=1", "--output=/dev/null")
    site.slurm("sbatch", *options, "--job-name=urgent", "--wrap=sleep 4")
    return f"preempted on {one.node}"


def killed(_: Site, one: Victim) -> str:
    os.kill(one.pid, signal.SIGKILL)
    return f"kill -9 worker {one.pid}"


def step_daemon_killed(_: Site, one: Victim) -> str:
    parent = int(Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[1])
    title = Path(f"/proc/{parent}/cmdline").read_bytes().decode(errors="replace")
    assert "slurmstepd" in title, title
    os.kill(parent, signal.SIGKILL)
    return f"kill -9 slurmstepd {parent}"


def node_daemon_killed(site: Site, one: Victim) -> str:
    os.kill(site.pid_of(f"slurmd-{one.node}"), signal.SIGKILL)
    time.sleep(2)
    site.cluster_up()
    return f"kill -9 slurmd of {one.node}, started again"


def time_is_up(site: Site, one: Victim) -> str:
    """Held still until SLURM has sent its signal, so that the run cannot end before."""
    os.kill(one.pid, signal.SIGSTOP)
    try:
        site.slurm("scontrol", "update", f"JobId={one.job}", "TimeLimit=1")
        until = time.monotonic() + 90
        while time.monotonic() < until and not _pending_usr2(one.pid):
            time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGCONT)
    return f"time limit of {one.job}"


def _pending_usr2(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask & _USR2_BIT for mask in masks)


def controller_restarted(site: Site, _: Victim) -> str:
    # By its own signal, as an administrator does: what it was told in the seconds before a kill -9 it would not know.
    pid = site.pid_of("slurmctld")
    os.kill(pid, signal.SIGTERM)
    wait_for("the end of slurmctld", lambda: not Path(f"/proc/{pid}").exists(), seconds=60)
    site.cluster_up()
    return "slurmctld restarted"


def accounting_stopped(site: Site, _: Victim) -> str:
    os.kill(site.pid_of("slurmdbd"), signal.SIGTERM)
    time.sleep(8)
    site.cluster_up()
    return "slurmdbd away for 8 s"


def node_drained(site: Site, one: Victim) -> str:
    site.slurm("scontrol", "update", f"NodeName={one.node}", "State=DRAIN", "Reason=chaos")
    site.slurm("scontrol", "requeue", one.job)
    time.sleep(6)
    site.slurm("scontrol", "update", f"NodeName={one.node}", "State=RESUME")
    return f"{one.node} drained, its job put back, resumed"


def nobody_looks(site: Site, _: Victim) -> str:
    paths = SweepPaths(site.runs / NAME)
    names = f"--name={','.join(controller_name(paths, kind) for kind in KINDS)}"
    site.slurm("scancel", names)
    wait_for("somebody who looks", lambda: "PENDING" in site.slurm("squeue", "--noheader", "--format=%T", names))
    return "the jobs that look after the sweep cancelled"


def started_twice(site: Site, one: Victim) -> str:
    """A second worker of the run, and a second launch of the sweep beside the jobs that look after it."""
    command = [sys.executable, "-m", "memscale.launch.worker", str(one.folder)]
    second = subprocess.run(command, cwd=ROOT, env=environment(site.runs), capture_output=True, text=True, check=False)
    assert second.returncode in (0, 76), second.stderr  # 0: the run had ended meanwhile
    memscale("sweep", NAME, *site.overrides, runs=site.runs, more=site.more)
    return f"a second worker of {one.folder.name} and a second launch"


Fault = Callable[[Site, Victim], str]
FAULTS: tuple[Fault, ...] = (
    cancelled, preempted, killed, step_daemon_killed, node_daemon_killed, time_is_up, controller_restarted,
    accounting_stopped, node_drained, nobody_looks, started_twice,
)  # fmt: skip


def launch_and_kill(site: Site) -> str:
    """Launch the sweep, and kill the launcher as soon as sbatch has been called."""
    command = [sys.executable, "-m", "memscale.cli.main", "sweep", NAME, *site.overrides]
    given = {**environment(site.runs), **site.more}
    with open(site.folder / "killed.txt", "ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=out, stderr=out, start_new_session=True)
    folder = site.runs / NAME / "slurm"
    wait_for("an array", lambda: list(folder.glob("*/*_submission.sh")) or process.poll() is not None, seconds=600)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return "the launcher killed right after sbatch"
