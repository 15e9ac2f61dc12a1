"""The architecture of a model: one frozen description that the planner counts and `memscale.models` builds.

The feed-forward layer of a block is dense, unless the sparse part of the family (`memscale.config.layers`) lists the
block; a part with `place: beside` leaves the dense layer there and is added to it. Refuses shapes that no module could
have: head widths that do not divide, layers outside the stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from memscale.config.checks import require
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.ranges import Checked, Heads, LayerCount, OneOf, Range, VocabSize, Width

PARTS = {"dense": None, "moe": "moe", "pkm": "memory", "memory": "memory", "memory_plus": "memory", "peer": "peer"}
"""Family -> the field of `Architecture` that holds its sparse part; None for dense."""
FAMILIES = tuple(PARTS)


@dataclass(frozen=True, kw_only=True)
class Architecture(Checked):
    """A Llama-type decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU feed-forward layers.

    Raises ConfigError for a shape that cannot be built. `memscale.planning.accounting.count` gives its parameters and
    FLOPs, `memscale.models.transformer.Transformer` the module.

    Example:
        >>> from memscale.config.layers import Memory
        >>> memory = Memory(layers=(2,), num_keys=64, num_heads=4, knn=16, key_width=32, value_width=64)
        >>> model = Architecture(family="memory_plus", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4,
        ...                      head_width=16, ffn_hidden=176, vocab_size=1024, memory=memory)
        >>> [model.feed_forward_kind(layer) for layer in range(4)], model.num_slots
        (['dense', 'dense', 'memory', 'dense'], 4096)
    """

    family: Annotated[str, OneOf(FAMILIES)]
    """One of FAMILIES."""
    d_model: Width
    """Width of the residual stream."""
    num_layers: LayerCount
    num_heads: Heads
    num_kv_heads: Heads
    head_width: Width
    ffn_hidden: Width
    """Hidden width of every dense feed-forward layer."""
    vocab_size: VocabSize
    tied_embeddings: bool = False
    rope_theta: Annotated[float, Range(1, 1e12, "positions turn by its powers")] = 10_000.0
    norm_eps: Annotated[float, Range(0, 1, "it keeps a division finite", above_low=True)] = 1e-5
    moe: MoE | None = None
    memory: Memory | None = None
    peer: Peer | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})",
        )
        require(self.head_width % 2 == 0, f"head_width is {self.head_width}, but rotary positions turn pairs of values")
        for name in ("moe", "memory", "peer"):
            part: MoE | Memory | Peer | None = getattr(self, name)
            require(
                (part is not None) == (PARTS[self.family] == name),
                f"family '{self.family}' and its part disagree: {name} is {'given' if part else 'missing'}",
            )
            if part is not None:
                self._check_layers(part.layers)
        keyed = self.memory or self.peer
        if keyed is not None and keyed.skip is not None:
            require(
                keyed.layers[-1] + keyed.skip < self.num_layers,
                f"layer {keyed.layers[-1]} adds its output {keyed.skip} blocks later (skip), but the last block is "
                f"{self.num_layers - 1}; name earlier layers or a smaller skip",
            )
        if self.memory is not None and not self.memory.num_output_matrices:
            require(
                self.memory.value_width == self.d_model,
                f"value_width is {self.memory.value_width}; without a gated output or a projection it must be d_model "
                f"({self.d_model})",
            )

    def _check_layers(self, layers: tuple[int, ...]) -> None:
        require(len(layers) > 0, "layers is empty; name at least one layer")
        require(
            list(layers) == sorted(set(layers)) and layers[0] >= 0 and layers[-1] < self.num_layers,
            f"layers {list(layers)} must be increasing indices between 0 and {self.num_layers - 1}",
        )

    def feed_forward_kind(self, layer: int) -> str:
        """Return what block `layer` has as its feed-forward layer: 'dense', 'moe', 'memory' or 'peer'."""
        kind = self.sparse_kind(layer)
        return "dense" if kind is None or self._stands_beside else kind

    def sparse_kind(self, layer: int) -> str | None:
        """Return the sparse part of block `layer`, wherever it stands: 'moe', 'memory', 'peer', or None without one."""
        for name in ("moe", "memory", "peer"):
            part: MoE | Memory | Peer | None = getattr(self, name)
            if part is not None and layer in part.layers:
                return name
        return None

    @property
    def num_dense_layers(self) -> int:
        """Blocks with a dense feed-forward layer: those without the sparse part, and those that have it beside."""
        part = self.moe or self.memory or self.peer
        return self.num_layers - (0 if part is None or self._stands_beside else len(part.layers))

    @property
    def _stands_beside(self) -> bool:
        part = self.memory or self.peer
        return part is not None and part.place == "beside"

    @property
    def skip(self) -> int:
        """After how many blocks the output of a memory or PEER layer is added; 0 at the end of its own."""
        keyed = self.memory or self.peer
        return (keyed.skip or 0) if keyed is not None else 0

    @property
    def trains_causally(self) -> bool:
        """Whether training is causal: no token changes the logits of an earlier one.

        False where experts choose their tokens (`expert_choice`) or queries are normalised over a batch. Evaluation is
        causal for every architecture.
        """
        expert_choice = self.moe is not None and self.moe.routing == "expert_choice"
        keyed = self.memory or self.peer
        return not expert_choice and (keyed is None or keyed.query_norm != "batch")

    @property
    def num_slots(self) -> int | None:
        """Slots of a memory layer (experts of a PEER layer); None without one."""
        keyed = self.memory or self.peer
        return keyed.num_slots if keyed is not None else None

    @property
    def has_table(self) -> bool:
        """Whether the model has a memory table, which is trained at a learning rate of its own."""
        return self.memory is not None or self.peer is not None
