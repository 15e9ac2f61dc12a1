"""The compose file: its services started by their own commands and environments, each in namespaces of its own.

No container engine is needed: `unshare` gives every service its host name, its folders and its process ids, as a
container would; only the network and the installed programs are this machine's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.slurm_cluster import SCRIPTS, box, missing

DOCKER = SCRIPTS.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _why_not() -> str:
    probe = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "true"]
    if missing() or shutil.which("unshare") is None:
        return missing() or "unshare is not installed"
    return "" if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else "unshare needs root"


def test_what_a_service_names_is_there() -> None:
    for name, service in SERVICES.items():
        script = service["command"][0] if "slurm" in service["image"] else Path(service["command"][0]).stem
        assert (SCRIPTS / f"{script}.sh").is_file(), name
        assert (DOCKER.parent / service["build"]["dockerfile"]).is_file(), name
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        volumes = [volume.split(":")[0] for volume in service["volumes"]]
        assert {volume for volume in volumes if volume != ".."} <= set(COMPOSE["volumes"]), name
        assert service.get("hostname", name) == name
    nodes = [name for name, service in SERVICES.items() if service["command"][0] == "node"]
    assert nodes == [SERVICES[name]["command"][1] for name in nodes]
    assert len(nodes) == int(SERVICES["configure"]["environment"]["BOX_NODES"])
    copied = [line.split()[1] for line in (DOCKER / "Dockerfile.slurm").read_text().splitlines() if "COPY" in line]
    assert copied == ["docker/scripts"]


def test_the_compose_tool_accepts_the_file() -> None:
    tool = shutil.which("docker-compose")
    if tool is None:
        pytest.skip("docker-compose is not installed")
    done = subprocess.run(
        [tool, "-f", str(DOCKER / "compose.yaml"), "config", "--quiet"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


class Containers:
    """The services of the cluster, started one by one below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.box = box(root)  # where each service sees its own folder; one path, for slurm.conf names it
        self.box.mkdir()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        hosts = root / "hosts"
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", socket.gethostname(), *SERVICES)))
        self._base = next(base for base in range(14_000, 19_000, 10) if not _taken(base))

    def start(self, name: str) -> subprocess.Popen[bytes]:
        service = SERVICES[name]
        lines = ["set -e", f"hostname {name}", f"mount --bind {self.root}/hosts /etc/hosts"]
        lines += [f"mkdir -p {self.root}/of-{name}", f"mount --bind {self.root}/of-{name} {self.box}"]
        for volume in service["volumes"]:
            source, target = volume.split(":")
            if target.startswith("/box/"):
                inner = f"{self.box}{target.removeprefix('/box')}"
                lines += [f"mkdir -p {self.root}/{source} {inner}", f"mount --bind {self.root}/{source} {inner}"]
        lines += [f"exec {SCRIPTS}/entrypoint.sh {' '.join(service['command'])}"]
        command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with open(self.root / f"{name}.out", "wb") as out:
            process = subprocess.Popen(
                [*command, "bash", "-c", "\n".join(lines)], env=self._environment(service), stdout=out, stderr=out
            )
        self.processes[name] = process
        return process

    def _environment(self, service: dict[str, Any]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BOX_", "SLURM"))}
        given = {name: value.replace("/box", str(self.box)) for name, value in service["environment"].items()}
        return {**kept, **given, "BOX_PORT": str(self._base)}  # 6817 may be taken here

    def inside(self, name: str, *command: str) -> str:
        """Run a command in the namespaces of a service; what it says, also where it fails."""
        inner = self._inner(name)
        entered = ["nsenter", f"--target={inner}", "--mount", "--uts", "--pid", *command]
        environment = self._environment(SERVICES[name])
        done = subprocess.run(entered, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def _inner(self, name: str) -> str:
        """Return the id of a service's first process, which `unshare` forks a moment after it is started itself."""
        outer = self.processes[name]
        deadline = time.monotonic() + 30.0
        while not (children := Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()):
            said = (self.root / f"{name}.out").read_text()[-1500:]
            assert outer.poll() is None, f"{name} has ended: {said}"
            assert time.monotonic() < deadline, f"{name} has no process: {said}"
            time.sleep(0.05)
        return children[0]

    def until(self, name: str, command: list[str], wanted: str, seconds: float = 60.0) -> str:
        deadline = time.monotonic() + seconds
        while wanted not in (answer := self.inside(name, *command)):
            said = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.root.glob("*.out"))
            assert time.monotonic() < deadline, f"{command} never said {wanted}, at last: {answer}\n{said}"
            time.sleep(0.3)
        return answer


def _taken(base: int) -> bool:
    for port in range(base, base + 10):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
    return False


@contextmanager
def _containers(root: Path) -> Iterator[Containers]:
    root.chmod(0o755)
    containers = Containers(root)
    try:
        yield containers
    finally:
        for process in containers.processes.values():
            process.kill()  # --kill-child takes all of the service's processes with it
            process.wait()
        containers.box.rmdir()  # empty: what the services mounted on it was theirs alone


@pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "")
def test_the_services_of_the_file_make_a_cluster(tmp_path: Path) -> None:
    with _containers(tmp_path) as containers:
        assert containers.start("configure").wait(30) == 0, (tmp_path / "configure.out").read_text()
        # In the order that is hardest for them: each waits for what it needs.
        waiting = [name for name, service in SERVICES.items() if "slurm" in service["image"] and name != "configure"]
        for name in reversed(waiting):
            containers.start(name)
        containers.until("controller", ["sinfo", "--noheader", "--format=%T %D", "--partition=main"], "idle 4")
        out = f"--output={tmp_path}/where"
        said = containers.inside("controller", "sbatch", "--parsable", out, "--nodelist=n3", "--wrap", "hostname")
        job = said.strip()
        assert job.isdigit(), said
        history = ["sacct", "--noheader", "--allocations", f"--jobs={job}", "--format=State,NodeList"]
        assert "n3" in containers.until("controller", history, "COMPLETED")
        assert (tmp_path / "where").read_text() == "n3\n"
