"""Where runs are trained: this machine's pool or a SLURM cluster. No part of a run's identity."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memscale.config.checks import at_least, one_of, positive
from memscale.config.resources import Resources
from memscale.config.retries import Retries

LAUNCHERS = ("auto", "local", "slurm")
TABLE_MEMORIES = ("device", "host", "file")


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """The keys of `sweeps/launcher/*.yaml`. A cluster is a file of its own there, chosen by `launcher=its_name`."""

    name: str = "auto"
    """`auto` (SLURM where it answers), `local` or `slurm`."""
    workers: int | None = None
    """Runs trained at once; None: one a GPU, or without GPUs one a core; on SLURM as many as it starts."""
    checkpoint_seconds: float = 30.0
    """Longest work that kill -9 can lose."""
    table_memory: str = "device"
    """Where tables and their optimizer's state lie: `device`; `host`, pinned memory, for tables larger than a GPU's;
    `file`, in the run's folder, for tables larger than the machine's memory. A step fetches the rows it reads."""
    device_memory: str | None = None
    """Memory of the GPU (without GPUs: of the worker) that runs will get, such as 80G, for the forecast; None: asked of
    this machine, or with SLURM and no GPUs the job's `memory`."""
    retries: Retries = field(default_factory=Retries)
    cpus_per_run: int = 8
    """SLURM only, as all below: cores of each process of a job."""
    gpus_per_run: int = 1
    """GPUs of a job on each of its nodes, a process each; 0 trains on cores, a process a node."""
    nodes_per_run: int = 1
    """Nodes of a job. Several processes share every batch, and each holds the whole model."""
    memory: str = "64G"
    """Of a job on each of its nodes."""
    minutes: int = 1440
    """Time limit of a job. A run that needs more goes on in another."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    exclude: str | None = None
    """Nodes that get no job, as sbatch has them; nodes that failed are added."""
    setup: tuple[str, ...] = ()
    """Shell lines before the worker starts, such as `module load cuda`."""
    container: str | None = None
    """Image that jobs run in, by srun's --container-image (pyxis)."""
    resources: tuple[Resources, ...] = ()
    """What the jobs of some runs ask for instead; of several that a run meets, later ones win."""
    stop_seconds: int = 120
    """How long before its time limit a job is asked to leave with a checkpoint."""
    grace_seconds: float = 120.0
    """How long SLURM may know nothing of a job that left no word, before it counts as lost."""
    detach: bool = True
    """Leave the terminal free: jobs of one core look after the sweep."""
    check_minutes: float = 5.0
    """Between two looks of those jobs."""
    check_memory: str | None = None
    """Memory of those jobs; None: 4G, or `memory` where that is less."""

    def __post_init__(self) -> None:
        one_of("name", self.name, LAUNCHERS)
        one_of("table_memory", self.table_memory, TABLE_MEMORIES)
        if self.workers is not None:
            at_least("workers", self.workers, 1)
        for name in ("cpus_per_run", "nodes_per_run", "minutes"):
            at_least(name, getattr(self, name), 1)
        at_least("gpus_per_run", self.gpus_per_run, 0)
        at_least("stop_seconds", self.stop_seconds, 1)
        for name in ("checkpoint_seconds", "grace_seconds", "check_minutes"):
            positive(name, getattr(self, name))
        for one in self.resources:
            self._with(one)

    def for_run(self, family: str, params: float, flops: float) -> Launcher:
        """Return the launcher with the resources of one run: of a family by its name in the sweep, of so many
        parameters and training FLOPs."""
        found = self
        for one in self.resources:
            found = found._with(one) if one.meets(family, params, flops) else found
        return found

    def _with(self, resources: Resources) -> Launcher:
        return replace(self, **resources.changes, resources=())

    @property
    def processes_per_run(self) -> int:
        """Those that share a run's batches."""
        return self.nodes_per_run * max(1, self.gpus_per_run) if self.name == "slurm" else 1
