"""Memory of one GPU in training, by a formula: weights, gradients, the optimizer's state, activations.

Weights, gradients and AdamW's two moments are float32; the table's gradient is as large as the table. Activations are
what our modules' forward pass keeps for the backward pass, tensor by tensor, of one micro-batch without recomputation,
and beside them the logits and their gradient, which are there when the backward pass begins and memory peaks.
Under autocast to bfloat16 the inputs of matrix products are kept at 2 bytes, as is a copy of every matrix; norms,
router, softmax and loss are float32.
Not counted: allocator fragmentation, communication buffers, and layers gathered for a moment under full sharding.

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
_FLOAT32, _INT64 = 4, 8


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
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations


def training_memory(
    architecture: Architecture,
    sequence_length: int,
    *,
    micro_batch_sequences: int = 1,
    parallelism: Parallelism = Parallelism(),
    precision: str = "bfloat16",
) -> TrainingMemory:
    """Return the bytes that each GPU needs to train `architecture`, `micro_batch_sequences` at a time.

    `precision` is what matrix products are done in: bfloat16 under autocast as on GPUs, or float32 as on the CPU.
    Raises ConfigError.
    """
    at_least("micro_batch_sequences", micro_batch_sequences, 1)
    params = count(architecture, sequence_length).params_total
    whole, shard = _FLOAT32 * params, _FLOAT32 * params / parallelism.num_gpus
    state = whole if parallelism.sharding != "full" else shard
    moments = whole if parallelism.sharding == "none" else shard
    tokens = micro_batch_sequences * sequence_length
    saved = saved_bytes(architecture, sequence_length, micro_batch_sequences, precision)
    return TrainingMemory(
        weights=state,
        gradients=state,
        optimizer=2 * moments,
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
    return micro_batch_sequences * sequence_length * per_token + turns + kept.copies(a, sequence_length)


def _loss_bytes(a: Architecture, precision: str) -> float:
    """Per token: the logits, as they left the head, and the gradient of the loss in them, in float32."""
    return (_Kept(precision).width + _FLOAT32) * a.vocab_size


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
        """Router: logits and scores, 2 E, and its input, which autocast keeps in both types. Per chosen expert: input
        and output, 2 d; gate and up, 2 h; silu, h; and order, place, choice and weights."""
        chosen = moe.trained_experts_per_token(sequence_length)
        router = _FLOAT32 * (2 * moe.num_experts + (d if self._autocast else 0)) + self.width * d
        rows = self.width * (2 * d + 3 * moe.expert_hidden) + 3 * _INT64 + 3 * _FLOAT32
        shared = moe.shared_experts * moe.expert_hidden
        return router + chosen * rows + self.width * 4 * shared

    def memory(self, d: int, memory: Memory) -> float:
        """The keys' part; the sum of values, v; with a gate also its input and silu, and the product: 4 v."""
        v = memory.value_width
        gated = _FLOAT32 * v + self.width * 3 * v if memory.gated else 0.0
        return self._product_keys(d, memory) + gated

    def peer(self, d: int, peer: Peer) -> float:
        """The keys' part; the products x . u_i, their gelu and its weighted value; the input in float32."""
        selected = peer.num_heads * peer.knn
        return self._product_keys(d, peer) + _FLOAT32 * 3 * selected + (_FLOAT32 * d if self._autocast else 0)

    def _product_keys(self, d: int, part: Memory | Peer) -> float:
        """Input d; queries H w, again for their norm; slots and weights, H k."""
        query = part.num_heads * part.key_width
        normed = query * (2 if part.qk_norm else 1 if part.query_norm != "none" else 0)
        return self.width * (d + query) + _FLOAT32 * normed + (_INT64 + _FLOAT32) * part.num_heads * part.knn

    def copies(self, a: Architecture, sequence_length: int) -> float:
        """Autocast's copies of the matrices, which are kept for the backward pass whatever the micro-batch is."""
        if not self._autocast:
            return 0.0
        multiplied = ("attention", "ffn", "experts", "shared_experts", "query", "key_scoring", "memory_output")
        matrices = sum(part.params for part in components(a, sequence_length) if part.name in multiplied)
        return self.width * (matrices + a.d_model * a.vocab_size)
