"""The architecture of a model: one frozen description that the planner counts and `memscale.models` builds.

Sparse parts stand in the place of a block's feed-forward layer (`memscale.config.layers`) or beside what the block does
(`memscale.config.token_layers`, and memory and PEER layers with `place: beside`); each lists its layers. A family has
one kind of part; a mixture has several. Refuses shapes that no module could have: head widths that do not divide,
layers outside the stack, two parts in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from memscale.config.checks import ADDED_LATER, require
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.ranges import Checked, Heads, LayerCount, OneOf, Range, VocabSize, Width
from memscale.config.token_layers import NGram, TokenTable

MIXTURE = "mixture"
PARTS = {
    "dense": None, "moe": "moe", "pkm": "memory", "memory": "memory", "memory_plus": "memory", "peer": "peer",
    "ngram": "ngram", "token_table": "token_table", "looped": "loop",
}  # fmt: skip
"""Family -> the field of `Architecture` that holds its sparse part, or its loop; None for dense. A mixture has several
parts."""
FAMILIES = (*PARTS, MIXTURE)
UNSIZED = ("dense", "looped")
"""Families without a size (experts, slots): the solver holds no quantity equal among them and the sparse ones."""
SPARSE_PARTS = ("moe", "memory", "peer", "ngram", "token_table")
"""The fields of `Architecture` that hold sparse parts."""

SparsePart = MoE | Memory | Peer | NGram | TokenTable


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
    """Layers with weights of their own; a looped model applies some of them several times (`depth`)."""
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
    ngram: NGram | None = field(default=None, metadata=ADDED_LATER)
    token_table: TokenTable | None = field(default=None, metadata=ADDED_LATER)
    loop: Loop | None = field(default=None, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})",
        )
        require(self.head_width % 2 == 0, f"head_width is {self.head_width}, but rotary positions turn pairs of values")
        self._check_parts()
        self._check_loop()
        for part in (self.memory, self.peer):
            if part is not None and part.skip is not None:
                require(
                    part.layers[-1] + part.skip < self.num_layers,
                    f"layer {part.layers[-1]} adds its output {part.skip} blocks later (skip), but the last block is "
                    f"{self.num_layers - 1}; name earlier layers or a smaller skip",
                )
        if self.memory is not None and not self.memory.num_output_matrices:
            require(
                self.memory.value_width == self.d_model,
                f"value_width is {self.memory.value_width}; without a gated output or a projection it must be d_model "
                f"({self.d_model})",
            )

    def _check_parts(self) -> None:
        parts = self.parts
        if self.family == MIXTURE:
            require(
                len(parts) > 1,
                f"a mixture has two sparse parts or more; it has {', '.join(parts) or 'none'}. "
                f"Parts are {', '.join(SPARSE_PARTS)}",
            )
        else:
            for name in SPARSE_PARTS:
                require(
                    (name in parts) == (PARTS[self.family] == name),
                    f"family '{self.family}' and its part disagree: {name} is "
                    f"{'given' if name in parts else 'missing'}",
                )
        places: dict[int, str] = {}
        for name, part in parts.items():
            self._check_layers(part.layers)
            for layer in part.layers if self._takes_the_slot(part) else ():
                require(
                    layer not in places,
                    f"layer {layer} is listed by {places.get(layer)} and by {name}, and has one feed-forward layer",
                )
                places[layer] = name
        if len(self._beside) > 1:
            memory, peer = self._beside.values()
            both = sorted(set(memory.layers) & set(peer.layers))
            require(
                not both,
                f"layers {both} are listed by memory and by peer, both with place 'beside', and one part can stand "
                "beside a layer; name other layers for one of them",
            )
        if self.token_table is not None:
            self._check_row(self.token_table)

    @staticmethod
    def _takes_the_slot(part: SparsePart) -> bool:
        if isinstance(part, Memory | Peer):
            return part.place == "replace"
        return isinstance(part, MoE) or (isinstance(part, TokenTable) and part.use == "up")

    def _check_row(self, table: TokenTable) -> None:
        wanted = {
            "up": (self.ffn_hidden, "ffn_hidden"),
            "values": (self.num_kv_heads * self.head_width, "num_kv_heads x head_width"),
        }
        if table.use in wanted:
            width, name = wanted[table.use]
            require(
                table.row_width == width,
                f"token_table.row_width is {table.row_width}; with use '{table.use}' it must be {name} ({width})",
            )

    def _check_loop(self) -> None:
        require(
            (self.loop is not None) == (PARTS.get(self.family) == "loop"),
            f"family '{self.family}' and its part disagree: loop is {'given' if self.loop else 'missing'}",
        )
        require(
            self.loop is None or self.loop.stored_layers == self.num_layers,
            f"num_layers is {self.num_layers}, but the loop has {self.loop.stored_layers if self.loop else 0} layers "
            "with weights of their own: prelude + recurrent + coda",
        )

    def _check_layers(self, layers: tuple[int, ...]) -> None:
        require(len(layers) > 0, "layers is empty; name at least one layer")
        require(
            list(layers) == sorted(set(layers)) and layers[0] >= 0 and layers[-1] < self.num_layers,
            f"layers {list(layers)} must be increasing indices between 0 and {self.num_layers - 1}",
        )

    @property
    def parts(self) -> dict[str, SparsePart]:
        """The sparse parts that the model has, by the name of their field."""
        found = ((name, getattr(self, name)) for name in SPARSE_PARTS)
        return {name: part for name, part in found if part is not None}

    def feed_forward_kind(self, layer: int) -> str:
        """Return what block `layer` has as its feed-forward layer: 'dense', or the field of the part in its place."""
        for name, part in self.parts.items():
            if layer in part.layers and self._takes_the_slot(part):
                return name
        return "dense"

    def beside_kind(self, layer: int) -> str | None:
        """Return the field of the memory or PEER layer beside block `layer`'s feed-forward layer; None without one."""
        return next((name for name, part in self._beside.items() if layer in part.layers), None)

    def beside_end(self, layer: int) -> int:
        """Return at the end of which block the output of what stands beside block `layer` is added (`skip`)."""
        skips = [part.skip or 0 for part in self._beside.values() if layer in part.layers]
        return layer + sum(skips)

    @property
    def _beside(self) -> dict[str, Memory | Peer]:
        parts: dict[str, Memory | Peer | None] = {"memory": self.memory, "peer": self.peer}
        return {name: part for name, part in parts.items() if part is not None and part.place == "beside"}

    @property
    def num_dense_layers(self) -> int:
        """Layers with weights of their own whose feed-forward layer is dense."""
        return self.num_layers - sum(len(part.layers) for part in self.parts.values() if self._takes_the_slot(part))

    @property
    def depth(self) -> int:
        """Layers that a token passes through: `num_layers`, and with a loop each recurrence's anew."""
        return self.num_layers if self.loop is None else self.loop.depth

    @property
    def applied_layers(self) -> tuple[int, ...]:
        """The stored layer of each layer that a token passes through, in order; [depth]."""
        return tuple(range(self.num_layers)) if self.loop is None else self.loop.applied_layers

    @property
    def is_sparse(self) -> bool:
        """Whether the family has a size (experts, slots) that the sparse models of a budget can share."""
        return self.family not in UNSIZED

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
        """Slots of a memory layer (experts of a PEER layer, rows of all n-gram tables); None without one."""
        keyed = self.memory or self.peer
        if keyed is not None:
            return keyed.num_slots
        return self.ngram.num_rows if self.ngram is not None else None

    @property
    def has_table(self) -> bool:
        """Whether the model has a table, which is trained at a learning rate of its own."""
        return any(name != "moe" for name in self.parts)
