"""A sweep: its question, budgets, families, matching, data, recipe and launcher, as a sweep's YAML file gives them.

`memscale.planning.plan.make_plan` turns it into runs (`memscale.config.run`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from memscale.config.architecture import FAMILIES
from memscale.config.budget import Scale
from memscale.config.checks import require
from memscale.config.data import Data
from memscale.config.family import Family
from memscale.config.grid import Block
from memscale.config.launcher import Launcher
from memscale.config.matching import Matching
from memscale.config.names import FolderName, check_sweep_name
from memscale.config.ranges import Checked, OneOf, Prose, Range
from memscale.config.recipe import Recipe
from memscale.errors import nearest

Validations = Annotated[int, Range(1, 100_000, "each reads the held-out text of every source")]
Cost = Annotated[float, Range(0, 1e15, "no machine room has more", above_low=True)]
RunCount = Annotated[int, Range(1, 10_000_000, "a plan is kept in memory, some kB a run")]


SeedCount = Annotated[int, Range(2, 1_000, "more buy almost nothing; one tells nothing of the noise")]
Difference = Annotated[float, Range(0, 1e9, "no measure differs by more", above_low=True)]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Checked):
    """What is measured during and after training."""

    tasks: tuple[FolderName, ...] | None = None
    """Names of tasks; None: all default tasks of the data; empty: none."""
    validations: Validations = 4
    """Validations during a run, including the one at its end."""


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """Largest forecast cost of a launch, above which it is refused. None: no limit."""

    gpu_hours: Cost | None = None
    """Total GPU hours; where there are no GPUs, total hours of all workers."""
    disk_gb: Cost | None = None
    """Disk for checkpoints, in units of 1e9 bytes."""
    runs: RunCount = 100_000
    """Runs of the plan, tuning included; more are refused before they are listed."""
    seeds: SeedCount = 16
    """Most seeds that `resolve` may choose."""


@dataclass(frozen=True, kw_only=True)
class Resolve(Checked):
    """The differences that a sweep is to see with 80 % power; it gets as many seeds as that takes.

    The seeds follow from the tables of noise in `sweeps/noise/`; `scale.seeds` are the least.
    """

    loss_nats: Difference | None = None
    """Of the mixture's loss, in nats per token."""
    recall_points: Difference | None = None
    """Of the recall of dense facts, or of people where there are no dense facts, in percentage points."""
    bits_per_parameter: Difference | None = None
    """Of the bits stored, per non-embedding parameter of the budget's dense model."""
    at: Annotated[str, OneOf(("largest", "mean"))] = "largest"
    """At the largest budget, or in the mean over the budgets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.targets()) > 0, "names no difference; give loss_nats, recall_points or bits_per_parameter")

    def targets(self) -> tuple[tuple[str, float], ...]:
        """Return the keys that are set, and their differences."""
        named = [(key, getattr(self, key)) for key in ("loss_nats", "recall_points", "bits_per_parameter")]
        return tuple((key, value) for key, value in named if value is not None)


@dataclass(frozen=True, kw_only=True)
class Sweep(Checked):
    """One YAML file of `sweeps/`, composed and validated."""

    name: FolderName
    question: Prose
    caveats: tuple[Prose, ...] = ()
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
    resolve: Resolve | None = None
    """null: as many seeds as `scale.seeds` names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sweep_name(self.name)
        require(bool(self.question.strip()), "question is empty; a sweep answers one")
        require(len(self.families) > 0, "families is empty; name at least one")
        seen = sorted({*self.recipe.tune_seeds} & {*self.scale.seeds})
        require(
            not seen,
            f"scale.seeds has {seen}, which are seeds of tuning (recipe.tune_seed {self.recipe.tune_seed} and on): "
            "tuning must not see the compared runs. Change recipe.tune_seed",
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
