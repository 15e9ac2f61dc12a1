"""How every family is trained: one schedule and optimizer for all; learning rates are tuned or follow a named rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from memscale.config.checks import at_least, between, positive, require
from memscale.config.optimizer import Schedule

TUNED = "tuned"
FIXED = "fixed"


@dataclass(frozen=True, kw_only=True)
class Tune:
    """The learning rates tried for each family at the smallest budget; the lowest validation loss wins."""

    learning_rates: tuple[float, ...] = ()
    table_factors: tuple[float, ...] = (1.0,)
    """Learning rates of memory tables to try, as multiples of the model's (families with a table only)."""

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
    """Where learning rates come from; the named rules are in `memscale.planning.rules`."""

    rule: str = TUNED
    """`tuned` (in a stage before the comparison), `fixed` (`value`), or a named rule."""
    value: float | None = None
    """`fixed` only: the peak learning rate."""
    multiplier: float = 1.0
    """Factor on what the rule gives."""
    multipliers: tuple[Multiplier, ...] = ()
    """Further factors for single families."""
    table_factor: float = 1.0
    """Learning rate of the tables divided by the model's; not used with `tuned`."""
    allow_outside: bool = False
    """Whether a rule may be used outside the range it was fitted on; the plan then has a note."""

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
    """Where the batch size comes from: `fixed` (`scale.batch_tokens`), or a named rule rounded to whole sequences."""

    rule: str = FIXED
    multiplier: float = 1.0
    allow_outside: bool = False

    def __post_init__(self) -> None:
        positive("multiplier", self.multiplier)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every family is trained; only tuned learning rates differ, and one rule chooses them for all."""

    name: str
    tune: Tune = field(default_factory=Tune)
    tune_seed: int = 1000
    """Seed of the tuning runs; the compared runs must not use it."""
    learning_rate: RateRule = field(default_factory=RateRule)
    batch: BatchRule = field(default_factory=BatchRule)
    width_exponent: float = 1.0
    """Tuned rates are multiplied by (tuned d_model / d_model)^width_exponent; 0: the same rate at every width."""
    schedule: Schedule = field(default_factory=Schedule)
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    table_weight_decay: float = 0.0
    table_optimizer: str = "lazy_adamw"
    """As in `memscale.config.optimizer.Optimizer`, like the fields around it."""
    table_storage: str = "float32"
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        at_least("tune_seed", self.tune_seed, 0)
        between("width_exponent", self.width_exponent, 0.0, 2.0)
        require(
            self.learning_rate.rule != TUNED or len(self.tune.learning_rates) > 0,
            "tune.learning_rates is empty, but learning_rate.rule is 'tuned'; name the rates to try",
        )
