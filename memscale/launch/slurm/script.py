"""What the script of a run's job says: its requests by submitit's names, its environment, and its container."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from memscale.config.launcher import Launcher
from memscale.launch.code_snapshot import shell_lines
from memscale.launch.slurm.commands import split_nodes
from memscale.records.layout import SweepPaths

_NOT_OF_A_JOB = (
    "name", "workers", "device_memory", "retries", "grace_seconds", "detach", "check_minutes", "check_memory",
    "check_partition", "check_sbatch",
)  # fmt: skip
"""Keys of the launcher that do not go into a run's job."""


def job_parameters(
    launcher: Launcher, code: Path, *, exclude: Sequence[str] = (), folders: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return the parameters of one run's job, by submitit's names.

    Args:
        launcher: The run's launcher.
        code: The snapshot of the code.
        exclude: Nodes that get no job, beside the launcher's own.
        folders: What a container needs of this machine.

    """
    nodes = [*split_nodes(launcher.exclude or ""), *exclude]
    # submitit runs `python -m`, which looks into the current folder first.
    setup = [*launcher.setup, *variables(launcher), f"cd {shlex.quote(str(code))} || exit 1", *shell_lines(code)]
    setup += ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]
    given: dict[str, Any] = {
        "time": launcher.minutes,
        "nodes": launcher.nodes_per_run,
        "ntasks_per_node": launcher.processes_per_run // launcher.nodes_per_run,
        "cpus_per_task": launcher.cpus_per_run,
        "gpus_per_node": None if _names_gpus(launcher.gres) else launcher.gpus_per_run or None,
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "constraint": launcher.constraint,
        "gres": launcher.gres,
        "exclude": ",".join(dict.fromkeys(nodes)) or None,
        "signal_delay_s": min(launcher.stop_seconds, launcher.minutes * 30),
        "setup": setup,
        "additional_parameters": {
            "mem": launcher.memory,
            "requeue": True,
            **{option.name: option.value for option in launcher.sbatch},
        },
        "srun_args": _srun_options(launcher, folders) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def output_folder(folder: Path) -> str:
    """Return a folder as `--output` takes it: SLURM gives what follows a % a meaning."""
    return str(folder).replace("%", "%%")


def output_parameters(parameters: Mapping[str, Any], folder: Path, *, is_array: bool) -> dict[str, Any]:
    """Return the parameters of a job with its output in `folder`, which submitit writes down as it is.

    Args:
        parameters: Those of `job_parameters`.
        folder: Submitit's folder of the jobs.
        is_array: Whether they are an array, whose output is called by array and element.

    """
    if "%" not in str(folder):
        return dict(parameters)
    output = f"{output_folder(folder)}/{'%A_%a' if is_array else '%j'}"
    return {
        **parameters,
        "additional_parameters": {**parameters["additional_parameters"], "output": f"{output}_0_log.out"},
        "srun_args": [*parameters.get("srun_args", ()), f"--output={output}_%t_log.out"],  # the last one counts
    }


def requests_changed(before: Launcher, now: Launcher) -> list[str]:
    """Return the launcher's keys that a run's job was submitted with and that have other values now."""
    names = [field.name for field in fields(Launcher) if field.name not in _NOT_OF_A_JOB]
    return [f"launcher.{name}" for name in names if getattr(before, name) != getattr(now, name)]


def variables(launcher: Launcher) -> list[str]:
    """Return the lines of a job's script that set the launcher's environment variables."""
    return [f"export {one.name}={shlex.quote(str(one.value))}" for one in launcher.environment]


def _names_gpus(gres: str | None) -> bool:
    """Whether `--gres` asks for the GPUs itself; sbatch refuses two counts that differ."""
    return gres is not None and any(part.split(":")[0] in ("gpu", "gres/gpu") for part in gres.split(","))


def _srun_options(launcher: Launcher, folders: Sequence[Path]) -> list[str]:
    options = list(launcher.srun)
    if launcher.container:
        pairs = [*(f"{folder}:{folder}" for folder in dict.fromkeys(folders)), *launcher.container_mounts]
        options += [f"--container-image={launcher.container}", f"--container-mounts={','.join(pairs)}"]
        options.append(f"--container-workdir={folders[0]}")
    return [*options, "--kill-on-bad-exit=1"] if launcher.processes_per_run > 1 else options


def mounts(paths: SweepPaths, code: Path) -> list[Path]:
    """Return what a container needs of this machine; of Python, what does not come with an operating system."""
    python = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix) if prefix not in ("/usr", "/usr/local")]
    return [code, paths.root, paths.all_data, *python]
