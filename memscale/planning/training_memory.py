"""Memory of one GPU in training, by a formula: weights, gradients, the optimizer's state, activations.

Weights, gradients and AdamW's two moments are float32. A table's gradient is kept as what it is made of, the reads of
all of the device's tokens, or as the sums of the rows they touched where that is less; beside its moments a row has two
step numbers. Activations are what our modules' forward pass keeps for the backward pass, tensor
by tensor, of one micro-batch without recomputation, and the logits and their gradients, which are there when the
backward pass begins. Under autocast to bfloat16 the inputs of matrix products are kept at 2 bytes, as is a copy of
every matrix; norms, router, softmax and loss are float32.
The sum is the peak of a batch in several micro-batches, or a little above it, for activations fall as fresh gradients
come. Not counted: the allocator's fragments, communication buffers, layers gathered for a moment under full sharding.

In the comments: d model width, h hidden width, H heads, G key/value heads, w width of a head or key, k selected, v
width of a row, E experts, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.architecture import Architecture
from memscale.config.checks import at_least, one_of
from memscale.config.layers import Memory, MoE, Peer
from memscale.planning.accounting import components, count

SHARDINGS = ("none", "optimizer", "full")
PRECISIONS = ("bfloat16", "float32")
_FLOAT32, _INT32, _INT64 = 4, 4, 8


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """GPUs that train one model on different sequences (data parallel), and what of it they share out.

    `none`: each holds all. `optimizer`: each holds its part of the optimizer's state. `full`: of weights and gradients
    too. The first and third stage of ZeRO (Rajbhandari et al. 2020).
    """

    num_gpus: int = 1
    sharding: str = "none"

    def __post_init__(self) -> None:
        at_least("num_gpus", self.num_gpus, 1)
        one_of("sharding", self.sharding, SHARDINGS)


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes of one GPU."""

    weights: float
    gradients: float
    """Of all weights but tables', and the reads that make up a table's."""
    optimizer: float
    """AdamW's two moments, and a table's step numbers."""
    activations: float
    """Kept for the backward pass, and the loss's logits with their gradients."""

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations


