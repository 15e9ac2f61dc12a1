"""How every family is trained: the same schedule and optimizer; the rates are tuned, or follow a named rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from memscale.config.checks import at_least, between, positive, require
from memscale.config.optimizer import Schedule

TUNED = "tuned"
FIXED = "fixed"


@dataclass(frozen=True, kw_only=True)
class Tune:
    """The learning rates tried for a family at the smallest budget; the best validation loss decides."""

    learning_rates: tuple[float, ...] = ()
    table_factors: tuple[float, ...] = (1.0,)
    """Rate of the tables, as multiples of the learning rate (families with a table only)."""

    def __post_init__(self) -> None:
        for name in ("learning_rates", "table_factors"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"{name} {list(values)} names a value twice")
            for value in values:
                positive(name, value)
        require(len(self.table_factors) > 0, "table_factors is empty; name at least one")


@dataclass(frozen=True, kw_only=True)
class Multiplier:
    """A factor for one family; in YAML `family: number`."""

    name: str
    value: float

    def __post_init__(self) -> None:
        positive(self.name, self.value)


@dataclass(frozen=True, kw_only=True)
class RateRule:
    """Where learning rates come from (`memscale.planning.rules` names the rules)."""

    rule: str = TUNED
    """`tuned`: by a stage of its own; `fixed`: `value`; or a named rule."""
    value: float | None = None
    """`fixed` only: the peak rate."""
    multiplier: float = 1.0
    multipliers: tuple[Multiplier, ...] = ()
    """Factors of single families, on top."""
    table_factor: float = 1.0
    """Rate of the tables over the learning rate; not used where it is tuned."""
    allow_outside: bool = False
    """Use a rule outside the range it was fitted on; the plan then says so."""

    def __post_init__(self) -> None:
        require(
            (self.value is not None) == (self.rule == FIXED),
            f"rule is '{self.rule}' and value is {self.value}; value belongs to the rule 'fixed', which needs it",
        )
        if self.value is not None:
            positive("value", self.value)
        positive("multiplier", self.multiplier)
        positive("table_factor", self.table_factor)
        require(
            self.rule != TUNED or (self.multiplier == 1.0 and not self.multipliers),
            "multiplier and multipliers change what a rule gives; with the rule 'tuned', change tune.learning_rates",
        )


@dataclass(frozen=True, kw_only=True)
class BatchRule:
    """Where the batch comes from: `fixed` is `scale.batch_tokens`; or a named rule, rounded to whole sequences."""

    rule: str = FIXED
    multiplier: float = 1.0
    allow_outside: bool = False

    def __post_init__(self) -> None:
        positive("multiplier", self.multiplier)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every family is trained; what differs between them is found by tuning, by the same rule for all."""

    name: str
    tune: Tune = field(default_factory=Tune)
    tune_seed: int = 1000
    """Seed of the tuning runs, not used by the compared ones."""
    learning_rate: RateRule = field(default_factory=RateRule)
    batch: BatchRule = field(default_factory=BatchRule)
    width_exponent: float = 1.0
    """Tuned rates are scaled by (tuned d_model / d_model) to this power; 0 keeps them at every width."""
    schedule: Schedule = field(default_factory=Schedule)
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    table_weight_decay: float = 0.0
    table_optimizer: str = "lazy_adamw"
    """As in `memscale.config.optimizer`, like all around it."""
    table_storage: str = "float32"
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        at_least("tune_seed", self.tune_seed, 0)
        between("width_exponent", self.width_exponent, 0.0, 2.0)
        require(
            self.learning_rate.rule != TUNED or len(self.tune.learning_rates) > 0,
            "tune.learning_rates is empty, but learning_rate.rule is 'tuned'; name the rates to try",
        )
