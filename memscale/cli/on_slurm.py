"""`memscale sweep` on SLURM: prepare what the jobs need, submit them, and leave the terminal free."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from memscale.cli.advance import follow, locked_step
from memscale.cli.arguments import Planned
from memscale.errors import MemscaleError, PlanError
from memscale.launch.code_snapshot import take_snapshot
from memscale.launch.convert import plan_file, run_file
from memscale.launch.costs import launcher_of
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.sweep import is_done, reopen, run_paths
from memscale.planning.plan import Plan
from memscale.records.attempts import slurm_job
from memscale.records.launch_file import Launch, write_launch
from memscale.records.layout import runs_root
from memscale.records.lease import Lease
from memscale.records.plan_file import write_plan_file
from memscale.records.run_file import write_run_file

_LOCK_SECONDS = 60.0
"""A job that looks after the sweep holds it for a moment."""


def launch_on_slurm(planned: Planned) -> int:
    """Launch the sweep; return 0 once its jobs are in the queue, or (launcher.detach=false) what came of it.

    The data is prepared here, and MLflow's store is made before a job can open it. Raises MemscaleError.
    """
    from memscale.data.prepared import prepare

    me = slurm_job()
    slurm_commands.leave_job()
    paths, sweep = planned.paths, planned.plan.sweep
    _check_shares(planned.plan)
    with Lease(paths.lock, f"the sweep {sweep.name}", seconds=_LOCK_SECONDS):
        store = subprocess.Popen([sys.executable, "-m", "memscale.tracking", "--create"], stdin=subprocess.DEVNULL)
        prepared = prepare(sweep.data, runs_root(), progress=say_step)
        if store.wait() != 0:
            raise MemscaleError("MLflow's store cannot be opened, as said above; no run was started")
        launch = Launch(
            launched=round(time.time(), 3),
            sweep=sweep,
            digests=planned.plan.digests,
            data_folder=str(prepared.folder),
            code=str(take_snapshot(paths.code)),
            python=sys.executable,
        )
        _write(planned, launch)
        step = locked_step(launch, paths, me=me)
    print(f"{step.submitted} runs submitted, {step.num_alive} in the queue before, {step.num_done} done", flush=True)
    if step.over or not sweep.launcher.detach:
        return follow(launch, paths, me=me, say=print, to_the_end=True)
    name = sweep.name
    print(f"jobs of one core look after it: you may log out. Follow it with: make watch SWEEP={name}")
    print(f"stop it with: make cancel SWEEP={name}; its report will be {paths.report}")
    return 0


def _check_shares(plan: Plan) -> None:
    """Raise PlanError where a run has more processes than a batch has sequences."""
    for run in plan.runs:
        processes = launcher_of(plan.sweep, run).processes_per_run
        sequences = run.batch_tokens // plan.sweep.scale.sequence_length
        if sequences < processes:
            raise PlanError(
                f"{run.name} has {sequences} sequences a batch, too few for its {processes} processes, one a GPU. "
                "Lower launcher.gpus_per_run or launcher.nodes_per_run, or raise scale.batch_tokens"
            )


def _write(planned: Planned, launch: Launch) -> None:
    """Write the files that the jobs read, and take back what an earlier cancel left."""
    paths = planned.paths
    plan = reopen(planned.plan, paths)
    for run in plan.runs:
        if run.run_id is not None and not is_done(paths, run):
            folder = run_paths(paths, run)
            write_run_file(folder.run, run_file(plan.sweep, run))
            folder.stop.unlink(missing_ok=True)
    write_plan_file(paths, plan_file(plan, Path(launch.data_folder)))
    write_launch(paths, launch)
    paths.cancel.unlink(missing_ok=True)


def say_step(what: str, share: float) -> None:
    print(f"data: {what} {share:.0%}", flush=True)
