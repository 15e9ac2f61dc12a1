"""`memscale sweep`: plan, prepare the data, train what is missing, mirror it into MLflow, and write the report."""

from __future__ import annotations

import argparse
import subprocess
import sys

from memscale.cli import arguments
from memscale.cli.arguments import Planned
from memscale.cli.estimates import estimate, refuse_above_limits
from memscale.cli.finish import EXIT_NEEDED, finish
from memscale.cli.on_slurm import say_step
from memscale.cli.plan_page import print_plan
from memscale.cli.syncer import Syncer
from memscale.errors import MemscaleError
from memscale.launch.local import local_starter
from memscale.launch.progress import duration
from memscale.launch.sweep import Site, SweepOutcome, reopen, run_plan
from memscale.launch.workers import workers_for
from memscale.records.layout import runs_root
from memscale.records.lease import Lease, LeaseTakenError
from memscale.records.plan_file import is_finished

_ASK_SECONDS = 1800.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask before a long sweep")


def run(given: argparse.Namespace) -> int:
    planned = arguments.make_planned(given.sweep, given.overrides)
    plan = reopen(planned.plan, planned.paths)
    cost = estimate(plan, planned.paths)
    print_plan(plan, planned, cost)
    if cost.forecast.runs_left == 0 and is_finished(planned.paths, plan.plan_hash):
        print(f"nothing to train; the report is {planned.paths.report}")
        return 0
    refuse_above_limits(plan, cost)
    if not given.yes and not _agreed(cost.forecast.seconds):
        print("nothing was started")
        return 1
    try:
        if plan.sweep.launcher.name == "slurm":
            from memscale.cli.on_slurm import launch_on_slurm

            return launch_on_slurm(planned)
        with Lease(planned.paths.lock, f"the sweep {plan.sweep.name}"):
            return _train_here(planned)
    except LeaseTakenError as error:
        name = plan.sweep.name
        raise MemscaleError(
            f"{error}. Follow it with: make watch SWEEP={name}; stop it with: make cancel SWEEP={name}"
        ) from None


def _agreed(seconds: float) -> bool:
    """Ask before a long sweep, where somebody sits at the terminal."""
    if seconds < _ASK_SECONDS or not sys.stdin.isatty():
        return True
    return input(f"Start {duration(seconds)} of training? [y/N] ").strip().lower() in ("y", "yes")


def _train_here(planned: Planned) -> int:
    from memscale.data.prepared import prepare

    paths, sweep = planned.paths, planned.plan.sweep
    paths.cancel.unlink(missing_ok=True)
    syncer = Syncer(paths=paths)
    store = subprocess.Popen([sys.executable, "-m", "memscale.tracking", "--create"], stdin=subprocess.DEVNULL)
    prepared = prepare(sweep.data, runs_root(), progress=say_step)
    if store.wait() != 0:
        raise MemscaleError("MLflow's store cannot be opened, as said above; no run was started")
    site = Site(
        paths=paths,
        data_folder=prepared.folder,
        workers=workers_for(sweep.launcher, len(planned.plan.runs)),
        start=local_starter(sweep.launcher, prepared.folder),
        on_background=syncer.now_and_then,
    )
    return _finish(planned, run_plan(planned.plan, site), syncer)


def _finish(planned: Planned, outcome: SweepOutcome, syncer: Syncer) -> int:
    name = outcome.plan.sweep.name
    for run_name, why in outcome.failed.items():
        print(f"{run_name} is not tried again: {why}")
    status = finish(outcome.plan, planned.paths, syncer)
    if outcome.stopped:
        print(f"stopped: {outcome.stopped}; go on with: make sweep SWEEP={name}")
        return 130 if outcome.stopped == "Ctrl-C" else EXIT_NEEDED
    return status
