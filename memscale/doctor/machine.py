"""Python, the packages, the GPUs and the workers of the local pool."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from memscale.doctor.finding import Finding
from memscale.launch.workers import local_workers

_PACKAGES = ("torch", "numba", "hydra-core", "submitit", "mlflow", "lm_eval")


def machine() -> Iterator[Finding]:
    """Look at Python, the packages, the GPUs and the workers of the local pool."""
    supported = (3, 10) <= sys.version_info[:2] < (3, 14)
    yield _finding(
        supported, f"Python {platform.python_version()}", "supported" if supported else "memscale needs 3.10 to 3.13"
    )
    for name in _PACKAGES:
        yield _package(name)
    yield from _gpus()
    workers = local_workers(None)
    device = "a GPU each" if workers[0].device == "cuda" else f"{workers[0].threads} core each"
    yield _finding(True, "local pool", f"{len(workers)} runs at once, {device}")


def _gpus() -> Iterator[Finding]:
    try:
        import torch
    except ImportError:
        return  # its package has a finding of its own
    if not torch.cuda.is_available():
        built = torch.version.cuda
        meaning = (
            "none here: runs of this machine train on its cores"
            if built is None
            else (f"torch is built for CUDA {built}, but sees no GPU: nvidia-smi says whether the driver does")
        )
        yield _finding(built is None, "GPU", meaning)
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        major, minor = properties.major, properties.minor
        good = major >= 8
        meaning = f"{properties.total_memory / 2**30:.3g} GiB, compute capability {major}.{minor}"
        meaning += "" if good else "; the kernels are tested from 8.0 on"
        yield _finding(good, f"GPU {number}, {properties.name}", meaning)


def _package(name: str) -> Finding:
    try:
        return _finding(True, name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return _finding(False, name, "not installed; make setup installs it")


def _finding(good: bool, what: str, meaning: str) -> Finding:
    return Finding(topic="machine", good=good, what=what, meaning=meaning)
