"""The cluster in a box on this machine: started, mended, preempting, stopped, and nothing else touched."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.slurm_cluster import SCRIPTS, box, box_environment, cluster, missing
from tests.sweeps import wait_for

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "")

Environment = dict[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("box")


@pytest.fixture(scope="module")
def two_nodes(folder: Path) -> Iterator[Environment]:
    with cluster(folder, nodes=2) as environment:
        yield environment


def run(*command: str | Path, environment: Environment, fails: bool = False) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def until(environment: Environment, command: list[str], wanted: str, seconds: float = 240.0) -> str:
    """Ask until `wanted` stands in the answer; return it."""
    deadline = time.monotonic() + seconds
    while wanted not in (answer := run(*command, environment=environment)):
        assert time.monotonic() < deadline, f"{command} never said {wanted}, at last: {answer}"
        time.sleep(0.2)
    return answer


def daemons(folder: Path) -> dict[str, int]:
    """Process ids of the recorded daemons that live."""
    told = {path.name: int(path.read_text().split()[0]) for path in (box(folder) / "run" / "processes").glob("*")}
    return {name: pid for name, pid in told.items() if _lives(pid)}


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_started_again_it_adds_what_has_ended_and_leaves_the_rest(two_nodes: Environment, folder: Path) -> None:
    before = daemons(folder)
    assert set(before) == {"munged", "mariadb", "slurmdbd", "slurmctld", "slurmd-n1", "slurmd-n2"}
    run("kill", "-KILL", str(before["slurmd-n2"]), environment=two_nodes)
    run(SCRIPTS / "up.sh", environment=two_nodes)
    after = daemons(folder)
    assert after.pop("slurmd-n2") != before.pop("slurmd-n2")
    assert after == before


def test_another_number_of_nodes_is_refused_while_it_runs(two_nodes: Environment) -> None:
    said = run(SCRIPTS / "up.sh", environment={**two_nodes, "BOX_NODES": "3"}, fails=True)
    assert "runs with NODES=2; for 3, first: make cluster-down" in said


@pytest.mark.slow
def test_the_accounting_answers_and_a_preempted_job_comes_back(two_nodes: Environment, tmp_path: Path) -> None:
    """It waits as long as `cred_expire` says, and keeps its number."""
    log = tmp_path / "log"
    command = ["sbatch", "--parsable", f"--output={log}", "--open-mode=append", "--nodelist=n1"]
    job = run(*command, "--wrap", "echo started; sleep 30", environment=two_nodes).strip()
    until(two_nodes, ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], "RUNNING")
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodelist=n1", f"--output={log}.urgent"]
    run(*urgent, "--wrap", "true", environment=two_nodes)
    until(two_nodes, ["squeue", "--noheader", f"--jobs={job}", "--format=%r"], "BeginTime")
    until(two_nodes, ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], "RUNNING")
    wait_for("the second start", lambda: log.read_text().count("started") == 2)
    run("scancel", job, environment=two_nodes)
    history = ["sacct", "--noheader", "--parsable2", "--duplicates", "--allocations", f"--jobs={job}", "--format=State"]
    assert until(two_nodes, history, "CANCELLED").split("\n")[0] == "PREEMPTED"


@pytest.mark.slow
def test_stopped_nothing_of_it_lives_and_the_accounting_is_kept(tmp_path: Path) -> None:
    environment = box_environment(tmp_path, nodes=1)
    conf = {**environment, "SLURM_CONF": str(box(tmp_path) / "etc" / "slurm.conf")}
    bystander = subprocess.Popen(["sleep", "600"], env=conf, start_new_session=True)
    try:
        run(SCRIPTS / "up.sh", environment=environment)
        out = f"--output={tmp_path}/pid"
        job = run("sbatch", "--parsable", out, "--wrap", "echo $$; sleep 600", environment=conf).strip()
        deadline = time.monotonic() + 30
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        pid = int((tmp_path / "pid").read_text())
        assert _lives(pid)
        run(SCRIPTS / "down.sh", environment=environment)
        assert daemons(tmp_path) == {}
        assert not _lives(pid)
        assert not (box(tmp_path) / "etc" / "use.mk").exists()
        assert bystander.poll() is None
        run(SCRIPTS / "up.sh", environment=environment)
        until(conf, ["sacct", "--noheader", "--allocations", f"--jobs={job}", "--format=State"], "CANCELLED")
        next_job = run("sbatch", "--parsable", "--output=/dev/null", "--wrap", "true", environment=conf)
        assert int(next_job) > int(job)
    finally:
        bystander.kill()
        bystander.wait()
        run(SCRIPTS / "down.sh", environment=environment)


def test_a_daemon_that_does_not_start_is_told_with_its_own_last_words(tmp_path: Path) -> None:
    environment = {**box_environment(tmp_path, nodes=1), "BOX_REQUEUE_SECONDS": "soon\nNoSuchKey=1"}
    try:
        said = run(SCRIPTS / "up.sh", environment=environment, fails=True)
        assert "ended. The end of what it said:" in said
        assert "NoSuchKey" in said
        assert not (box(tmp_path) / "etc" / "use.mk").exists()
    finally:
        run(SCRIPTS / "down.sh", environment=environment)
