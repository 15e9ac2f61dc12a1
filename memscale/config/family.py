"""Families as a person writes them: what is given, and what is null and left to the matching solver or a default.

In YAML the key of an entry of `families` is its name and its value of `family` chooses the class, so one sweep can have
two entries of the same family.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

from memscale.config.checks import at_least, one_of, positive, require
from memscale.config.layers import BALANCES, QUERY_NORMS, ROUTINGS, SCORES

PLACES = ("all", "middle")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A way to spend parameters, before the planner has solved its free widths."""

    family: ClassVar[str]
    free_by_default: ClassVar[tuple[str, ...]] = ()
    """Widths that the solver chooses where they are null, the outer one first."""

    name: str
    ffn_hidden: int | None = None
    """Hidden width of the dense layers; None: solved where it is free, else that of the budget's dense model."""

    def __post_init__(self) -> None:
        if self.ffn_hidden is not None:
            at_least("ffn_hidden", self.ffn_hidden, 1)


@dataclass(frozen=True, kw_only=True)
class DenseFamily(Family):
    """The dense model itself: a SwiGLU in every layer."""

    family: ClassVar[str] = "dense"


@dataclass(frozen=True, kw_only=True)
class _PlacedFamily(Family):
    """A family that replaces the feed-forward layer of some blocks."""

    layers: str | tuple[int, ...] | None = None
    """Which layers: `all`, `middle`, or 0-based indices; null: `centred` layers, `stride` apart."""
    centred: int | None = None
    """Number of layers, placed around the middle of the stack; used where `layers` is null."""
    stride: int | None = None
    """Distance from one to the next; null: the depth divided by `centred`, rounded up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layers, str):
            one_of("layers", self.layers, PLACES)
        elif self.layers is None:
            require(self.centred is not None, "layers and centred are both null; one of them must say which layers")
        for name in ("centred", "stride"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class MoEFamily(_PlacedFamily):
    """A mixture of experts.

    Fine-grained experts of granularity G (Krajewski et al. 2024) are G times as many experts per token, each 1 / G as
    wide.
    """

    family: ClassVar[str] = "moe"
    free_by_default: ClassVar[tuple[str, ...]] = ("num_experts", "expert_hidden")

    layers: str | tuple[int, ...] | None = "all"
    num_experts: int | None = None
    expert_hidden: int | None = None
    """Hidden width of one expert; None: solved where it is free, else that of the budget's dense model."""
    experts_per_token: int = 2
    shared_experts: int = 0
    routing: str = "token_choice"
    scores: str = "softmax"
    renormalise: bool | None = None
    """None: true where each token is sent to two experts or more (`token_choice`)."""
    capacity_factor: float = 1.0
    balance: str | None = None
    """None: `loss`; with `expert_choice`: `none`."""
    balance_weight: float = 0.01
    bias_rate: float = 0.001
    z_weight: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("experts_per_token", self.experts_per_token, 1)
        for name in ("num_experts", "expert_hidden"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        for name in ("shared_experts", "balance_weight", "z_weight"):
            at_least(name, getattr(self, name), 0)
        one_of("routing", self.routing, ROUTINGS)
        one_of("scores", self.scores, SCORES)
        if self.balance is not None:
            one_of("balance", self.balance, BALANCES)
        positive("capacity_factor", self.capacity_factor)
        positive("bias_rate", self.bias_rate)


@dataclass(frozen=True, kw_only=True)
class ProductKeyFamily(_PlacedFamily):
    """The settings of all families with product keys."""

    free_by_default: ClassVar[tuple[str, ...]] = ("num_slots", "ffn_hidden")

    num_slots: int | None = None
    """Slots of a table, a square number; None: solved."""
    num_heads: int = 4
    knn: int = 32
    key_width: int | None = None
    """None: half of d_model, rounded down to an even number."""
    qk_norm: bool = False
    query_norm: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_heads", "knn"):
            at_least(name, getattr(self, name), 1)
        if self.key_width is not None:
            at_least("key_width", self.key_width, 2)
        one_of("query_norm", self.query_norm, QUERY_NORMS)
        if self.num_slots is not None:
            at_least("num_slots", self.num_slots, 1)
            root = isqrt(self.num_slots)
            require(
                root * root == self.num_slots,
                f"num_slots is {self.num_slots}, but product keys span a square number of slots; the nearest are "
                f"{root**2} and {(root + 1) ** 2}",
            )


@dataclass(frozen=True, kw_only=True)
class PKMFamily(ProductKeyFamily):
    """Product-key memory (Lample et al. 2019): a table in each memory layer, batch-normalised queries."""

    family: ClassVar[str] = "pkm"

    layers: str | tuple[int, ...] | None = "middle"
    query_norm: str = "batch"


@dataclass(frozen=True, kw_only=True)
class MemoryFamily(ProductKeyFamily):
    """The vanilla memory layer (Berges et al. 2024): one in the middle of the stack, without a gate."""

    family: ClassVar[str] = "memory"

    layers: str | tuple[int, ...] | None = "middle"


@dataclass(frozen=True, kw_only=True)
class MemoryPlusFamily(ProductKeyFamily):
    """Memory+ layers (Berges et al. 2024): they share one table and have a gated output."""

    family: ClassVar[str] = "memory_plus"

    centred: int | None = 3
    value_width: int | None = None
    """None: d_model."""
    gated: bool = True
    qk_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_width is not None:
            at_least("value_width", self.value_width, 1)


@dataclass(frozen=True, kw_only=True)
class PeerFamily(ProductKeyFamily):
    """PEER (He 2024): many experts of a single hidden unit each, chosen by product keys."""

    family: ClassVar[str] = "peer"

    layers: str | tuple[int, ...] | None = "middle"
    query_norm: str = "batch"


FAMILY_CLASSES: tuple[type[Family], ...] = (
    DenseFamily,
    MoEFamily,
    PKMFamily,
    MemoryFamily,
    MemoryPlusFamily,
    PeerFamily,
)
