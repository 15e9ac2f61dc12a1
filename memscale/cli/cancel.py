"""`memscale cancel SWEEP [RUN]`: ask a sweep, or one run, to stop at the next step with a checkpoint."""

from __future__ import annotations

import argparse

from memscale.cli import arguments
from memscale.cli.advance import locked_step
from memscale.launch.advance import take_from_queue
from memscale.launch.slurm import commands as slurm_commands
from memscale.records.atomic import write_bytes
from memscale.records.attempts import slurm_job
from memscale.records.launch_file import Launch, read_launch
from memscale.records.layout import SweepPaths
from memscale.records.lease import Lease, is_held


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's name; without it, the whole sweep")


def run(given: argparse.Namespace) -> int:
    paths, plan = arguments.launched(given.sweep)
    launch = read_launch(paths) if plan.launcher == "slurm" else None
    if given.run is None:
        if launch is None and not is_held(paths.lock):
            print(f"no launcher of {given.sweep} is at work; nothing to cancel")
            return 0
        write_bytes(paths.cancel, b"")
        if launch is not None:
            _stop_jobs(launch, paths)
        print(
            f"{given.sweep} is asked to stop; its runs keep their checkpoints. "
            f"Go on with: make sweep SWEEP={given.sweep}"
        )
        return 0
    for row, folder in arguments.chosen_runs(given.sweep, given.run):
        write_bytes(folder.stop, b"")
        if launch is not None:
            take_from_queue(launch, paths, folder)
        print(f"{row.name} is asked to stop, and stays so until the next: make sweep SWEEP={given.sweep}")
    return 0


def _stop_jobs(launch: Launch, paths: SweepPaths) -> None:
    """Take what waits out of the queue; what is at work leaves by itself, and the last of it ends the sweep."""
    me = slurm_job()
    slurm_commands.leave_job()
    with Lease(paths.lock, f"the sweep {paths.root.name}", seconds=60.0):
        locked_step(launch, paths, me=me)
