"""How every family is trained: one schedule and optimizer for all; learning rates are tuned or follow a named rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from memscale.config.checks import ADDED_LATER, added_later, require
from memscale.config.optimizer import (
    Average,
    Beta1,
    Beta2,
    ClipNorm,
    Clipping,
    Epsilon,
    Init,
    MatrixOptimizer,
    Schedule,
    TableOptimizer,
    TableStorage,
)
from memscale.config.ranges import Checked, Decay, Factor, OneOf, Range, Rate, Seed

CHOICES = ("best", "one_standard_error")
RoundSeeds = Annotated[int, Range(1, 64, "more seeds of a rate than of a compared run")]

TUNED = "tuned"
FIXED = "fixed"


@dataclass(frozen=True, kw_only=True)
class Tune(Checked):
    """The learning rates tried for each family at one budget, in rounds (`memscale.planning.tuning`)."""

    learning_rates: tuple[Rate, ...] = ()
    table_factors: tuple[Factor, ...] = (1.0,)
    """Learning rates of memory tables to try, as multiples of the model's; a family without a table gets as many more
    learning rates, between those that are given."""
    round_seeds: tuple[RoundSeeds, ...] = (1, 2)
    """Seeds of each point in each round. Round 1 trains every point; the mean of the last round decides."""
    keep: Annotated[float, Range(0, 1, "a round trains no more points than the one before", above_low=True)] = 1 / 3
    """Share of a round's points that go on to the next, rounded up; at least two do."""
    extensions: Annotated[int, Range(0, 8, "further away the rates are ones that nobody tries")] = 2
    """Most times that a grid is extended where its best point lies at an edge."""
    budget: str | None = field(default=None, metadata=ADDED_LATER)
    """Name of the budget at which rates are tuned; null: each family's smallest."""
    choice: Annotated[str, OneOf(CHOICES)] = field(default="best", metadata=added_later("best"))
    """`best`: the lowest mean loss of the last round; `one_standard_error`: the lowest rates of those within a standard
    error of it, since a higher rate is nearer to divergence and single runs fall behind (Breiman et al. 1984)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rates", "table_factors"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"{name} {list(values)} names a value twice")
        require(len(self.table_factors) > 0, "table_factors is empty; name at least one")
        require(
            len(self.learning_rates) != 1 or len(self.table_factors) == 1,
            f"learning_rates names one rate and table_factors {len(self.table_factors)}: families without a table "
            "cannot be tuned with as many runs. Name two rates or more, or one factor",
        )
        require(
            len(self.round_seeds) > 0 and (self.num_points <= 1 or self.round_seeds[-1] > 1),
            f"round_seeds is {list(self.round_seeds)}; the last round decides, and one seed does not tell rates apart. "
            "Name two seeds or more for it, such as [1, 2]",
        )

    @property
    def num_points(self) -> int:
        """Points of each family's grid, before any extension."""
        return len(self.learning_rates) * len(self.table_factors)


@dataclass(frozen=True, kw_only=True)
class Multiplier(Checked):
    """A factor for one family; in YAML `family: number`."""

    name: str
    value: Factor


@dataclass(frozen=True, kw_only=True)
class RateRule(Checked):
    """Where learning rates come from; the named rules are in `memscale.planning.rules`."""

    rule: str = TUNED
    """`tuned` (in a stage before the comparison), `fixed` (`value`), or a named rule."""
    value: Rate | None = None
    """`fixed` only: the peak learning rate."""
    multiplier: Factor = 1.0
    """Factor on what the rule gives."""
    multipliers: tuple[Multiplier, ...] = ()
    """Further factors for single families."""
    table_factor: Factor = 1.0
    """Learning rate of the tables divided by the model's; not used with `tuned`."""
    allow_outside: bool = False
    """Whether a rule may be used outside the range it was fitted on; the plan then has a note."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (self.value is not None) == (self.rule == FIXED),
            f"rule is '{self.rule}' and value is {self.value}; value belongs to the rule 'fixed', which needs it",
        )
        require(
            self.rule != TUNED or (self.multiplier == 1.0 and not self.multipliers),
            "multiplier and multipliers change what a rule gives; with the rule 'tuned', change tune.learning_rates",
        )


@dataclass(frozen=True, kw_only=True)
class BatchRule(Checked):
    """Where the batch size comes from: `fixed` (`scale.batch_tokens`), or a named rule rounded to whole sequences."""

    rule: str = FIXED
    multiplier: Factor = 1.0
    allow_outside: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """How every family is trained; only tuned learning rates differ, and one rule chooses them for all."""

    name: str
    tune: Tune = field(default_factory=Tune)
    tune_seed: Seed = 1000
    """Seed of the first tuning runs; later rounds take the seeds that follow. The compared runs must use none of
    them."""
    learning_rate: RateRule = field(default_factory=RateRule)
    batch: BatchRule = field(default_factory=BatchRule)
    width_exponent: Annotated[float, Range(0, 2, "rates fall with the width, at most by its square")] = 1.0
    """Tuned rates are multiplied by (tuned d_model / d_model)^width_exponent; 0: the same rate at every width."""
    schedule: Schedule = field(default_factory=Schedule)
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.95
    eps: Epsilon = 1e-8
    weight_decay: Decay = 0.1
    table_weight_decay: Decay = 0.0
    table_optimizer: TableOptimizer = "lazy_adamw"
    """As in `memscale.config.optimizer.Optimizer`, like the fields around it."""
    table_storage: TableStorage = "float32"
    clip_norm: ClipNorm = 1.0
    average: Average | None = field(default=None, metadata=ADDED_LATER)
    """Averaging of the weights at the end of training; None: the last weights are the result."""
    table_schedule: Schedule | None = field(default=None, metadata=ADDED_LATER)
    """The shape of the tables' learning rate over a run; None: `schedule`, as all else. Their weight decay follows
    their rate."""
    matrix_optimizer: MatrixOptimizer = field(default="adamw", metadata=added_later("adamw"))
    """Of the matrices of attention, feed-forward layers, experts, queries and memory outputs, in every family: `adamw`
    like the rest, or `muon`, at the same rate and decay."""
    clipping: Clipping = field(default="together", metadata=added_later("together"))
    """`together`: one norm over all gradients; `apart`: the tables' gradients and the others', each to `clip_norm`."""
    init: Init = field(default="scaled", metadata=added_later("scaled"))
    """Initial weights: `scaled`, with smaller output matrices the more layers there are; `published`, those of the code
    of "Memory Layers at Scale" (`memscale.models.initialise`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.learning_rate.rule != TUNED or len(self.tune.learning_rates) > 0,
            "tune.learning_rates is empty, but learning_rate.rule is 'tuned'; name the rates to try",
        )

    @property
    def tune_seeds(self) -> tuple[int, ...]:
        """The seeds of all tuning runs, round after round."""
        rounds = self.tune.round_seeds if self.tune.num_points > 1 else self.tune.round_seeds[:1]
        return tuple(range(self.tune_seed, self.tune_seed + sum(rounds)))
