"""What a model is: one frozen description that the planner counts and the model zoo builds.

A layer's feed-forward slot is dense unless `moe.layers` or `memory.layers` names it. Refuses shapes that no
module could have: head widths that do not divide, more selected than there is, layers outside the stack.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.checks import at_least, one_of, require

FAMILIES = ("dense", "moe", "memory_plus")


@dataclass(frozen=True, kw_only=True)
class MoE:
    """Experts in the feed-forward slot: dropless top-k token choice (Shazeer et al. 2017, softmax scores)."""

    layers: tuple[int, ...]
    """Indices (0-based) of the layers whose feed-forward slot holds experts."""
    num_experts: int
    experts_per_token: int
    """How many experts each token is sent to; their softmax scores are renormalised to sum to one."""
    expert_hidden: int
    """Hidden width of one expert (SwiGLU: three matrices of d_model x expert_hidden)."""
    balance_weight: float = 0.01
    """Factor of the load-balance loss (Switch form: 1 when the load is uniform); trained on, never reported as loss."""
    z_weight: float = 0.001
    """Factor of the router z-loss (Zoph et al. 2022); trained on, never reported as loss."""

    def __post_init__(self) -> None:
        at_least("num_experts", self.num_experts, 1)
        at_least("expert_hidden", self.expert_hidden, 1)
        at_least("experts_per_token", self.experts_per_token, 1)
        at_least("balance_weight", self.balance_weight, 0.0)
        at_least("z_weight", self.z_weight, 0.0)
        require(
            self.experts_per_token <= self.num_experts,
            f"experts_per_token is {self.experts_per_token}, but there are only {self.num_experts} experts",
        )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Product-key memory in the feed-forward slot (Berges et al. 2024), one table shared by all its layers.

    Two sets of `num_keys` half keys span num_keys**2 slots; each head selects `knn` of them.
    """

    layers: tuple[int, ...]
    """Indices (0-based) of the layers whose feed-forward slot reads the table."""
    num_keys: int
    """Half keys per set; the table has num_keys**2 rows."""
    num_heads: int
    knn: int
    """Slots selected per head and token."""
    key_width: int
    """Width of a whole key (two halves); each layer has its own keys and queries."""
    value_width: int
    """Width of a table row."""
    gated: bool = True
    """Output (y * silu(x W1)) W2 with W1: d_model x value_width, W2: value_width x d_model; else y itself."""
    qk_norm: bool = True
    """RMS-normalise queries and keys before scoring."""

    def __post_init__(self) -> None:
        for name in ("num_keys", "num_heads", "knn", "key_width", "value_width"):
            at_least(name, getattr(self, name), 1)
        require(self.key_width % 2 == 0, f"key_width is {self.key_width}, but a key is two halves of equal width")
        require(
            self.knn <= self.num_keys,
            f"knn is {self.knn}, but each half has only {self.num_keys} keys to select from",
        )

    @property
    def num_slots(self) -> int:
        return self.num_keys**2


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A Llama-type decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU feed-forward slots."""

    family: str
    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    ffn_hidden: int
    """Hidden width of every dense feed-forward slot."""
    vocab_size: int
    tied_embeddings: bool = False
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    moe: MoE | None = None
    memory: Memory | None = None

    def __post_init__(self) -> None:
        one_of("family", self.family, FAMILIES)
        for name in ("d_model", "num_layers", "num_heads", "num_kv_heads", "head_width", "ffn_hidden", "vocab_size"):
            at_least(name, getattr(self, name), 1)
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})",
        )
        require(self.head_width % 2 == 0, f"head_width is {self.head_width}, but rotary positions turn pairs of values")
        require((self.moe is not None) == (self.family == "moe"), f"family '{self.family}' and its moe part disagree")
        require(
            (self.memory is not None) == (self.family == "memory_plus"),
            f"family '{self.family}' and its memory part disagree",
        )
        for part in (self.moe, self.memory):
            if part is not None:
                self._check_layers(part.layers)
        if self.memory is not None and not self.memory.gated:
            require(
                self.memory.value_width == self.d_model,
                f"value_width is {self.memory.value_width}; without a gated output it must be d_model ({self.d_model})",
            )

    def _check_layers(self, layers: tuple[int, ...]) -> None:
        require(len(layers) > 0, "layers is empty; name at least one layer")
        require(
            list(layers) == sorted(set(layers)) and layers[0] >= 0 and layers[-1] < self.num_layers,
            f"layers {list(layers)} must be increasing indices between 0 and {self.num_layers - 1}",
        )

    def slot(self, layer: int) -> str:
        """What fills the feed-forward slot of `layer`: 'dense', 'moe' or 'memory'."""
        if self.moe is not None and layer in self.moe.layers:
            return "moe"
        if self.memory is not None and layer in self.memory.layers:
            return "memory"
        return "dense"
