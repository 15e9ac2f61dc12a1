"""`memscale advance SWEEP`: take the next step of a sweep on SLURM; what the jobs run that look after it.

Looks at every run, writes down what ended, submits what has to be trained, opens the next stage, and when all have
ended mirrors the runs into MLflow and builds the report. Safe at any time, from anywhere, any number of times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from memscale.cli import arguments
from memscale.cli.finish import EXIT_DONE, EXIT_NEEDED, finish
from memscale.cli.syncer import Syncer
from memscale.errors import RecordError
from memscale.launch.advance import Step, learn_speeds, take_step
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.slurm.commands import SlurmError
from memscale.launch.slurm.controllers import dismiss, see_to_controllers
from memscale.records.attempts import slurm_job
from memscale.records.launch_file import Launch, read_launch
from memscale.records.layout import SweepPaths
from memscale.records.lease import Lease, LeaseTakenError
from memscale.records.plan_file import is_finished

EXIT_RUNNING = 3
_PAUSE_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    arguments.add_sweep(parser)
    parser.add_argument("--follow", action="store_true", help="go on until every run has ended")


def run(given: argparse.Namespace) -> int:
    paths = arguments.sweep_paths(given.sweep)
    launch = read_launch(paths)
    if launch is None:
        raise RecordError(
            f"the sweep '{given.sweep}' was not launched on SLURM in {paths.root.parent}; start it with: "
            f"make sweep SWEEP={given.sweep} LAUNCHER=slurm"
        )
    me = slurm_job()
    slurm_commands.leave_job()
    status = follow(launch, paths, me=me, say=print, to_the_end=given.follow)
    if status == EXIT_RUNNING:
        Syncer(paths=paths).once()
    return status


def follow(
    launch: Launch, paths: SweepPaths, *, me: str | None, say: Callable[[str], None], to_the_end: bool = False
) -> int:
    """Take steps until nothing is unsettled, or (`to_the_end`) until every run has ended; then finish what can be.

    Return 0 where all is done, 3 while jobs are there, 4 where somebody is needed.
    """
    while True:
        try:
            with Lease(paths.lock, f"the sweep {paths.root.name}"):
                step = locked_step(launch, paths, me=me)
        except LeaseTakenError:
            say("somebody else is taking this sweep's next step")
            step = None
        except SlurmError as error:
            say(str(error))
            step = None
        for line in step.said if step is not None else ():
            say(line)
        if step is not None and step.over:
            return _over(step, paths, me=me, say=say)
        if not to_the_end and (step is None or not step.unsettled):
            return EXIT_RUNNING
        time.sleep(_PAUSE_SECONDS)


def locked_step(launch: Launch, paths: SweepPaths, *, me: str | None) -> Step:
    """Take a step and see to the controllers; the caller holds the sweep's lock."""
    step = take_step(launch, paths)
    if not step.over:
        see_to_controllers(launch, paths, me=me, submitted=step.submitted > 0)
    return step


def _over(step: Step, paths: SweepPaths, *, me: str | None, say: Callable[[str], None]) -> int:
    """Every run has ended, or is given up."""
    for name, why in step.given_up.items():
        say(f"{name} is not tried again: {why}")
    if step.halted:
        say(f"stopped: {step.halted}; go on with: make sweep SWEEP={paths.root.name}")
    if is_finished(paths, step.plan.plan_hash):
        return EXIT_DONE
    learn_speeds(step.plan, paths)
    status = finish(step.plan, paths, Syncer(paths=paths))
    dismiss(paths, me=me)
    return EXIT_NEEDED if step.halted and status == EXIT_DONE else status
