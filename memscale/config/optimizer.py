"""How a model is initialised and optimised: AdamW or Muon, a group for memory tables, the learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from memscale.config.checks import added_later, between, require
from memscale.config.ranges import Checked, Count, Decay, OneOf, Range, Rate, Share

SCHEDULES = ("wsd", "cosine")
MATRIX_OPTIMIZERS = ("adamw", "muon")
CLIPPINGS = ("together", "apart")
INITS = ("scaled", "published")
TABLE_OPTIMIZERS = ("lazy_adamw", "lazy_adamw_by_row", "dense_adamw")
TABLE_STORAGES = ("float32", "bfloat16_master", "bfloat16_stochastic")

Beta1 = Annotated[float, Range(0, 0.9999, "beyond, the mean spans more steps than a run has")]
Beta2 = Annotated[float, Range(0, 0.99999, "beyond, the mean spans more steps than a run has")]
Epsilon = Annotated[float, Range(0, 1, "it keeps a division finite, and no more", above_low=True)]
ClipNorm = Annotated[float, Range(0, 1e9, "a larger norm is no limit; 0 is none either")]
MatrixOptimizer = Annotated[str, OneOf(MATRIX_OPTIMIZERS)]
Clipping = Annotated[str, OneOf(CLIPPINGS)]
Init = Annotated[str, OneOf(INITS)]
TableOptimizer = Annotated[str, OneOf(TABLE_OPTIMIZERS)]
TableStorage = Annotated[str, OneOf(TABLE_STORAGES)]


@dataclass(frozen=True, kw_only=True)
class Optimizer(Checked):
    """AdamW (Loshchilov and Hutter 2019). Norm gains and biases have no weight decay, tables `table_weight_decay`.

    With Muon the matrices of the blocks are optimised by it, and all else as without (`memscale.training.muon`).
    """

    learning_rate: Rate
    table_learning_rate: Rate | None = None
    """Peak learning rate of the memory tables; None in models without one."""
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.95
    eps: Epsilon = 1e-8
    weight_decay: Decay = 0.1
    """Weight decay of matrices, embeddings included; a step shrinks them by learning rate x weight_decay."""
    table_weight_decay: Decay = 0.0
    table_optimizer: TableOptimizer = "lazy_adamw"
    """`lazy_adamw`: AdamW at the cost of the rows that a step reads (`memscale.kernels.row_adamw`);
    `lazy_adamw_by_row`: the same with one second moment per row, which is a different optimizer with half the state;
    `dense_adamw`: the reference, AdamW over all rows at every step."""
    table_storage: TableStorage = "float32"
    """Number format of tables: `float32`; `bfloat16_master`, bfloat16 for reading beside a float32 master copy for the
    optimizer; `bfloat16_stochastic`, bfloat16 only, with stochastic rounding."""
    clip_norm: ClipNorm = 1.0
    """Global gradient norm to which larger gradients are scaled down; 0: no clipping."""
    matrix_optimizer: MatrixOptimizer = field(default="adamw", metadata=added_later("adamw"))
    """Of the matrices of attention, feed-forward layers, experts, queries and memory outputs: `adamw` like the rest, or
    `muon`, whose steps have AdamW's root mean square, so that one learning rate and one decay serve both."""
    clipping: Clipping = field(default="together", metadata=added_later("together"))
    """`together`: one norm over all gradients; `apart`: the tables' gradients and the others', each to `clip_norm`."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
class Schedule(Checked):
    """The learning rate over a run, as a fraction of its peak.

    `wsd` (warm-up, stable, decay): linear warm-up, constant, then linear decay to `final_fraction` over the last
    `decay_fraction` of the steps. `cosine`: linear warm-up, then half a cosine down to `final_fraction`.
    """

    kind: Annotated[str, OneOf(SCHEDULES)] = "wsd"
    warmup_fraction: Share = 0.05
    decay_fraction: Share = 0.4
    final_fraction: Share = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("warmup_fraction + decay_fraction", self.warmup_fraction + self.decay_fraction, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Average(Checked):
    """The final weights are the mean of the weights at evenly spaced steps of the last part of training.

    A uniform mean of the tail (Rakhlin et al. 2012; of networks Izmailov et al. 2018; of recent checkpoints Kaddour
    2022). Its window is a share of the run, so runs of different lengths are treated alike; the decay of an exponential
    mean would have to follow the number of steps to do the same.
    """

    fraction: Annotated[float, Range(0, 1, "it is a share", above_low=True)]
    """Share of the steps, at the end, over which weights are averaged."""
    every: Count = 1
    """Steps between the weights that enter the mean, counted back from the last one. Each reads every weight once, and
    brings all rows of memory tables up to date."""
