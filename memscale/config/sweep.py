"""A sweep: the question, the budgets, what is held equal, what may move, and how it is run.

These are the words of the YAML files. The planner turns them into runs (`memscale.config.run`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from memscale.config.checks import at_least, between, one_of, positive, require
from memscale.config.data import Data
from memscale.config.optimizer import Schedule

SCALES = ("laptop", "node", "paper")
LAUNCHERS = ("auto", "local", "slurm")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One compute budget and the dense model that anchors it; the other families are matched to that model."""

    flops: float
    """Training FLOPs of a run (3 x forward x tokens)."""
    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int | None = None
    """None: as many as heads."""
    ffn_hidden: int | None = None
    """Hidden width of the dense model; None: 8/3 d_model rounded up to `Scale.ffn_multiple_of`."""

    def __post_init__(self) -> None:
        positive("flops", self.flops)
        for name in ("d_model", "num_layers", "num_heads"):
            at_least(name, getattr(self, name), 1)
        require(
            self.d_model % (2 * self.num_heads) == 0,
            f"d_model {self.d_model} does not divide into {self.num_heads} heads of even width",
        )
        if self.num_kv_heads is not None:
            at_least("num_kv_heads", self.num_kv_heads, 1)
            require(
                self.num_heads % self.num_kv_heads == 0,
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})",
            )
        if self.ffn_hidden is not None:
            at_least("ffn_hidden", self.ffn_hidden, 1)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Budgets and shapes for one size of machine."""

    name: str
    budgets: tuple[Budget, ...]
    seeds: tuple[int, ...]
    """Seeds of the compared runs; tuning uses a seed of its own."""
    sequence_length: int
    batch_tokens: int
    """Tokens per optimizer step, whatever the hardware."""
    ffn_multiple_of: int = 1

    def __post_init__(self) -> None:
        one_of("name", self.name, SCALES)
        require(len(self.budgets) > 0, "budgets is empty; name at least one")
        require(len(self.seeds) > 0, "seeds is empty; name at least one")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds {list(self.seeds)} names a seed twice")
        for seed in self.seeds:
            at_least("seeds", seed, 0)
        at_least("sequence_length", self.sequence_length, 8)
        at_least("ffn_multiple_of", self.ffn_multiple_of, 1)
        require(
            self.batch_tokens >= self.sequence_length and self.batch_tokens % self.sequence_length == 0,
            f"batch_tokens ({self.batch_tokens}) is not a multiple of sequence_length ({self.sequence_length})",
        )
        flops = [budget.flops for budget in self.budgets]
        require(len(set(flops)) == len(flops), f"budgets names the FLOPs {sorted(flops)} twice")


@dataclass(frozen=True, kw_only=True)
class Tune:
    """The learning rates tried for a family at the smallest budget; the best validation loss decides."""

    learning_rates: tuple[float, ...]
    table_factors: tuple[float, ...] = (1.0,)
    """Rate of the tables, as multiples of the learning rate (families with a table only)."""

    def __post_init__(self) -> None:
        for name in ("learning_rates", "table_factors"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} is empty; name at least one")
            require(len(set(values)) == len(values), f"{name} {list(values)} names a value twice")
            for value in values:
                positive(name, value)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A way to spend parameters, before the planner has solved its widths; `family` chooses the class below."""

    family: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class DenseFamily(Family):
    """The base itself: a SwiGLU in every layer."""

    family: ClassVar[str] = "dense"


@dataclass(frozen=True, kw_only=True)
class MoEFamily(Family):
    """Experts in every layer; their number and width are solved."""

    family: ClassVar[str] = "moe"

    experts_per_token: int = 2
    balance_weight: float = 0.01
    z_weight: float = 0.001

    def __post_init__(self) -> None:
        at_least("experts_per_token", self.experts_per_token, 1)
        at_least("balance_weight", self.balance_weight, 0.0)
        at_least("z_weight", self.z_weight, 0.0)


@dataclass(frozen=True, kw_only=True)
class MemoryPlusFamily(Family):
    """Memory layers that share a table; the slots and the width of the remaining dense layers are solved."""

    family: ClassVar[str] = "memory_plus"

    centred: int = 3
    """How many layers read the table, placed around the middle of the stack ..."""
    stride: int = 8
    """... this many layers apart."""
    num_heads: int = 4
    knn: int = 32
    key_width: int | None = None
    """None: half of d_model (rounded down to an even number), as in the paper."""
    value_width: int | None = None
    """None: d_model."""
    gated: bool = True
    qk_norm: bool = True

    def __post_init__(self) -> None:
        for name in ("centred", "stride", "num_heads", "knn"):
            at_least(name, getattr(self, name), 1)
        for name in ("key_width", "value_width"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)


FAMILY_CLASSES: tuple[type[Family], ...] = (DenseFamily, MoEFamily, MemoryPlusFamily)


@dataclass(frozen=True, kw_only=True)
class Matching:
    """What the runs of one budget must share, and how far they may miss it."""

    tolerance: float = 0.01
    """Largest relative mismatch in FLOPs per token, and in total parameters between the sparse families."""
    table_over_dense: float = 8.0
    """Rows of the memory table, in parameters, at least this many times all parameters of the dense model."""

    def __post_init__(self) -> None:
        between("tolerance", self.tolerance, 1e-6, 0.5)
        positive("table_over_dense", self.table_over_dense)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every family is trained; what differs between them is found by tuning, by the same rule for all."""

    name: str
    tune: Tune
    tune_seed: int = 1000
    """Seed of the tuning runs, not used by the compared ones."""
    width_exponent: float = 1.0
    """The tuned rates are scaled by (tuned d_model / d_model) to this power; 0 keeps them at every width."""
    schedule: Schedule = field(default_factory=Schedule)
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    table_weight_decay: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        at_least("tune_seed", self.tune_seed, 0)
        between("width_exponent", self.width_exponent, 0.0, 2.0)


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
class Sweep:
    """One YAML file of `sweeps/`, composed and checked."""

    name: str
    question: str
    caveats: tuple[str, ...] = ()
    """What a reader of the report must know and its numbers cannot tell."""
    scale: Scale
    families: tuple[Family, ...]
    """In YAML a mapping from each family's name to its keys."""
    matching: Matching
    data: Data
    recipe: Recipe
    launcher: Launcher
    evaluate: Evaluate

    def __post_init__(self) -> None:
        require(bool(self.question.strip()), "question is empty; a sweep answers one")
        require(len(self.families) > 0, "families is empty; name at least one")
        require(
            self.recipe.tune_seed not in self.scale.seeds,
            f"recipe.tune_seed {self.recipe.tune_seed} is also in scale.seeds: tuning must not see the compared runs",
        )
