"""`memscale doctor`: look at this machine, and say of each finding what it means."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from memscale.config.load import slurm_answers
from memscale.launch.slots import find_slots
from memscale.records.layout import runs_root
from memscale.records.lease import Lease, is_held

_LEAST_FREE_BYTES = 5e9


@dataclass(frozen=True, kw_only=True)
class Finding:
    good: bool
    what: str
    meaning: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__


def run(given: argparse.Namespace) -> int:
    del given
    findings = list(_findings())
    for finding in findings:
        print(f"{'ok     ' if finding.good else 'LOOK   '} {finding.what}: {finding.meaning}")
    return 0 if all(finding.good for finding in findings) else 4


def _findings() -> Iterator[Finding]:
    supported = (3, 10) <= sys.version_info[:2] < (3, 14)
    yield Finding(
        good=supported,
        what=f"Python {platform.python_version()}",
        meaning="supported" if supported else "memscale needs 3.10 to 3.13",
    )
    for name in ("torch", "mlflow", "lm_eval"):
        yield _package(name)
    slots = find_slots(None)
    device = "a GPU each" if slots[0].device == "cuda" else f"{slots[0].threads} core each"
    yield Finding(good=True, what="local pool", meaning=f"{len(slots)} runs at once, {device}")
    slurm = "sbatch answers" if slurm_answers() else "no sbatch here: sweeps run in the local pool"
    yield Finding(good=True, what="SLURM", meaning=slurm)
    yield from _disk(runs_root())


def _package(name: str) -> Finding:
    try:
        return Finding(good=True, what=name, meaning=metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(good=False, what=name, meaning="not installed; make setup installs it")


def _disk(root: Path) -> Iterator[Finding]:
    folder = next(path for path in (root, *root.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    meaning = f"{free / 1e9:.3g} GB free" + ("" if free > _LEAST_FREE_BYTES else "; checkpoints may not fit")
    yield Finding(good=free > _LEAST_FREE_BYTES, what=f"disk of {root}", meaning=meaning)
    if not os.access(folder, os.W_OK):
        yield Finding(good=False, what=f"{folder}", meaning="cannot be written to; MEMSCALE_RUNS moves the runs")
        return
    probe = folder / f".memscale-doctor-{uuid.uuid4().hex[:8]}"
    try:
        with Lease(probe, "the probe"):
            held = is_held(probe)
    finally:
        probe.unlink(missing_ok=True)
    meaning = (
        "hold between processes" if held else "do not hold: two workers could train one run; use another file system"
    )
    yield Finding(good=held, what=f"locks in {folder}", meaning=meaning)
