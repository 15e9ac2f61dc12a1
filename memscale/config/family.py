"""Families as a person writes them: what is given, and what is null and left to the matching solver or a default.

In YAML the key of an entry of `families` is its name and its value of `family` chooses the class, so one sweep can have
two entries of the same family.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import Annotated, ClassVar

from memscale.config.checks import ADDED_LATER, added_later, require
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
from memscale.config.loop import Injection
from memscale.config.names import FolderName
from memscale.config.ranges import (
    Checked,
    EndLayers,
    Experts,
    Heads,
    LayerCount,
    LayerIndex,
    LossWeight,
    OneOf,
    Range,
    Recurrences,
    Seed,
    Selected,
    SharedExperts,
    Slots,
    Width,
)
from memscale.config.token_layers import ConvWidth, Order, TableSizes, TokenUse

PLACES = ("all", "middle", "early_and_middle")
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
class PlacedFamily(Family):
    """A family with a sparse part in some blocks."""

    layers: Places = None
    """Which layers: `all`, `middle`, `early_and_middle` (the second, and the one before the middle), or 0-based
    indices; null: `centred` layers, `stride` apart."""
    centred: LayerCount | None = None
    """Number of layers, placed around the middle of the stack; used where `layers` is null."""
    stride: LayerCount | None = None
    """Distance from one to the next; null: the depth divided by `centred`, rounded up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers is None:
            require(self.centred is not None, "layers and centred are both null; one of them must say which layers")


@dataclass(frozen=True, kw_only=True)
class MoEFamily(PlacedFamily):
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
    """With `hash` there is no router: the keys below keep their defaults, and weigh nothing."""
    scores: Scores = "softmax"
    renormalise: bool | None = None
    """None: true where each token is sent to two experts or more (`token_choice`)."""
    capacity_factor: CapacityFactor = 1.0
    balance: Balance | None = None
    """None: `loss`; with `expert_choice` and `hash`: `none`."""
    balance_weight: LossWeight = 0.01
    bias_rate: BiasRate = 0.001
    z_weight: LossWeight = 0.001
    """With `hash`: the default and 0 both mean no loss."""


@dataclass(frozen=True, kw_only=True)
class ProductKeyFamily(PlacedFamily):
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
    weights: SlotWeights = field(default="softmax", metadata=added_later("softmax"))
    """Weights of a head's selected slots: the `softmax` of their scores, `relu` of the scores, or `none`: the scores
    themselves."""
    place: Place = field(default="replace", metadata=added_later("replace"))
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

    projection: bool = field(default=False, metadata=added_later(False))
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


@dataclass(frozen=True, kw_only=True)
class NGramFamily(PlacedFamily):
    """Hashed n-gram memory in front of attention (Engram, Cheng et al. 2026)."""

    family: ClassVar[str] = "ngram"
    free_by_default: ClassVar[tuple[str, ...]] = ("rows_per_head", "ffn_hidden")

    layers: Places = "early_and_middle"
    orders: tuple[Order, ...] = (2, 3)
    num_heads: Heads = 8
    """Hash functions for each order."""
    rows_per_head: Slots | None = None
    """Rows of one head and order, at least; None: solved."""
    row_width: Width | None = None
    """None: a token's rows in one layer are together half as wide as the model, rounded up."""
    sizes: TableSizes = "odd"
    signed_root: bool = True
    conv_width: ConvWidth = 0
    rows_multiple_of: Width = 1
    hash_seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class TokenTableFamily(PlacedFamily):
    """A row for each token in each layer: per-layer embeddings, STEM, value embeddings."""

    family: ClassVar[str] = "token_table"
    free_by_default: ClassVar[tuple[str, ...]] = ("row_width", "ffn_hidden")

    layers: Places = "all"
    use: TokenUse = "gated"
    row_width: Width | None = None
    """None: solved with `gated`; otherwise the width of what the row stands in for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.use == "gated" or self.row_width is None,
            f"row_width is {self.row_width}, but with use '{self.use}' a row is as wide as what it stands in for; "
            "leave it null",
        )


@dataclass(frozen=True, kw_only=True)
class MixtureFamily(Family):
    """Several sparse parts in one model.

    The first part gets `share` of the sparse parameters, those that are stored and that a token does not use; the last
    one the rest. Parts between the two give their own size.
    """

    family: ClassVar[str] = "mixture"

    parts: tuple[Family, ...]
    """In YAML as `families`: name (or name of a family): its keys."""
    share: Annotated[float, Range(0, 1, "it is a share, and both parts are there", above_low=True)] | None = None
    """Share of the sparse parameters in the first part; None: its size is given under `parts`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = [part.family for part in self.parts]
        require(
            len(kinds) > 1 and all(isinstance(part, PlacedFamily) for part in self.parts),
            f"parts are {', '.join(kinds) or 'none'}; a mixture needs two sparse parts or more, and nothing else "
            "(experts, memory layers, n-gram memory, a token table)",
        )
        require(
            self.share != 1, "share is 1, which leaves nothing to the last part; name the first part's family alone"
        )
        for part in self.parts:
            require(
                part.ffn_hidden is None,
                f"parts.{part.name}.ffn_hidden is {part.ffn_hidden}; the dense layers belong to the whole model: give "
                "it beside `parts`",
            )


@dataclass(frozen=True, kw_only=True)
class LoopedFamily(Family):
    """A looped model (Geiping et al. 2025): its middle layers are applied several times with the same weights.

    Layers that are null are chosen so that a token passes through as many as in the budget's dense model; then the
    looped model costs as many FLOPs with fewer parameters, and has no size that the sparse models could share. Where
    all three are given, they decide how many layers a token passes through.
    """

    family: ClassVar[str] = "looped"
    free_by_default: ClassVar[tuple[str, ...]] = ("ffn_hidden",)

    prelude: EndLayers | None = None
    """Layers before the recurrent ones; None: half of the layers at the two ends, rounded up."""
    recurrent: LayerCount | None = None
    """Layers applied in each recurrence; None: as many as leave the fewest layers at the two ends, one at each or more
    where there is room for them."""
    coda: EndLayers | None = None
    """Layers after the recurrent ones; None: the rest."""
    recurrences: Recurrences = 2
    """How often the recurrent layers are applied, in training and in evaluation."""
    injection: Injection = "concatenate"
    """What a recurrence starts with: a learnt projection of the state beside the prelude's output, or with `none` the
    state alone."""
    num_kv_heads: Heads | None = None
    """None: those of the budget's dense model, or where `matching.equal` names kv_cache_bytes, the divisor of its heads
    that comes nearest to its cache."""


FAMILY_CLASSES: tuple[type[Family], ...] = (
    DenseFamily,
    MoEFamily,
    PKMFamily,
    MemoryFamily,
    MemoryPlusFamily,
    PeerFamily,
    NGramFamily,
    TokenTableFamily,
    MixtureFamily,
    LoopedFamily,
)
