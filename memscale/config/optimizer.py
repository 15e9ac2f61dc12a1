"""How a model is optimised: AdamW with a parameter group for memory tables, and the learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.checks import at_least, between, one_of, positive, require

SCHEDULES = ("wsd", "cosine")
TABLE_OPTIMIZERS = ("lazy_adamw", "lazy_adamw_by_row", "dense_adamw")
TABLE_STORAGES = ("float32", "bfloat16_master", "bfloat16_stochastic")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019). Norm gains and biases have no weight decay, tables `table_weight_decay`."""

    learning_rate: float
    table_learning_rate: float | None = None
    """Peak learning rate of the memory tables; None in models without one."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    """Weight decay of matrices, embeddings included; a step shrinks them by learning rate x weight_decay."""
    table_weight_decay: float = 0.0
    table_optimizer: str = "lazy_adamw"
    """`lazy_adamw`: AdamW at the cost of the rows that a step reads (`memscale.kernels.row_adamw`);
    `lazy_adamw_by_row`: the same with one second moment per row, which is a different optimizer with half the state;
    `dense_adamw`: the reference, AdamW over all rows at every step."""
    table_storage: str = "float32"
    """Number format of tables: `float32`; `bfloat16_master`, bfloat16 for reading beside a float32 master copy for the
    optimizer; `bfloat16_stochastic`, bfloat16 only, with stochastic rounding."""
    clip_norm: float = 1.0
    """Global gradient norm to which larger gradients are scaled down; 0: no clipping."""

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
            f"beta1 is {self.beta1:g} and beta2 is {self.beta2:g}; {self.table_optimizer} needs beta1 <= beta2 (the "
            "pending updates of a row have no stable closed form otherwise); set table_optimizer to dense_adamw",
        )
        require(
            self.table_optimizer != "dense_adamw" or self.table_storage == "float32",
            f"table_storage is {self.table_storage}, but dense_adamw needs float32; set table_storage to float32, or "
            "table_optimizer to lazy_adamw or lazy_adamw_by_row",
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over a run, as a fraction of its peak.

    `wsd` (warm-up, stable, decay): linear warm-up, constant, then linear decay to `final_fraction` over the last
    `decay_fraction` of the steps. `cosine`: linear warm-up, then half a cosine down to `final_fraction`.
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
