"""The jobs of one core that look after a sweep when nobody is logged in, each by one `memscale advance`.

There are two kinds. One starts after some minutes and sees to retries while others still train. One depends on all jobs
of the sweep and starts when they have ended: it opens the next stage, or mirrors the runs and builds the report. Each
that runs sees to it that both wait in the queue, so either can be lost, and each run's job at its end that one is
there. They are found by their names.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence

from memscale.config.launcher import Launcher
from memscale.launch.device_memory import parse_bytes
from memscale.launch.slurm import commands as slurm_commands
from memscale.launch.slurm.commands import Element
from memscale.records.launch_file import Launch
from memscale.records.layout import SweepPaths
from memscale.records.submissions import submissions

KINDS = ("look", "next")
_MEMORY, _MINUTES = "4G", 120
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


def controller_name(sweep: str, kind: str) -> str:
    """Return the name of the jobs of one of KINDS."""
    return f"memscale-{kind}-{sweep}"


def controllers(paths: SweepPaths, queue: Mapping[str, Element], me: str | None) -> dict[str, list[Element]]:
    """Return the sweep's controllers in the queue by kind, without the one that asks (`me`, its job id)."""
    names = {controller_name(paths.root.name, kind): kind for kind in KINDS}
    found: dict[str, list[Element]] = {kind: [] for kind in KINDS}
    for element in queue.values():
        if element.name in names and element.job_id != me and element.word != "COMPLETING":
            found[names[element.name]].append(element)
    return found


def see_to_controllers(launch: Launch, paths: SweepPaths, *, me: str | None, submitted: bool) -> None:
    """Submit what is missing of the two; anew the one that depends, where jobs were `submitted`. Raises SlurmError."""
    queue = slurm_commands.queue()
    there = controllers(paths, queue, me)
    if not there["look"]:
        _submit_look(launch, paths)
    arrays = arrays_of(paths, queue)
    if arrays and (submitted or not there["next"]):
        _submit(launch, paths, "next", f"--dependency=afterany:{':'.join(arrays)}")
        slurm_commands.cancel(element.job_id for element in there["next"] if element.waiting)


def see_to_one(launch: Launch, paths: SweepPaths) -> None:
    """Submit one that looks, where none of the two kinds is there. Raises SlurmError."""
    names = ",".join(controller_name(paths.root.name, kind) for kind in KINDS)
    if not slurm_commands.ask("squeue", "--me", "--noheader", f"--name={names}").strip():
        _submit_look(launch, paths)


def dismiss(paths: SweepPaths, *, me: str | None) -> None:
    """Take the sweep's waiting controllers out of the queue: there is nothing left to look after."""
    there = controllers(paths, slurm_commands.queue(), me)
    slurm_commands.cancel(element.job_id for kind in KINDS for element in there[kind] if element.waiting)


def arrays_of(paths: SweepPaths, queue: Mapping[str, Element]) -> list[str]:
    """Return the ids of the sweep's arrays that have elements in the queue."""
    names = {one.name for one in submissions(paths) if not one.void}
    return sorted({job.partition("_")[0] for job, element in queue.items() if element.name in names})


def _submit_look(launch: Launch, paths: SweepPaths) -> None:
    seconds = math.ceil(launch.sweep.launcher.check_minutes * 60)
    _submit(launch, paths, "look", f"--begin=now+{seconds}")


def _submit(launch: Launch, paths: SweepPaths, kind: str, when: str) -> None:
    sweep, launcher = paths.root.name, launch.sweep.launcher
    folder = paths.slurm / "controllers"
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"--job-name={controller_name(sweep, kind)}",
        f"--output={folder}/%j.log",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        f"--mem={_memory(launcher)}",
        f"--time={_MINUTES}",
        "--requeue",
        *_options(launcher),
    ]
    slurm_commands.ask("sbatch", when, given=_script(launch, paths, options))


def _options(launcher: Launcher) -> Sequence[str]:
    names = ("partition", "account", "qos")
    return [f"--{name}={getattr(launcher, name)}" for name in names if getattr(launcher, name) is not None]


def _memory(launcher: Launcher) -> str:
    if launcher.check_memory is not None or launcher.memory == "0":  # SLURM's word for all of a node's
        return launcher.check_memory or _MEMORY
    less = parse_bytes("launcher.memory", launcher.memory) < parse_bytes("", _MEMORY)
    return launcher.memory if less else _MEMORY


def _script(launch: Launch, paths: SweepPaths, options: Sequence[str]) -> str:
    """Return the job: the same code, interpreter and runs as those who submit it. It submits itself anew, elsewhere,
    where its node does not let it do its work."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("MEMSCALE_", "MLFLOW_"))}
    kept |= {"MEMSCALE_RUNS": str(paths.root.parent), "PYTHONPATH": launch.code}
    command = [launch.python, "-m", "memscale.cli.main", "advance", paths.root.name]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {shlex.quote(option)}" for option in options),
            _ELSEWHERE,
            *launch.sweep.launcher.setup,
            *(f"export {name}={shlex.quote(value)}" for name, value in kept.items()),
            shlex.join(command),
            "",
        ]
    )
