"""The sparse layers that can replace a dense SwiGLU: experts, product-key memory, PEER.

Each is a frozen description that the planner counts and `memscale.models` builds. Refuses what cannot be built: odd key
widths, more selected than exists, options that contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import Annotated

from memscale.config.checks import ADDED_LATER, added_later, require
from memscale.config.ranges import (
    Checked,
    Experts,
    Heads,
    LayerIndex,
    LossWeight,
    OneOf,
    Range,
    Selected,
    SharedExperts,
    Width,
)

ROUTINGS = ("token_choice", "expert_choice", "hash")
SCORES = ("softmax", "sigmoid")
BALANCES = ("loss", "bias", "none")
QUERY_NORMS = ("none", "batch", "layer")
PLACES_IN_BLOCK = ("replace", "beside")
SLOT_WEIGHTS = ("softmax", "relu", "none")

NEEDED_BY_HASH: dict[str, str | float | bool] = {
    "scores": "softmax",
    "renormalise": False,
    "capacity_factor": 1.0,
    "balance": "none",
    "balance_weight": 0.01,
    "bias_rate": 0.001,
    "z_weight": 0.0,
}
"""The values of `MoE` with `routing: hash`: no loss, and elsewhere the defaults, since nothing reads them."""

Routing = Annotated[str, OneOf(ROUTINGS)]
Scores = Annotated[str, OneOf(SCORES)]
Balance = Annotated[str, OneOf(BALANCES)]
QueryNorm = Annotated[str, OneOf(QUERY_NORMS)]
Place = Annotated[str, OneOf(PLACES_IN_BLOCK)]
SlotWeights = Annotated[str, OneOf(SLOT_WEIGHTS)]
CoreRank = Annotated[int, Range(1, 64, "rank 2 is enough in Huang et al. 2024, and keys grow with it")]
ConvolutionWidth = Annotated[int, Range(2, 64, "each token's query sees as many inputs; 1 would be a gain")]
Skip = Annotated[int, Range(1, 4_095, "no stack is deeper")]
Expansion = Annotated[int, Range(4, 1_024, "16 bring little more than 9 in Huang et al. 2024")]
CapacityFactor = Annotated[float, Range(0, 2**20, "no token has more experts", above_low=True)]
BiasRate = Annotated[float, Range(0, 1e3, "scores are between 0 and 1", above_low=True)]


@dataclass(frozen=True, kw_only=True)
class MoE(Checked):
    """SwiGLU experts with a linear router without bias, or with none.

    `token_choice`: each token goes to its top experts, and none is dropped (Shazeer et al. 2017). `expert_choice`: in
    training each expert takes its top tokens of every sequence (Zhou et al. 2022), which is not causal; in evaluation
    each token goes to its top experts, which is. `hash`: each token goes to the experts that a random function of its
    id names, fixed for each layer from the run's seed (Roller et al. 2021, "Hash layers"), with equal weights; there
    is no router, so nothing is scored, renormalised or balanced.
    """

    layers: tuple[LayerIndex, ...]
    """0-based indices of the layers with experts."""
    num_experts: Experts
    """Routed experts, without the shared ones."""
    experts_per_token: Experts
    """Routed experts that a token is sent to; with `expert_choice` in evaluation only. With `hash` they differ, and
    each has weight 1 / experts_per_token."""
    expert_hidden: Width
    """Hidden width of one routed or shared expert (three matrices of d_model x expert_hidden)."""
    shared_experts: SharedExperts = 0
    """Experts that every token passes through, with weight one (Dai et al. 2024)."""
    routing: Routing = "token_choice"
    scores: Scores = "softmax"
    """How router logits become weights: `softmax` over the experts, or `sigmoid` of each."""
    renormalise: bool = True
    """Whether the weights of a token's experts are scaled to sum to one."""
    capacity_factor: CapacityFactor = 1.0
    """`expert_choice` only: average experts per token in training. Each expert takes
    max(1, round(capacity_factor x sequence length / num_experts)) tokens of a sequence."""
    balance: Balance = "loss"
    """`loss`: the load-balancing loss of Switch Transformers (Fedus et al. 2022); `bias`: a bias on the scores that
    select experts, updated against the load after every step (Wang et al. 2024); or `none`."""
    balance_weight: LossWeight = 0.01
    """`loss` only: weight of the load-balancing loss, which is 1 at a uniform load; not part of reported losses."""
    bias_rate: BiasRate = 0.001
    """`bias` only: step size of an expert's bias."""
    z_weight: LossWeight = 0.001
    """Weight of the router z-loss (Zoph et al. 2022); not part of reported losses."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.experts_per_token <= self.num_experts,
            f"experts_per_token is {self.experts_per_token}, but there are only {self.num_experts} experts",
        )
        if self.routing == "expert_choice":
            require(
                self.capacity_factor <= self.num_experts,
                f"capacity_factor is {self.capacity_factor}, but there are only {self.num_experts} experts",
            )
            require(
                self.balance == "none",
                f"balance is '{self.balance}', but expert_choice loads every expert alike; it needs balance 'none'",
            )
        if self.routing == "hash":
            self._check_hash()
        require(
            not self.renormalise or (self.experts_per_token > 1 and self.routing == "token_choice"),
            "renormalise is true, but the weight of a single expert would always be one, and its router would learn "
            "nothing; set it to false, or send each token to two experts or more (token_choice)",
        )

    def _check_hash(self) -> None:
        """Refuse what needs a router. The numbers that another routing or balance would ignore keep their defaults."""
        for name, needed in NEEDED_BY_HASH.items():
            given = getattr(self, name)
            require(
                given == needed,
                f"{name} is {_written(given)}, but hash routing has no router: the token's id names its experts; it "
                f"needs {name} {_written(needed)}, or another routing",
            )

    @property
    def has_router(self) -> bool:
        """Whether the layer scores experts by a matrix of its own: not with `hash`."""
        return self.routing != "hash"

    def capacity(self, sequence_length: int) -> int:
        """Return the tokens of a sequence that each expert takes in training; `expert_choice` only."""
        return min(sequence_length, max(1, round(self.capacity_factor * sequence_length / self.num_experts)))

    def trained_experts_per_token(self, sequence_length: int) -> float:
        """Return the average number of routed experts per token in training."""
        if self.routing != "expert_choice":
            return self.experts_per_token
        return self.capacity(sequence_length) * self.num_experts / sequence_length


def _written(value: str | float | bool) -> str:
    """Return a value as it is written in YAML."""
    return str(value).lower() if isinstance(value, bool) else f"'{value}'" if isinstance(value, str) else f"{value:g}"


@dataclass(frozen=True, kw_only=True)
class _ProductKeys(Checked):
    """Product keys: two sets of `num_keys` half keys address num_keys^2 slots; each head selects `knn` of them."""

    layers: tuple[LayerIndex, ...]
    """0-based indices of the layers with this part."""
    num_keys: Width
    """Half keys per set."""
    num_heads: Heads
    knn: Selected
    """Slots selected per head and token."""
    key_width: Width
    """Width of a full key (two halves); every layer and head has its own keys and queries."""
    qk_norm: bool = False
    """RMS-normalise query and key halves before scoring."""
    query_norm: QueryNorm = "none"
    """Normalisation of the full query: `none`, `layer`, or `batch` (Lample et al. 2019), which in training makes a
    token depend on the others of its batch."""
    core_rank: CoreRank | None = field(default=None, metadata=ADDED_LATER)
    """None: a slot's score is the sum of its half keys' scores. A number r: Tucker-decomposed scores (TDQKR, Huang et
    al. 2024): each half key has r vectors, and a score is the sum over both ranks of core[i, j] x row score i x column
    score j, with a learned core [r, r] for each head."""
    core_penalty: LossWeight | None = field(default=None, metadata=ADDED_LATER)
    """Weight of the loss that keeps the core near rank 1, by which slots are found; None: 0.001 where there is a core.
    It is the mean over heads and minor singular values of max(0, value - 0.15)^2; not part of reported losses."""
    query_conv: ConvolutionWidth | None = field(default=None, metadata=ADDED_LATER)
    """Width of a depthwise causal convolution over the inputs of the queries (Huang et al. 2024); None: none."""
    weights: SlotWeights = field(default="softmax", metadata=added_later("softmax"))
    """Weights of a head's selected slots: the `softmax` of their scores; `relu` of the scores; or `none`, the scores
    themselves, which may be negative (Huang et al. 2024)."""
    place: Place = field(default="replace", metadata=added_later("replace"))
    """`replace`: in place of the block's feed-forward layer. `beside`: the block keeps its dense one (in a mixture what
    stands there), and both read the same normalised input and are added to the residual stream (Huang et al. 2024)."""
    skip: Skip | None = field(default=None, metadata=ADDED_LATER)
    """`beside` only: how many blocks later the output is added to the residual stream; None: at the end of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.skip is None or self.place == "beside",
            f"skip is {self.skip}, but place is '{self.place}': the block would have no feed-forward layer; set place "
            "to 'beside'",
        )
        require(self.key_width % 2 == 0, f"key_width is {self.key_width}, but a key is two halves of equal width")
        require(
            self.knn <= self.num_keys,
            f"knn is {self.knn}, but each half has only {self.num_keys} keys to select from ({self.num_slots} slots)",
        )
        require(
            not self.qk_norm or self.query_norm == "none",
            f"qk_norm and query_norm '{self.query_norm}' both normalise the query; choose one",
        )
        require(
            self.core_penalty is None or self.core_rank is not None,
            f"core_penalty is {self.core_penalty}, but there is no core without core_rank; leave it null",
        )

    @property
    def num_half_keys(self) -> int:
        """Half keys per set that are scored: those of the addressed slots, virtual ones included."""
        return self.num_keys

    @property
    def num_ranks(self) -> int:
        """Vectors of each half key."""
        return self.core_rank or 1

    @property
    def num_slots(self) -> int:
        """Number of addressable slots: num_keys^2."""
        return self.num_keys**2


