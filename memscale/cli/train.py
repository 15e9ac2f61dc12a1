"""`memscale train RUN_DIRECTORY`: train one planned run here, in the foreground, as a worker would."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from memscale.errors import RecordError
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import PlanFile, read_plan_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="RUN_DIRECTORY", type=Path, help="runs/<sweep>/<run>-<run_id>")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="auto")


def run(given: argparse.Namespace) -> int:
    from memscale.launch.worker import main

    paths, plan = planned_run(given.directory)
    command = [str(paths.root), "--data", plan.data_folder, "--threads", str(given.threads), "--device", given.device]
    return main(command)


def planned_run(directory: Path) -> tuple[RunPaths, PlanFile]:
    """The folder of a run and the plan it belongs to. Raises RecordError where it is none."""
    paths = RunPaths(directory.absolute())
    plan = read_plan_file(SweepPaths(paths.root.parent))
    if plan is None or not paths.run.exists():
        raise RecordError(f"{paths.root} is not the folder of a planned run; list them with: memscale status SWEEP")
    return paths, plan
