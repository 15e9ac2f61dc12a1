"""What can stand in a layer's feed-forward slot beside a dense SwiGLU: experts, product-key memory, tiny experts.

Each is a frozen description that the planner counts and the model zoo builds. Refuses what no module could be: key
widths that do not halve, more selected than there is, options that contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.checks import at_least, one_of, positive, require

ROUTINGS = ("token_choice", "expert_choice")
SCORES = ("softmax", "sigmoid")
BALANCES = ("loss", "bias", "none")
QUERY_NORMS = ("none", "batch", "layer")


@dataclass(frozen=True, kw_only=True)
class MoE:
    """SwiGLU experts behind a router without bias.

    `token_choice`: each token goes to its best experts, none dropped (Shazeer et al. 2017). `expert_choice`: in
    training each expert takes its best tokens of every sequence (Zhou et al. 2022), in evaluation each token its best
    experts, so that only training lets a later token change an earlier one.
    """

    layers: tuple[int, ...]
    """Indices (0-based) of the layers that hold experts."""
    num_experts: int
    """Routed experts; shared ones come on top."""
    experts_per_token: int
    """How many routed experts a token is sent to; with `expert_choice`, in evaluation."""
    expert_hidden: int
    """Hidden width of one expert, routed or shared (three matrices of d_model x expert_hidden)."""
    shared_experts: int = 0
    """Experts that every token passes through with weight one (Dai et al. 2024)."""
    routing: str = "token_choice"
    scores: str = "softmax"
    """What makes the router's logits weights: softmax over the experts, or each one's sigmoid."""
    renormalise: bool = True
    """Whether the chosen experts' scores are scaled to sum to one."""
    capacity_factor: float = 1.0
    """`expert_choice` only: experts per token on average in training; each takes
    max(1, round(capacity_factor x sequence length / num_experts)) tokens of a sequence."""
    balance: str = "loss"
    """`loss`: the Switch balance loss; `bias`: a bias on the scores that choose, moved against the load after every
    step (Wang et al. 2024); `none`."""
    balance_weight: float = 0.01
    """`loss` only: its factor (1 when the load is uniform); trained on, never reported as loss."""
    bias_rate: float = 0.001
    """`bias` only: how far an expert's bias moves in a step."""
    z_weight: float = 0.001
    """Factor of the router z-loss (Zoph et al. 2022); trained on, never reported as loss."""

    def __post_init__(self) -> None:
        for name in ("num_experts", "expert_hidden", "experts_per_token"):
            at_least(name, getattr(self, name), 1)
        for name in ("shared_experts", "balance_weight", "z_weight"):
            at_least(name, getattr(self, name), 0)
        one_of("routing", self.routing, ROUTINGS)
        one_of("scores", self.scores, SCORES)
        one_of("balance", self.balance, BALANCES)
        positive("capacity_factor", self.capacity_factor)
        positive("bias_rate", self.bias_rate)
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
        require(
            not self.renormalise or (self.experts_per_token > 1 and self.routing == "token_choice"),
            "renormalise is true, but the weight of a single expert would always be one, and its router would learn "
            "nothing; set it to false, or send each token to two experts or more (token_choice)",
        )

    def capacity(self, sequence_length: int) -> int:
        """Tokens of a sequence that each expert takes in training; `expert_choice` only."""
        return min(sequence_length, max(1, round(self.capacity_factor * sequence_length / self.num_experts)))

    def trained_experts_per_token(self, sequence_length: int) -> float:
        """Routed experts that a token passes through in training, on average."""
        if self.routing == "token_choice":
            return self.experts_per_token
        return self.capacity(sequence_length) * self.num_experts / sequence_length


@dataclass(frozen=True, kw_only=True)
class _ProductKeys:
    """Two sets of `num_keys` half keys span num_keys**2 slots; each head selects `knn` of them."""

    layers: tuple[int, ...]
    """Indices (0-based) of the layers that hold this."""
    num_keys: int
    """Half keys per set; there are num_keys**2 slots."""
    num_heads: int
    knn: int
    """Slots selected per head and token."""
    key_width: int
    """Width of a whole key (two halves); each layer and head has its own keys and queries."""
    qk_norm: bool = False
    """RMS-normalise query and key halves before scoring."""
    query_norm: str = "none"
    """Of the whole query, over its width: `batch` (Lample et al. 2019; in training it lets the tokens of a batch see
    each other) or `layer`."""

    def __post_init__(self) -> None:
        for name in ("num_keys", "num_heads", "knn", "key_width"):
            at_least(name, getattr(self, name), 1)
        one_of("query_norm", self.query_norm, QUERY_NORMS)
        require(self.key_width % 2 == 0, f"key_width is {self.key_width}, but a key is two halves of equal width")
        require(
            self.knn <= self.num_keys,
            f"knn is {self.knn}, but each half has only {self.num_keys} keys to select from ({self.num_slots} slots)",
        )
        require(
            not self.qk_norm or self.query_norm == "none",
            f"qk_norm and query_norm '{self.query_norm}' both normalise the query; choose one",
        )

    @property
    def num_slots(self) -> int:
        return self.num_keys**2


@dataclass(frozen=True, kw_only=True)
class Memory(_ProductKeys):
    """Product-key memory: a weighted sum of the selected rows of a table (Lample et al. 2019; Berges et al. 2024)."""

    value_width: int
    """Width of a table row."""
    shared_table: bool = True
    """One table for all layers; else each has its own."""
    gated: bool = True
    """Output (y * silu(x W1)) W2 with W1: d_model x value_width, W2: value_width x d_model; else y itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("value_width", self.value_width, 1)

    @property
    def num_tables(self) -> int:
        return 1 if self.shared_table else len(self.layers)


@dataclass(frozen=True, kw_only=True)
class Peer(_ProductKeys):
    """A slot is an expert of one hidden value, gelu(x . u_i) v_i: two table rows of width d_model (He 2024, "PEER").

    Each layer has its own two tables; a head's experts are added up with softmax weights.
    """