@dataclass(frozen=True, kw_only=True)
class Memory(_ProductKeys):
    """Product-key memory: the output is a weighted sum of the selected rows of a table.

    Lample et al. 2019; with a shared table and a gate, Berges et al. 2024.
    """

    value_width: Width
    """Width of a table row."""
    shared_table: bool = True
    """Whether all memory layers read one table instead of one each."""
    gated: bool = True
    """Whether the output is (y * silu(x W1)) W2, with W1 [d_model, value_width] and W2 [value_width, d_model], instead
    of the weighted sum y itself."""
    projection: bool = field(default=False, metadata=added_later(False))
    """Without a gate: whether the output is y W, with W [value_width, d_model], so that rows may be narrower than the
    model (Huang et al. 2024). A gated output has such a matrix, W2, in any case."""
    expansion: Expansion | None = field(default=None, metadata=ADDED_LATER)
    """Implicit value expansion (Huang et al. 2024): a square number E of virtual tables, each the table with a
    projection [value_width, d_model] of its own. Slots are chosen among E x num_keys^2 virtual ones, by
    sqrt(E) x num_keys half keys in each set. None: the table alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.projection and self.gated),
            "projection is true, but a gated output is projected by its W2 already; set one of projection and gated to "
            "false",
        )
        require(
            isqrt(self.num_virtual_tables) ** 2 == self.num_virtual_tables,
            f"expansion is {self.expansion}, but product keys span a square number of slots; it needs a square number "
            "such as 4, 9 or 16",
        )
        require(
            self.expansion is None or self.gated or self.projection,
            f"expansion is {self.expansion}, but each virtual table needs its projection; set projection or gated to "
            "true",
        )

    @property
    def num_virtual_tables(self) -> int:
        """Virtual tables, 1 without expansion."""
        return self.expansion or 1

    @property
    def num_half_keys(self) -> int:
        """Half keys per set that are scored: those of the virtual slots."""
        return self.num_keys * isqrt(self.num_virtual_tables)

    @property
    def num_output_matrices(self) -> int:
        """Matrices [value_width, d_model] of the output: of the gate, and of each virtual table; 0 without both."""
        return int(self.gated) + self.num_virtual_tables * int(self.gated or self.projection)

    @property
    def num_tables(self) -> int:
        """Number of distinct tables."""
        return 1 if self.shared_table else len(self.layers)


@dataclass(frozen=True, kw_only=True)
class Peer(_ProductKeys):
    """PEER (He 2024): slot i is an expert with one hidden unit, gelu(x . u_i) v_i.

    u_i and v_i are rows of two tables of width d_model, which every layer has of its own. The outputs of a head's
    experts are summed with softmax weights.
    """