def training_memory(
    architecture: Architecture,
    sequence_length: int,
    *,
    micro_batch_sequences: int = 1,
    batch_sequences: int | None = None,
    parallelism: Parallelism = Parallelism(),
    precision: str = "bfloat16",
) -> TrainingMemory:
    """Return the bytes that each GPU needs to train `architecture`, `micro_batch_sequences` at a time.

    `batch_sequences`: of all GPUs together, between two steps of the optimizer; one micro-batch each if not given.
    `precision` is what matrix products are done in: bfloat16 under autocast as on GPUs, or float32 as on the CPU.
    Raises ConfigError.
    """
    at_least("micro_batch_sequences", micro_batch_sequences, 1)
    counts, gpus = count(architecture, sequence_length), parallelism.num_gpus
    weights = _FLOAT32 * counts.params_total
    dense = _FLOAT32 * (counts.params_total - counts.params_table)
    steps = 2 * _INT32 * _table_rows(architecture)
    state = gpus if parallelism.sharding == "full" else 1
    moments = gpus if parallelism.sharding != "none" else 1
    tokens = micro_batch_sequences * sequence_length
    share = tokens if batch_sequences is None else -(-batch_sequences // gpus) * sequence_length
    saved = saved_bytes(architecture, sequence_length, micro_batch_sequences, precision)
    return TrainingMemory(
        weights=weights / state,
        gradients=dense / state + _table_gradients(architecture, share, tokens),
        optimizer=(2 * weights + steps) / moments,
        activations=saved + tokens * _loss_bytes(architecture, precision),
    )


def saved_bytes(
    architecture: Architecture, sequence_length: int, micro_batch_sequences: int, precision: str = "bfloat16"
) -> float:
    """Return the bytes that a forward pass and its loss save for the backward pass. Raises ConfigError."""
    one_of("precision", precision, PRECISIONS)
    a = architecture
    kept = _Kept(precision)
    part = a.moe or a.memory or a.peer
    num_dense = a.num_layers - (len(part.layers) if part is not None else 0)
    per_token = (2 * a.num_layers + 1) * kept.norm(a.d_model)
    per_token += a.num_layers * kept.attention(a) + num_dense * kept.feed_forward(a.d_model, a.ffn_hidden)
    if a.moe is not None:
        per_token += len(a.moe.layers) * kept.experts(a.d_model, a.moe, sequence_length)
    elif a.memory is not None:
        per_token += len(a.memory.layers) * kept.memory(a.d_model, a.memory)
    elif a.peer is not None:
        per_token += len(a.peer.layers) * kept.peer(a.d_model, a.peer)
    # The token itself, the head's input, and the logarithms of the softmax.
    per_token += 2 * _INT64 + kept.width * a.d_model + _FLOAT32 * a.vocab_size
    # The rotary positions' turns, complex.
    turns = _FLOAT32 * a.head_width * sequence_length
    return micro_batch_sequences * sequence_length * per_token + turns + kept.copies(a)


def _table_rows(a: Architecture) -> int:
    """Rows of all tables."""
    if a.memory is not None:
        return a.memory.num_tables * a.memory.num_slots
    return 2 * len(a.peer.layers) * a.peer.num_slots if a.peer is not None else 0


def _table_gradients(a: Architecture, tokens: int, tokens_at_once: int) -> float:
    """Each read's slot and weight, and the gradient of each token's sum, v, or in PEER's first table its input, d: for
    all tokens; or, where that is less, those of one micro-batch and the touched rows' sums, before and after it."""
    part = a.memory or a.peer
    if part is None:
        return 0.0
    reads, width = part.num_heads * part.knn, a.memory.value_width if a.memory is not None else a.d_model
    lookups = 1 if a.memory is not None else 2  # of the same slots
    per_token = len(part.layers) * (_INT64 * reads + lookups * _FLOAT32 * (reads + width))
    sums = _table_rows(a) * (_INT64 + _FLOAT32 * (1 + width))
    return float(min(tokens * per_token, 2 * sums + tokens_at_once * per_token))


def _loss_bytes(a: Architecture, precision: str) -> float:
    """Per token: the logits, as they left the head, and in float32 the gradients in the softmax's logarithms and in
    its input."""
    return (_Kept(precision).width + 2 * _FLOAT32) * a.vocab_size


class _Kept:
    """Bytes that a module keeps per token until the backward pass."""

    def __init__(self, precision: str) -> None:
        self.width = 2 if precision == "bfloat16" else _FLOAT32
        """Of a value that goes through a matrix product."""
        self._autocast = precision == "bfloat16"

    def norm(self, d: int) -> float:
        """RMSNorm: its input, one reciprocal root; on the CPU, where it is several ops, the normalised input too."""
        return _FLOAT32 * (d * (1 if self._autocast else 2) + 1)

    def attention(self, a: Architecture) -> float:
        """Input d; what left the projection, (H + 2 G) w; turned queries and keys, (H + G) w; mixed values, H w; a
        logarithm per head."""
        heads, groups = a.num_heads * a.head_width, a.num_kv_heads * a.head_width
        return self.width * (a.d_model + 3 * heads + 3 * groups) + _FLOAT32 * a.num_heads

    def feed_forward(self, d: int, hidden: int) -> float:
        """Input d; gate and up, 2 h; silu of the gate, h; their product, h."""
        return self.width * (d + 4 * hidden)

    def experts(self, d: int, moe: MoE, sequence_length: int) -> float:
        """Router, in float32: its input d, scores and logits, 2 E, and sums. Per chosen expert: input and output, 2 d;
        gate and up, 2 h; silu, h; four indices and two weights. The shared ones as a feed-forward layer."""
        chosen = moe.trained_experts_per_token(sequence_length)
        router = _FLOAT32 * (d + 2 * moe.num_experts + 2) + _INT64
        rows = self.width * (2 * d + 3 * moe.expert_hidden) + 4 * _INT64 + 2 * _FLOAT32
        shared = self.width * 4 * moe.shared_experts * moe.expert_hidden
        if moe.shared_experts and self._autocast:
            shared += self.width * d
        return router + chosen * rows + shared

    def memory(self, d: int, memory: Memory) -> float:
        """The keys' part; with a gate also its input (which autocast casts anew), the sum of values, v, in float32,
        the gate before and after silu, 2 v, and the product, v."""
        v = memory.value_width
        kept = self._product_keys(d, memory)
        if memory.gated:
            kept += _FLOAT32 * v + self.width * 3 * v + (self.width * d if self._autocast else 0)
        return kept

    def peer(self, d: int, peer: Peer) -> float:
        """The keys' part; the products x . u_i, their gelu and its weighted value; the input in float32."""
        selected = peer.num_heads * peer.knn
        return self._product_keys(d, peer) + _FLOAT32 * 3 * selected + (_FLOAT32 * d if self._autocast else 0)

    def _product_keys(self, d: int, part: Memory | Peer) -> float:
        """Input d; queries H w, again where they are normalised; slots and weights, H k."""
        query = part.num_heads * part.key_width
        normed = {
            "none": self.width * query + 2 * _FLOAT32 * part.num_heads if part.qk_norm else 0,
            "batch": _FLOAT32 * query,
            "layer": _FLOAT32 * 2 * (query + part.num_heads),
        }[part.query_norm]
        slots = (_INT64 + _FLOAT32) * part.num_heads * part.knn
        scored = self.width * query if part.query_norm == "none" else _FLOAT32 * query
        return self.width * d + scored + normed + slots

    def copies(self, a: Architecture) -> float:
        """Whatever the micro-batch: autocast's copies of the matrices, and in float32 keys that were normalised."""
        part = a.memory or a.peer
        kept = 0.0
        if part is not None and part.qk_norm:
            kept += _FLOAT32 * len(part.layers) * part.num_heads * part.num_keys * part.key_width
        if self._autocast:
            multiplied = ("attention", "ffn", "experts", "shared_experts", "query", "memory_output")
            matrices = sum(part.params for part in components(a, 1) if part.name in multiplied)
            kept += self.width * (matrices + a.d_model * a.vocab_size)
        return kept
