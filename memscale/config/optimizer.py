"""How a model is optimised: AdamW with a group of its own for tables, and the shape of the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.checks import at_least, between, one_of, positive, require

SCHEDULES = ("wsd", "cosine")
TABLE_OPTIMIZERS = ("lazy_adamw", "lazy_adamw_by_row", "dense_adamw")
TABLE_STORAGES = ("float32", "bfloat16_master", "bfloat16_stochastic")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019). Norm gains, biases and tables are not decayed unless said."""

    learning_rate: float
    table_learning_rate: float | None = None
    """Peak rate of the memory table's rows; None in models without a table."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    """Decay of matrices (embeddings included), per step: lr * weight_decay."""
    table_weight_decay: float = 0.0
    table_optimizer: str = "lazy_adamw"
    """`lazy_adamw`: AdamW at the cost of the rows read (`memscale.kernels.row_adamw`); `lazy_adamw_by_row`: the same
    with one second moment a row, which is another optimizer with half of the moments; `dense_adamw`: AdamW over every
    slot at every step, the reference."""
    table_storage: str = "float32"
    """What a table's values are kept in; `bfloat16_master`: read as bfloat16 beside a float32 copy that the optimizer
    moves; `bfloat16_stochastic`: bfloat16 alone, rounded stochastically."""
    clip_norm: float = 1.0
    """Global gradient norm above which the gradient is scaled down, once a step; 0 turns it off."""

    def __post_init__(self) -> None:
        positive("learning_rate", self.learning_rate)
        if self.table_learning_rate is not None:
            positive("table_learning_rate", self.table_learning_rate)
        between("beta1", self.beta1, 0.0, 0.9999)
        between("beta2", self.beta2, 0.0, 0.99999)
        positive("eps", self.eps)
        for name in ("weight_decay", "table_weight_decay", "clip_norm"):
            at_least(name, getattr(self, name), 0.0)
        one_of("table_optimizer", self.table_optimizer, TABLE_OPTIMIZERS)
        one_of("table_storage", self.table_storage, TABLE_STORAGES)
        require(
            self.table_optimizer == "dense_adamw" or self.table_learning_rate is None or self.beta1 <= self.beta2,
            f"beta1 is {self.beta1:g} and beta2 is {self.beta2:g}; {self.table_optimizer} needs beta1 <= beta2 (what a "
            "row without a gradient owes has no good closed form otherwise); set table_optimizer to dense_adamw",
        )
        require(
            self.table_optimizer != "dense_adamw" or self.table_storage == "float32",
            f"table_storage is {self.table_storage}; dense_adamw keeps tables in float32, and a lazy one in bfloat16",
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over a run, as a factor of its peak.

    `wsd`: linear warm-up, constant, then linear decay over the last `decay_fraction` of the steps;
    `cosine`: linear warm-up, then half a cosine down to `final_fraction`.
    """

    kind: str = "wsd"
    warmup_fraction: float = 0.05
    decay_fraction: float = 0.4
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        one_of("kind", self.kind, SCHEDULES)
        between("warmup_fraction", self.warmup_fraction, 0.0, 1.0)
        between("decay_fraction", self.decay_fraction, 0.0, 1.0)
        between("final_fraction", self.final_fraction, 0.0, 1.0)
        between("warmup_fraction + decay_fraction", self.warmup_fraction + self.decay_fraction, 0.0, 1.0)
