"""`memscale doctor`: check this machine, and explain each finding."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from memscale.doctor.file_system import file_system
from memscale.doctor.finding import Finding
from memscale.doctor.machine import machine
from memscale.doctor.mlflow_store import mlflow_store
from memscale.doctor.slurm import slurm
from memscale.records.layout import runs_root

_NEEDS_ATTENTION = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = __doc__
    parser.add_argument("--json", action="store_true", help="print JSON instead of words")


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not given.json:
            print(f"{'ok     ' if finding.good else 'LOOK   '} {finding.what}: {finding.meaning}", flush=True)
    if given.json:
        print(json.dumps({"format": 1, "findings": [asdict(finding) for finding in findings]}, indent=1))
    return 0 if all(finding.good for finding in findings) else _NEEDS_ATTENTION


def _findings() -> Iterator[Finding]:
    yield from machine()
    yield from slurm()
    yield from file_system(runs_root())
    yield from mlflow_store(runs_root())
