"""A real SLURM with its accounting on this machine, for the length of a test: the one that `make cluster-up` starts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "docker" / "scripts"
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "squeue", "sacct", "scontrol")


def missing() -> str:
    """Why no cluster can be started here; '' where one can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(absent)}; docker/scripts/install.sh installs them" if absent else ""


@contextmanager
def cluster(folder: Path, *, nodes: int = 1, slurmd_timeout: int = 30, enforce: str = "") -> Iterator[dict[str, str]]:
    """Start the cluster and yield the environment in which `sbatch` reaches it; end it with all its jobs.

    A job whose slurmstepd is gone is missed by SLURM after about seven times `slurmd_timeout` seconds. `enforce`: what
    of the accounting is enforced (`AccountingStorageEnforce`); with it a user needs an account (`sacctmgr`).
    """
    environment = {
        **box_environment(folder, nodes=nodes),
        "BOX_SLURMD_TIMEOUT": str(slurmd_timeout),
        "BOX_ENFORCE": enforce,
    }
    try:
        said = subprocess.run([SCRIPTS / "up.sh"], env=environment, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
        yield {**environment, "SLURM_CONF": str(box(folder) / "etc" / "slurm.conf")}
    finally:
        subprocess.run([SCRIPTS / "down.sh"], env=environment, capture_output=True, check=True)
        if box(folder).exists():
            shutil.rmtree(folder / "cluster", ignore_errors=True)
            shutil.move(box(folder), folder / "cluster")  # its logs stay as long as the test's other files


def box(folder: Path) -> Path:
    """Where a cluster started with `folder` keeps its files while it lives.

    A short path: slurmd makes sockets below it, whose names Linux cuts at 108 characters.
    """
    return Path(tempfile.gettempdir()) / f"slurm-{hashlib.sha256(str(folder).encode()).hexdigest()[:10]}"


def box_environment(folder: Path, *, nodes: int) -> dict[str, str]:
    """The environment of the scripts; without what another cluster's would say."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BOX_", "SLURM"))}
    return {**kept, "BOX_FOLDER": str(box(folder)), "BOX_NODES": str(nodes)}
