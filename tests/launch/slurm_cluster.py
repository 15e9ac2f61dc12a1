"""A real SLURM on this machine for the length of a test: munged, slurmctld and one slurmd, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")


def missing() -> str:
    """Why no cluster can be started here; '' where one can."""
    if os.geteuid() != 0:
        return "only root starts a SLURM here"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)" if absent else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the cluster and yield the environment in which `sbatch` reaches it; end it with all its jobs."""
    folder.chmod(0o755)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    key, sock = folder / "munge" / "munge.key", folder / "munge.socket"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    config.write_text(_config(folder, sock))
    environment = {**os.environ, "SLURM_CONF": str(config)}
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={sock}", f"--pid-file={folder}/munge/pid",
         f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"],
        ["slurmctld", "-D", "-f", str(config)],
        ["slurmd", "-D", "-f", str(config), "-N", "node1"],
    ]  # fmt: skip
    started = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.out", "wb") as out:
                started.append(
                    subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
                )
            if command[0] == "munged":
                _wait(sock.exists, folder)
        _wait(lambda: "idle" in _output(["sinfo", "-h", "-o", "%T"], environment), folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--me", "--signal=KILL"], env=environment, capture_output=True, check=False)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _config(folder: Path, munge: Path) -> str:
    host, cores = socket.gethostname(), len(os.sched_getaffinity(0))
    return f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={_free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs={cores} RealMemory=2000
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
"""


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _wait(condition, folder: Path) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + 30
    while not condition():
        logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in folder.glob("*.out"))
        assert time.monotonic() < until, f"the cluster did not come up\n{logs}"
        time.sleep(0.1)
