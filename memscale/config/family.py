"""Families as a person writes them: what is given, and what is null and left to the matching solver or a default.

In YAML the key of an entry of `families` is its name and its value of `family` chooses the class, so one sweep can have
two entries of the same family.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import Annotated, ClassVar

from memscale.config.checks import ADDED_LATER, require
from memscale.config.layers import (
    Balance,
    BiasRate,
    CapacityFactor,
    ConvolutionWidth,
    CoreRank,
    Expansion,
    Place,
    QueryNorm,
    Routing,
    Scores,
    Skip,
    SlotWeights,
)
from memscale.config.names import FolderName
from memscale.config.ranges import (
    Checked,
    Experts,
    Heads,
    LayerCount,
    LayerIndex,
    LossWeight,
    OneOf,
    Range,
    Selected,
    SharedExperts,
    Slots,
    Width,
)

PLACES = ("all", "middle")
Places = Annotated[str, OneOf(PLACES)] | tuple[LayerIndex, ...] | None


@dataclass(frozen=True, kw_only=True)
class Family(Checked):
    """A way to spend parameters, before the planner has solved its free widths."""

    family: ClassVar[str]
    free_by_default: ClassVar[tuple[str, ...]] = ()
    """Widths that the solver chooses where they are null, the outer one first."""

    name: FolderName
    ffn_hidden: Width | None = None
    """Hidden width of the dense layers; None: solved where it is free, else that of the budget's dense model."""


@dataclass(frozen=True, kw_only=True)
class DenseFamily(Family):
    """The dense model itself: a SwiGLU in every layer."""

    family: ClassVar[str] = "dense"


@dataclass(frozen=True, kw_only=True)
class _PlacedFamily(Family):
    """A family that replaces the feed-forward layer of some blocks."""

    layers: Places = None
    """Which layers: `all`, `middle`, or 0-based indices; null: `centred` layers, `stride` apart."""
    centred: LayerCount | None = None
    """Number of layers, placed around the middle of the stack; used where `layers` is null."""
    stride: LayerCount | None = None
    """Distance from one to the next; null: the depth divided by `centred`, rounded up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is None:
            require(self.centred is not None, "layers and centred are both null; one of them must say which layers")


@dataclass(frozen=True, kw_only=True)
class MoEFamily(_PlacedFamily):
    """A mixture of experts.

    Fine-grained experts of granularity G (Krajewski et al. 2024) are G times as many experts per token, each 1 / G as
    wide.
    """

    family: ClassVar[str] = "moe"
    free_by_default: ClassVar[tuple[str, ...]] = ("num_experts", "expert_hidden")

    layers: Places = "all"
    num_experts: Experts | None = None
    expert_hidden: Width | None = None
    """Hidden width of one expert; None: solved where it is free, else that of the budget's dense model."""
    experts_per_token: Experts = 2
    shared_experts: SharedExperts = 0
    routing: Routing = "token_choice"
    scores: Scores = "softmax"
    renormalise: bool | None = None
    """None: true where each token is sent to two experts or more (`token_choice`)."""
    capacity_factor: CapacityFactor = 1.0
    balance: Balance | None = None
    """None: `loss`; with `expert_choice`: `none`."""
    balance_weight: LossWeight = 0.01
    bias_rate: BiasRate = 0.001
    z_weight: LossWeight = 0.001


@dataclass(frozen=True, kw_only=True)
class ProductKeyFamily(_PlacedFamily):
    """The settings of all families with product keys."""

    free_by_default: ClassVar[tuple[str, ...]] = ("num_slots", "ffn_hidden")

    num_slots: Slots | None = None
    """Slots of a table, a square number; None: solved."""
    num_heads: Heads = 4
    knn: Selected = 32
    key_width: Annotated[int, Range(2, 2**20, "a key is two halves")] | None = None
    """None: half of d_model, rounded down to an even number."""
    qk_norm: bool = False
    query_norm: QueryNorm = "none"
    core_rank: CoreRank | None = field(default=None, metadata=ADDED_LATER)
    """Rank of Tucker-decomposed scores (Huang et al. 2024, TDQKR); None: scores of product keys."""
    core_penalty: LossWeight | None = field(default=None, metadata=ADDED_LATER)
    """Weight of the loss that keeps the core of rank `core_rank` near rank 1; None: 0.001 where there is a core."""
    query_conv: ConvolutionWidth | None = field(default=None, metadata=ADDED_LATER)
    """Width of a depthwise causal convolution over the inputs of the queries (Huang et al. 2024); None: none."""
    weights: SlotWeights = field(default="softmax", metadata=ADDED_LATER)
    """Weights of a head's selected slots: the `softmax` of their scores, `relu` of the scores, or `none`: the scores
    themselves."""
    place: Place = field(default="replace", metadata=ADDED_LATER)
    """`replace`: in place of a block's feed-forward layer; `beside`: added to it."""
    skip: Skip | None = field(default=None, metadata=ADDED_LATER)
    """`beside` only: how many blocks later the output is added (Huang et al. 2024); None: at the end of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_slots is not None:
            root = isqrt(self.num_slots)
            require(
                root * root == self.num_slots,
                f"num_slots is {self.num_slots}, but product keys span a square number of slots; the nearest are "
                f"{root**2} and {(root + 1) ** 2}",
            )


@dataclass(frozen=True, kw_only=True)
class MemoryTableFamily(ProductKeyFamily):
    """The settings of all families whose layers read rows of values: all but PEER."""

    projection: bool = field(default=False, metadata=ADDED_LATER)
    """Without a gate: a matrix [value_width, d_model] after the weighted sum, so that rows may be narrower than the
    model (Huang et al. 2024)."""
    expansion: Expansion | None = field(default=None, metadata=ADDED_LATER)
    """Implicit value expansion (Huang et al. 2024): a square number of virtual tables, each with a projection of its
    own; `num_slots` counts the rows that there are. None: the table alone."""


@dataclass(frozen=True, kw_only=True)
class PKMFamily(MemoryTableFamily):
    """Product-key memory (Lample et al. 2019): a table in each memory layer, batch-normalised queries."""

    family: ClassVar[str] = "pkm"

    layers: Places = "middle"
    query_norm: QueryNorm = "batch"
    value_width: Width | None = field(default=None, metadata=ADDED_LATER)
    """None: d_model. Other widths need `projection`."""


@dataclass(frozen=True, kw_only=True)
class MemoryFamily(MemoryTableFamily):
    """The vanilla memory layer (Berges et al. 2024): one in the middle of the stack, without a gate."""

    family: ClassVar[str] = "memory"

    layers: Places = "middle"
    value_width: Width | None = field(default=None, metadata=ADDED_LATER)
    """None: d_model. Other widths need `projection`."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlusFamily(MemoryTableFamily):
    """Memory+ layers (Berges et al. 2024): they share one table and have a gated output."""

    family: ClassVar[str] = "memory_plus"

    centred: LayerCount | None = 3
    value_width: Width | None = None
    """None: d_model."""
    gated: bool = True
    qk_norm: bool = True


@dataclass(frozen=True, kw_only=True)
class PeerFamily(ProductKeyFamily):
    """PEER (He 2024): many experts of a single hidden unit each, chosen by product keys."""

    family: ClassVar[str] = "peer"

    layers: Places = "middle"
    query_norm: QueryNorm = "batch"


FAMILY_CLASSES: tuple[type[Family], ...] = (
    DenseFamily,
    MoEFamily,
    PKMFamily,
    MemoryFamily,
    MemoryPlusFamily,
    PeerFamily,
)
