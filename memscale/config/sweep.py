"""A sweep: the question, the budgets, what is held equal, what may move, and how it is run.

These are the words of the YAML files. The planner turns them into runs (`memscale.config.run`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memscale.config.architecture import FAMILIES
from memscale.config.budget import Scale
from memscale.config.checks import at_least, one_of, positive, require
from memscale.config.data import Data
from memscale.config.family import Family
from memscale.config.grid import Block
from memscale.config.matching import Matching
from memscale.config.recipe import Recipe
from memscale.errors import nearest

LAUNCHERS = ("auto", "local", "slurm")
TABLE_MEMORIES = ("device", "host", "file")


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Where runs are trained, and when a failed one is tried again. No part of a run's identity."""

    name: str = "auto"
    slots: int | None = None
    """Runs trained at once; None: one a GPU, or without GPUs one a core."""
    max_attempts: int = 3
    """Attempts of one run, interrupted ones not counted, before it is left failed."""
    checkpoint_seconds: float = 30.0
    """Longest work that kill -9 can lose."""
    table_memory: str = "device"
    """Where tables and their optimizer's state lie: `device`; `host`, pinned memory, for tables larger than a GPU's;
    `file`, in the run's folder, for tables larger than the machine's memory. A step fetches the rows it reads."""
    device_memory: str | None = None
    """Memory of the GPU (or without GPUs of the slot) that runs will get, such as 80G, for the forecast; None: asked of
    this machine, or with SLURM and no GPUs the job's `memory`."""
    cpus_per_run: int = 8
    """SLURM only, as all below: cores of a job."""
    gpus_per_run: int = 1
    """GPUs of a job; 0 trains on cores."""
    memory: str = "64G"
    minutes: int = 1440
    """Time limit of a job."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    """Shell lines before the worker starts, such as `module load cuda`."""

    def __post_init__(self) -> None:
        one_of("name", self.name, LAUNCHERS)
        one_of("table_memory", self.table_memory, TABLE_MEMORIES)
        if self.slots is not None:
            at_least("slots", self.slots, 1)
        for name in ("max_attempts", "cpus_per_run", "minutes"):
            at_least(name, getattr(self, name), 1)
        at_least("gpus_per_run", self.gpus_per_run, 0)
        positive("checkpoint_seconds", self.checkpoint_seconds)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What is measured after training."""

    tasks: tuple[str, ...] | None = None
    """Names of tasks; None: every task the data offers. Empty: none."""
    validations: int = 4
    """Validations during a run, the one at its end included."""

    def __post_init__(self) -> None:
        at_least("validations", self.validations, 1)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a launch may cost by its forecast; above it, it is refused. None: no limit."""

    gpu_hours: float | None = None
    """Hours of all GPUs together; of all slots where there are none."""
    disk_gb: float | None = None
    """Of checkpoints, in units of 1e9 bytes."""

    def __post_init__(self) -> None:
        for name in ("gpu_hours", "disk_gb"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One YAML file of `sweeps/`, composed and checked."""

    name: str
    question: str
    caveats: tuple[str, ...] = ()
    """What a reader of the report must know and its numbers cannot tell."""
    scale: Scale
    families: tuple[Family, ...]
    """In YAML a mapping from each family's name to its keys."""
    grid: tuple[Block, ...] = ()
    """Empty: every family at every budget and seed."""
    matching: Matching
    data: Data
    recipe: Recipe
    launcher: Launcher
    evaluate: Evaluate
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        require(bool(self.question.strip()), "question is empty; a sweep answers one")
        require(len(self.families) > 0, "families is empty; name at least one")
        require(
            self.recipe.tune_seed not in self.scale.seeds,
            f"recipe.tune_seed {self.recipe.tune_seed} is also in scale.seeds: tuning must not see the compared runs",
        )
        # A family can be left out (`families.moe=null`) although other lists name it; a misspelt name cannot pass.
        names = [*dict.fromkeys([*(family.name for family in self.families), *FAMILIES])]
        named = [("grid", name) for block in self.grid for name in block.families]
        named += [("matching.free", free.name) for free in self.matching.free]
        named += [("matching.throughput", one.name) for one in self.matching.throughput]
        named += [("recipe.learning_rate.multipliers", one.name) for one in self.recipe.learning_rate.multipliers]
        for where, name in named:
            require(
                name in names,
                f"{where} names the family '{name}'; there are: {', '.join(names)}.{nearest(name, names)}",
            )
