"""Where runs are trained: in a pool of workers on this machine, or on a SLURM cluster. Not part of a run's identity."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from memscale.config.ranges import (
    Checked,
    DeviceMemory,
    Gpus,
    Hardware,
    Minutes,
    OneOf,
    Range,
    Seconds,
    ShellLine,
    ShellWord,
    SlurmMemory,
    SlurmWord,
)
from memscale.config.resources import Resources
from memscale.config.retries import Retries
from memscale.config.slurm_options import SbatchOption, Variable

LAUNCHERS = ("auto", "local", "slurm")
TABLE_MEMORIES = ("device", "host", "file")


@dataclass(frozen=True, kw_only=True)
class Launcher(Checked):
    """The keys of `sweeps/launcher/*.yaml`; each cluster has its own file there, chosen with `launcher=<file name>`."""

    name: Annotated[str, OneOf(LAUNCHERS)] = "auto"
    """`auto` (SLURM where it answers), `local` or `slurm`."""
    workers: Hardware | None = None
    """Runs trained at once. None: one per GPU, or per core where there is no GPU; on SLURM as many as it starts."""
    checkpoint_seconds: Seconds = 30.0
    """Seconds between checkpoints: the most work that `kill -9` can lose."""
    table_memory: Annotated[str, OneOf(TABLE_MEMORIES)] = "device"
    """Where memory tables and their optimizer state are kept: `device`; `host` (pinned memory, for tables larger than
    GPU memory); `file` (in the run's folder, for tables larger than the machine's memory). With the last two a step
    copies only the rows that it reads."""
    device_memory: DeviceMemory | None = None
    """Memory of the GPU (without GPUs: of the worker) for the forecast, such as 80G. None: that of this machine; on
    SLURM without GPUs the job's `memory`."""
    record_diff: bool = True
    """Whether provenance.json has the code's uncommitted changes, without lines that look like secrets."""
    retries: Retries = field(default_factory=Retries)
    cpus_per_run: Hardware = 8
    """Cores of each process of a job. SLURM only, as is everything below."""
    gpus_per_run: Gpus = 1
    """GPUs of a job on each node, with one process per GPU; 0: train on cores, one process per node."""
    nodes_per_run: Hardware = 1
    """Nodes of a job. Its processes split every batch (data parallel), and each holds the whole model."""
    memory: SlurmMemory = "64G"
    """Host memory of a job on each node."""
    minutes: Minutes = 1440
    """Time limit of a job; a run that needs more time continues in another job."""
    partition: SlurmWord | None = None
    account: SlurmWord | None = None
    qos: SlurmWord | None = None
    constraint: SlurmWord | None = None
    gres: SlurmWord | None = None
    exclude: SlurmWord | None = None
    """Nodes to avoid, in the syntax of `sbatch --exclude`; nodes that failed are added."""
    sbatch: tuple[SbatchOption, ...] = ()
    """Any other options of sbatch for the runs' jobs, such as {reservation: maxwell, exclusive: true}."""
    srun: tuple[ShellWord, ...] = ()
    """Options of srun, such as [--mpi=none]."""
    environment: tuple[Variable, ...] = ()
    """Environment variables of all jobs, such as {HF_HOME: /scratch/hf}."""
    setup: tuple[ShellLine, ...] = ()
    """Shell commands to run before the worker, such as `module load cuda`."""
    container: str | None = None
    """Image for `srun --container-image` (pyxis). The code, the sweep, its data and this Python are mounted into it."""
    container_mounts: tuple[SlurmWord, ...] = ()
    """Further folders for the container, each `from:to`."""
    resources: tuple[Resources, ...] = ()
    """Other requests for the jobs of some runs; where several entries match a run, later ones win."""
    stop_seconds: Annotated[int, Range(1, 86_400, "a day is longer than a checkpoint takes")] = 120
    """Seconds before its time limit at which a job is signalled to write a checkpoint and exit."""
    grace_seconds: Seconds = 120.0
    """Seconds for which a job without a recorded outcome may be unknown to SLURM before it counts as lost."""
    detach: bool = True
    """Whether the command returns at once, while one-core controller jobs run the sweep."""
    check_minutes: Annotated[float, Range(0, 525_600, "a year", above_low=True)] = 5.0
    """Minutes between two checks of the controller jobs."""
    check_memory: SlurmMemory | None = None
    """Memory of the controller jobs; None: 4G, or `memory` where that is less."""
    check_partition: SlurmWord | None = None
    """Partition of the controller jobs, such as one without GPUs; None: `partition`."""
    check_sbatch: tuple[SbatchOption, ...] = ()
    """Any other options of sbatch for the controller jobs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for one in self.resources:
            self._with(one)

    def for_run(self, family: str, params: float, flops: float) -> Launcher:
        """Return the launcher with the resources of one run.

        `family` is the family's name in the sweep, `params` the run's total parameters, `flops` its training FLOPs.
        """
        found = self
        for one in self.resources:
            found = found._with(one) if one.matches(family, params, flops) else found
        return found

    def _with(self, resources: Resources) -> Launcher:
        return replace(self, **resources.changes, resources=())

    @property
    def processes_per_run(self) -> int:
        """Number of processes that split a run's batches."""
        return self.nodes_per_run * max(1, self.gpus_per_run) if self.name == "slurm" else 1
