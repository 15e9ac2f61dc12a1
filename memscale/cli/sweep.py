"""`memscale sweep`: plan, prepare the data, train what is missing, mirror it into MLflow, and write the report."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from memscale.cli import arguments
from memscale.cli.arguments import Planned
from memscale.cli.estimates import estimate, refuse_above_limits
from memscale.cli.figures import NoReportError, build_report
from memscale.cli.plan_page import print_plan
from memscale.errors import MemscaleError
from memscale.launch.local import local_starter
from memscale.launch.pool import Starter
from memscale.launch.progress import duration
from memscale.launch.slots import slots_for
from memscale.launch.sweep import Site, SweepOutcome, is_done, reopen, run_plan
from memscale.records.layout import SweepPaths, runs_root
from memscale.records.lease import Lease, LeaseTakenError
from memscale.records.plan_file import is_finished, mark_finished

_SYNC_SECONDS = 45.0
_ASK_SECONDS = 1800.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_sweep(parser)
    arguments.add_overrides(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask before a long sweep")


@dataclass(kw_only=True)
class Syncer:
    """Mirrors the run files into MLflow from a process of its own, now and then."""

    paths: SweepPaths
    _process: subprocess.Popen[bytes] | None = None
    _last: float = field(default_factory=time.monotonic)

    def now_and_then(self) -> None:
        running = self._process is not None and self._process.poll() is None
        if not running and time.monotonic() - self._last > _SYNC_SECONDS:
            self._last = time.monotonic()
            self._process = self._start()

    def finish(self) -> int:
        """Wait for the one under way, then mirror everything; return the exit status."""
        if self._process is not None:
            self._process.wait()
        return self._start("--wait", "120").wait()

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        log = open(self.paths.root / "sync.log", "ab")  # noqa: SIM115 (the child keeps it)
        with log:
            command = [sys.executable, "-m", "memscale.tracking", str(self.paths.root), *options]
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


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
        with Lease(planned.paths.lock, f"the sweep {plan.sweep.name}"):
            return _locked(planned)
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


def _locked(planned: Planned) -> int:
    from memscale.data.prepared import prepare

    paths, sweep = planned.paths, planned.plan.sweep
    paths.cancel.unlink(missing_ok=True)
    syncer = Syncer(paths=paths)
    store = subprocess.Popen([sys.executable, "-m", "memscale.tracking", "--create"], stdin=subprocess.DEVNULL)
    prepared = prepare(sweep.data, runs_root(), progress=_say_step)
    if store.wait() != 0:
        raise MemscaleError("MLflow's store cannot be opened, as said above; no run was started")
    site = Site(
        paths=paths,
        data_folder=prepared.folder,
        slots=slots_for(sweep.launcher, len(planned.plan.runs)),
        start=_starter(planned, prepared.folder),
        on_background=syncer.now_and_then,
    )
    return _finish(planned, run_plan(planned.plan, site), syncer)


def _starter(planned: Planned, data_folder: Path) -> Starter:
    launcher = planned.plan.sweep.launcher
    if launcher.name == "slurm":
        from memscale.launch.slurm import slurm_starter

        return slurm_starter(launcher, data_folder, planned.paths.root / "slurm")
    return local_starter(launcher, data_folder)


def _say_step(what: str, share: float) -> None:
    print(f"data: {what} {share:.0%}", flush=True)


def _finish(planned: Planned, outcome: SweepOutcome, syncer: Syncer) -> int:
    paths, name = planned.paths, outcome.plan.sweep.name
    missing = [one for one in outcome.plan.runs if not is_done(paths, one)]
    for run_name, why in outcome.failed.items():
        print(f"{run_name} is not tried again: {why}")
    try:
        build_report(paths)
    except NoReportError as error:
        print(error)
    mirrored = syncer.finish() == 0
    if not mirrored:
        print(f"MLflow was not brought up to date; see {paths.root / 'sync.log'}; try again with: make ui SWEEP={name}")
    if outcome.stopped:
        num_done = len(outcome.plan.runs) - len(missing)
        print(f"{num_done} of {len(outcome.plan.runs)} runs done; go on with: make sweep SWEEP={name}")
        return 130 if outcome.stopped == "Ctrl-C" else 4
    if missing:
        print(f"{len(missing)} runs are not done; see: make status SWEEP={name}")
        return 4
    if mirrored:
        mark_finished(paths, outcome.plan.plan_hash)
    print(f"all {len(outcome.plan.runs)} runs done")
    return 0
