"""Controllers: jobs of one core that take a sweep's next steps when nobody is logged in.

There are two kinds. A `look` starts after the launcher's `check_minutes` and retries runs while others still train. A
`next` depends on all jobs of the sweep and starts when they have ended: it opens the next stage, or mirrors the runs
and builds the report. Each controller submits what is missing of the two, and each run's job ensures at its end that
one of them is in the queue: so any of them can be lost. They are found by their names.
"""

from __future__ import annotations

import hashlib
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from memscale.config.launcher import Launcher
from memscale.launch.code_snapshot import shell_lines
from memscale.launch.device_memory import parse_bytes
from memscale.launch.slurm import commands
from memscale.launch.slurm.commands import FullError, QueueEntry, SlurmError
from memscale.launch.slurm.script import output_folder, variables
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths
from memscale.records.masking import is_secret_variable
from memscale.records.submissions import submissions, users_of

KINDS = ("look", "next")
_MEMORY, _MINUTES = "4G", 120
_START = "import sys; sys.path.pop(0); from memscale.launch.slurm.__main__ import main; sys.exit(main(sys.argv[1:]))"
"""Python code: a step by the code on PYTHONPATH, whatever lies in the current folder, which Python puts first."""
_ELSEWHERE = """\
tries=${CONTROLLER_TRIES:-0}
unset CONTROLLER_TRIES
again() { CONTROLLER_TRIES=$((tries + 1)) sbatch --begin=now+10 "$@" "$0"; }
elsewhere() {
    case $? in 0 | 3 | 4) return ;; esac # done, running, somebody is needed
    [ "$tries" -ge 3 ] || again --exclude="$SLURMD_NODENAME" || again # where there is no other node
}
trap elsewhere EXIT
trap 'trap - EXIT; exit 143' TERM # cancelled, or put back into the queue
"""


def controller_name(paths: SweepPaths, kind: str) -> str:
    """Return the name of the jobs of one of KINDS: the sweep's, and its own in each runs folder."""
    folder = hashlib.sha256(os.fsencode(paths.root.resolve())).hexdigest()[:8]
    return f"memscale-{kind}-{paths.root.name}-{folder}"


def controllers(paths: SweepPaths, queue: Mapping[str, QueueEntry], own_job: str | None) -> dict[str, list[QueueEntry]]:
    """Return the sweep's controllers in the queue by kind, without `own_job`, the one that asks."""
    names = {controller_name(paths, kind): kind for kind in KINDS}
    found: dict[str, list[QueueEntry]] = {kind: [] for kind in KINDS}
    for entry in queue.values():
        if entry.name in names and entry.job_id != own_job and entry.state != "COMPLETING":
            found[names[entry.name]].append(entry)
    return found


def ensure_controllers(launch: Launch, paths: SweepPaths, *, own_job: str | None, submitted: bool) -> None:
    """Submit the controllers that are not in the queue, and `next` anew where jobs were `submitted`.

    Where the queue has no room for them while jobs of the sweep are in it, each of these sees to a controller at its
    end, when it leaves its place.

    Raises:
        SlurmError: SLURM does not answer, or refuses a job.

    """
    queue = commands.queue(users_of(paths))
    there, arrays = controllers(paths, queue, own_job), arrays_of(paths, queue)
    try:
        if not _waits(there["look"]):
            _submit_look(launch, paths)
        if arrays and (submitted or not there["next"]):
            _submit(launch, paths, "next", f"--dependency=afterany:{':'.join(arrays)}")
            commands.cancel(entry.job_id for entry in there["next"] if entry.waiting)
    except FullError:
        if not arrays:
            raise


def ensure_look(launch: Launch, paths: SweepPaths, *, own_job: str | None) -> None:
    """Submit a `look` where none but `own_job` waits in the queue. Raises SlurmError."""
    if not _waits(controllers(paths, commands.queue(users_of(paths)), own_job)["look"]):
        _submit_look(launch, paths)


def _waits(there: Sequence[QueueEntry]) -> bool:
    """Whether one is still to start: one at work may have taken its step and mirror the runs, and then end."""
    return any(entry.waiting for entry in there)


def ensure_one_controller(launch: Launch, paths: SweepPaths) -> None:
    """Submit a `look` where no controller is in the queue. Raises SlurmError."""
    names = ",".join(controller_name(paths, kind) for kind in KINDS)
    if not commands.ask("squeue", commands.of_users(users_of(paths)), "--noheader", f"--name={names}").strip():
        _submit_look(launch, paths)


def cancel_controllers(paths: SweepPaths, *, own_job: str | None) -> None:
    """Cancel the sweep's waiting controllers."""
    there = controllers(paths, commands.queue(users_of(paths)), own_job)
    commands.cancel(entry.job_id for kind in KINDS for entry in there[kind] if entry.waiting)


def arrays_of(paths: SweepPaths, queue: Mapping[str, QueueEntry]) -> list[str]:
    """Return the ids of the sweep's arrays that have entries in the queue."""
    names = {one.name for one in submissions(paths) if not one.void}
    return sorted({job.partition("_")[0] for job, entry in queue.items() if entry.name in names})


def _submit_look(launch: Launch, paths: SweepPaths) -> None:
    seconds = math.ceil(launch.sweep.launcher.check_minutes * 60)
    _submit(launch, paths, "look", f"--begin=now+{seconds}")


def _submit(launch: Launch, paths: SweepPaths, kind: str, when: str) -> None:
    launcher = launch.sweep.launcher
    folder = paths.slurm / "controllers"
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"--job-name={controller_name(paths, kind)}",
        f"--output={output_folder(folder)}/%j.log",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--mem={_memory(launcher)}",
        f"--time={_MINUTES}",
        "--requeue",
        *_options(launcher),
    ]
    # What is secret goes with the environment that sbatch hands on, not into the script, which SLURM keeps.
    try:
        commands.ask("sbatch", when, "--export=ALL", given=_script(launch, paths, options))
    except SlurmError as error:
        raise (commands.refused_by(str(error)) or SlurmError)(str(error)) from None


def _options(launcher: Launcher) -> Sequence[str]:
    elsewhere = launcher.check_partition is not None
    given = {
        "partition": launcher.check_partition or launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": None if elsewhere else launcher.constraint,
        "exclude": launcher.exclude,
    }
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [*options, *(option.flag for option in launcher.check_sbatch)]


def _memory(launcher: Launcher) -> str:
    if launcher.check_memory is not None or launcher.memory == "0":  # to SLURM, all memory of a node
        return launcher.check_memory or _MEMORY
    less = parse_bytes("launcher.memory", launcher.memory) < parse_bytes("", _MEMORY)
    return launcher.memory if less else _MEMORY


def _script(launch: Launch, paths: SweepPaths, options: Sequence[str]) -> str:
    """Return the job's script: it runs the launch's code with the launch's interpreter on the same runs.

    Where its node fails it (a status that no step has), it submits itself anew on another node, three times at most.
    """
    ours = {name: value for name, value in os.environ.items() if name.startswith(("MEMSCALE_", "MLFLOW_"))}
    kept = {name: value for name, value in ours.items() if not is_secret_variable(name, value)}
    kept |= {"MEMSCALE_RUNS": str(paths.root.parent)}
    command = [launch.python, "-c", _START, paths.root.name]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {shlex.quote(option)}" for option in options),
            _ELSEWHERE,
            *launch.sweep.launcher.setup,
            *variables(launch.sweep.launcher),
            *(f"export {name}={shlex.quote(value)}" for name, value in kept.items()),
            *shell_lines(Path(launch.code), launch.python),
            shlex.join(command),
            "",
        ]
    )
