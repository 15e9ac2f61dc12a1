"""A sweep: its question, budgets, families, matching, data, recipe and launcher, as a sweep's YAML file gives them.

`memscale.planning.plan.make_plan` turns it into runs (`memscale.config.run`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memscale.config.architecture import FAMILIES
from memscale.config.budget import Scale
from memscale.config.checks import at_least, positive, require
from memscale.config.data import Data
from memscale.config.family import Family
from memscale.config.grid import Block
from memscale.config.launcher import Launcher
from memscale.config.matching import Matching
from memscale.config.recipe import Recipe
from memscale.errors import nearest


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """What is measured during and after training."""

    tasks: tuple[str, ...] | None = None
    """Names of tasks; None: all default tasks of the data; empty: none."""
    validations: int = 4
    """Validations during a run, including the one at its end."""

    def __post_init__(self) -> None:
        at_least("validations", self.validations, 1)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest forecast cost of a launch, above which it is refused. None: no limit."""

    gpu_hours: float | None = None
    """Total GPU hours; where there are no GPUs, total hours of all workers."""
    disk_gb: float | None = None
    """Disk for checkpoints, in units of 1e9 bytes."""

    def __post_init__(self) -> None:
        for name in ("gpu_hours", "disk_gb"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One YAML file of `sweeps/`, composed and validated."""

    name: str
    question: str
    caveats: tuple[str, ...] = ()
    """What a reader of the report must know beyond its numbers."""
    scale: Scale
    families: tuple[Family, ...]
    """In YAML, a mapping from the name of each family to its keys."""
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
        # Other keys may name a family that was removed (`families.moe=null`), but not one that is misspelt.
        names = [*dict.fromkeys([*(family.name for family in self.families), *FAMILIES])]
        named = [("grid", name) for block in self.grid for name in block.families]
        named += [("matching.free", free.name) for free in self.matching.free]
        named += [("matching.throughput", one.name) for one in self.matching.throughput]
        named += [("recipe.learning_rate.multipliers", one.name) for one in self.recipe.learning_rate.multipliers]
        named += [("launcher.resources", name) for one in self.launcher.resources for name in one.families]
        for where, name in named:
            require(
                name in names,
                f"{where} names the family '{name}'; there are: {', '.join(names)}.{nearest(name, names)}",
            )
