"""Which machine a benchmark ran on, and how fast it multiplies matrices: the floor."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch


def describe() -> dict[str, Any]:
    """The machine, its load, and the versions that matter."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": processor or platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def versions(*packages: str) -> dict[str, str | None]:
    """Of packages; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def seconds(action: Callable[[], object], repeats: int) -> list[float]:
    """Wall seconds of each of `repeats` calls, after two that are not counted."""
    taken = []
    for turn in range(repeats + 2):
        begun = time.perf_counter()
        action()
        if turn >= 2:
            taken.append(time.perf_counter() - begun)
    return taken


def matmul_flops_per_second() -> float:
    """FLOPs per second of a float32 product of two 1024 x 1024 matrices."""
    left, right = torch.ones(1024, 1024), torch.ones(1024, 1024)
    return 2 * 1024**3 / median(seconds(lambda: left @ right, 9))
