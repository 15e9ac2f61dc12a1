"""How much memory a run will have: of its GPU, or of its worker's share of the machine.

Read from this machine, or from the launcher's settings, because planning may happen on a login node.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from memscale.config.launcher import Launcher
from memscale.errors import ConfigError
from memscale.launch.workers import WorkerSpec

_UNITS = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
"""As SLURM reads sizes: powers of 1024, and MiB where no unit is given."""


def device_memory_bytes(launcher: Launcher, workers: Sequence[WorkerSpec]) -> float | None:
    """Bytes of memory of each run's device, or None where that cannot be known here. Raises ConfigError."""
    if launcher.device_memory is not None:
        return parse_bytes("launcher.device_memory", launcher.device_memory)
    if launcher.name == "slurm":
        return parse_bytes("launcher.memory", launcher.memory) if launcher.gpus_per_run == 0 else None
    if workers[0].device == "cuda":
        return _smallest_gpu()
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(machine, _control_group_limit()) / len(workers)


def parse_bytes(name: str, text: str) -> float:
    """A size as SLURM reads it (64G, 512M, 80GB) in bytes. Raises ConfigError."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*", text, flags=re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"{name} is '{text}'; it needs a number and a unit, such as 80G or 512M")
    return float(found[1]) * _UNITS[found[2].upper()]


def _smallest_gpu() -> float | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=False)
    sizes = [line.strip() for line in done.stdout.splitlines() if line.strip().isdigit()]
    return min(float(size) for size in sizes) * 2**20 if done.returncode == 0 and sizes else None


def _control_group_limit() -> float:
    """The memory limit of this process's control group (v2, else v1); infinite without one."""
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            limit = path.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        return float("inf") if limit == "max" else float(limit)
    return float("inf")
