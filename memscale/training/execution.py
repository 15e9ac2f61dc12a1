"""How a run is executed on this machine: device, threads, micro-batch, checkpoint interval.

Nothing here changes what is computed beyond rounding, and none of it is part of a run's identity.
"""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from memscale.config.checks import at_least, one_of, positive
from memscale.config.launcher import TABLE_MEMORIES
from memscale.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What the launcher sets for one attempt."""

    device: str = "auto"
    """'auto' (a GPU if there is one, else the CPU), 'cpu', 'cuda' or 'cuda:<n>'."""
    threads: int | None = None
    """CPU threads of torch; None leaves torch's setting."""
    micro_batch_sequences: int | None = None
    """Sequences per forward pass, at most; None: as many of the batch as fit into memory."""
    checkpoint_seconds: float = 60.0
    """Wall time between checkpoints."""
    table_memory: str = "device"
    """Where tables and their optimizer state are allocated: 'device', 'host' (pinned memory, for tables larger than a
    GPU's) or 'file' (for tables larger than the machine's memory); a step then copies the rows it looks up."""

    def __post_init__(self) -> None:
        for name in ("threads", "micro_batch_sequences"):
            value = getattr(self, name)
            if value is not None:
                at_least(name, value, 1)
        positive("checkpoint_seconds", self.checkpoint_seconds)
        one_of("table_memory", self.table_memory, TABLE_MEMORIES)


def prepare_device(execution: Execution) -> torch.device:
    """Set this process's threads and allocator, and return the device to train on.

    Raises:
        ConfigError: The device is unknown, or torch does not see it.
    """
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    name = execution.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"device is '{execution.device}'; valid: auto, cpu, cuda, cuda:<number>")
    available = torch.cuda.device_count()
    if kind == "cuda" and int(number or 0) >= available:
        raise ConfigError(f"device is '{execution.device}', but torch sees {available} GPUs here; try device=auto")
    if kind == "cpu":
        _keep_freed_memory()
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Let glibc keep what one step frees for the next, instead of mapping and clearing the same pages every step.

    Takes 5 % off the CPU time of a step of a small model, and nothing off the peak. Without effect elsewhere.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 30)


def describe_hardware(device: torch.device, num_processes: int = 1) -> str:
    """Describe what decides rounding: the kind of device, on the CPU its threads, and the number of processes.

    Example:
        >>> describe_hardware(torch.device("cpu"), num_processes=2)
        'cpu, threads ..., 2 processes'
    """
    kind = f"cpu, threads {torch.get_num_threads()}" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return kind if num_processes == 1 else f"{kind}, {num_processes} processes"


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory this process has held: resident on the CPU, allocated by torch on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that this process may still allocate, in bytes.

    On the CPU, a process with some of the machine's cores gets that share of the free memory (of the control group's
    limit, if one is set), because its neighbours take theirs.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = min(_free_of_machine(), _free_of_control_group())
    return int(free * min(1.0, torch.get_num_threads() / (os.cpu_count() or 1)))


def _free_of_machine() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_of_control_group() -> float:
    """Return limit minus use of this process's memory control group (v2, else v1); infinite without one."""
    for root, limit_name, used_name in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit, used = ((root / name).read_text(encoding="utf-8").strip() for name in (limit_name, used_name))
        except OSError:
            continue
        return float("inf") if limit == "max" else float(int(limit) - int(used))
    return float("inf")
