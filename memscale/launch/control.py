"""What a person changes in a launched sweep: cancel it or a run of it, and let runs that failed be trained again."""

from __future__ import annotations

from memscale.errors import CheckpointError
from memscale.launch.planned import chosen_runs, launched
from memscale.launch.progress import SILENT
from memscale.launch.set_aside import set_aside_damage
from memscale.launch.slurm.executor import SlurmExecutor
from memscale.launch.start import launched_follower
from memscale.launch.states import read_state
from memscale.records.atomic import write_bytes
from memscale.records.launch_file import read_launch
from memscale.records.lease import Lease, is_held
from memscale.records.run_file import read_run_file
from memscale.training.checkpoint_files import set_aside_bad

_LOCK_SECONDS = 60.0


def cancel_sweep(name: str) -> bool:
    """Ask a sweep to stop: its runs leave with a checkpoint, and nothing is started until the next launch.

    On SLURM its waiting jobs are cancelled now.

    Returns:
        False where nothing had to be cancelled: no launcher of the sweep is at work.

    """
    paths, plan = launched(name)
    on_slurm = plan.launcher == "slurm" and read_launch(paths) is not None
    if not on_slurm and not is_held(paths.lock):
        return False
    write_bytes(paths.cancel, b"")
    if on_slurm:
        follower = launched_follower(paths, SILENT)
        with Lease(paths.lock, f"the sweep {name}", seconds=_LOCK_SECONDS):
            follower.locked_step()
    return True


def cancel_runs(name: str, run: str) -> list[str]:
    """Ask a run to stop with a checkpoint; it stays so until the sweep is started again. Returns the runs' names."""
    paths, plan = launched(name)
    launch = read_launch(paths) if plan.launcher == "slurm" else None
    names = []
    for row, folder in chosen_runs(name, run):
        write_bytes(folder.stop, b"")
        names.append(row.name)
        if launch is not None:
            executor = SlurmExecutor(launch=launch, paths=paths)
            executor.withdraw(
                status for status in executor.observe([folder]) if status.entry is not None and status.entry.waiting
            )
    return names


def free_runs(name: str, run: str | None) -> list[str]:
    """Let the failed, lost and damaged runs of a sweep, or the one called `run`, be trained again by the next launch.

    The folder of a run that diverged has a result; it is moved aside, not removed. Of a damaged run the damaged files
    are set aside, so that it goes on from its last good checkpoint; so are checkpoints of which none is good.

    Returns:
        The names of these runs.

    Raises:
        RecordError: The sweep was not launched, has no such run, or a damaged file cannot be moved.

    """
    freed = []
    for row, folder in chosen_runs(name, run):
        state = read_state(folder)
        if state.state not in ("damaged", "failed", "lost"):
            continue
        if state.state == "damaged":
            set_aside_damage(folder, state.evidence)
        elif state.evidence.startswith(CheckpointError.__name__):  # none is good: it starts anew
            set_aside_bad(folder.checkpoints, read_run_file(folder.run).run)
        elif folder.result.exists():
            root = folder.root
            number = next(i for i in range(1, 10_000) if not root.with_name(f"{root.name}.{i}").exists())
            root.rename(root.with_name(f"{root.name}.{number}"))
        if folder.stop.is_file():
            folder.stop.unlink()
        freed.append(row.name)
    return freed
