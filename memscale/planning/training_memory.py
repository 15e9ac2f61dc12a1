"""Memory of one GPU in training: weights, gradients, optimizer state and activations, in bytes.

1. Weights, gradients and the two moments of AdamW are float32: 4 bytes each per parameter. A table row also has two
   step numbers. Muon keeps one moment of the matrices of the blocks; what it orthogonalises at a time is not counted.
2. The gradient of a table is stored as the lookups of all tokens of the device, or as one sum per touched row where
   that is smaller.
3. Activations are the tensors that the forward pass of one micro-batch saves for the backward pass, without
   recomputation, and the logits with their gradients. Under autocast to bfloat16 the inputs of matrix products take 2
   bytes, as does a cast copy of every matrix; norms, router, softmax and loss are float32.

The sum is the peak of a batch in several micro-batches, or slightly above it, since activations are freed while new
gradients appear. Not counted: allocator fragmentation, communication buffers, and layers gathered under full sharding.

Symbols: d model width, h hidden width, H heads, G key/value heads, w width of a head or key, k selected slots, v width
of a row, E experts, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.architecture import Architecture
from memscale.config.checks import at_least, one_of
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.optimizer import MATRIX_OPTIMIZERS
from memscale.config.token_layers import NGram, TokenTable
from memscale.planning.accounting import components, count
from memscale.planning.matrices import single_moments

SHARDINGS = ("none", "optimizer", "full")
PRECISIONS = ("bfloat16", "float32")
_FLOAT32, _INT32, _INT64 = 4, 4, 8


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """Data-parallel GPUs, and which state they shard.

    `none`: every GPU holds everything. `optimizer`: the optimizer state is sharded (ZeRO stage 1). `full`: weights and
    gradients too (ZeRO stage 3; Rajbhandari et al. 2020).
    """

    num_gpus: int = 1
    sharding: str = "none"

    def __post_init__(self) -> None:
        at_least("num_gpus", self.num_gpus, 1)
        one_of("sharding", self.sharding, SHARDINGS)


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Training memory of one GPU, in bytes."""

    weights: float
    gradients: float
    """Gradients of all weights, those of tables in sparse form."""
    optimizer: float
    """The two moments of AdamW, or one of Muon, the step numbers of table rows, and the running mean of the weights if
    there is one."""
    activations: float
    """Tensors saved for the backward pass, and the logits with their gradients."""

    @property
    def total(self) -> float:
        """Sum of the four."""
        return self.weights + self.gradients + self.optimizer + self.activations


def training_memory(
    architecture: Architecture,
    sequence_length: int,
    *,
    micro_batch_sequences: int = 1,
    batch_sequences: int | None = None,
    parallelism: Parallelism = Parallelism(),
    precision: str = "bfloat16",
    averaged: bool = False,
    matrix_optimizer: str = "adamw",
) -> TrainingMemory:
    """Return the memory that each GPU needs to train a model.

    Args:
        architecture: The model.
        sequence_length: Tokens per sequence.
        micro_batch_sequences: Sequences per GPU and forward pass.
        batch_sequences: Sequences per optimizer step over all GPUs; None: one micro-batch per GPU.
        parallelism: Number of GPUs and what they shard.
        precision: Format of matrix products: `bfloat16` (autocast, as on GPUs) or `float32` (as on CPUs).
        averaged: Whether a running mean of the weights is held beside them (`recipe.average`).
        matrix_optimizer: `adamw` or `muon`, which keeps one moment of the matrices (`recipe.matrix_optimizer`).

    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> dense = Architecture(family="dense", d_model=1024, num_layers=24, num_heads=16, num_kv_heads=16,
        ...                      head_width=64, ffn_hidden=2816, vocab_size=32_000)
        >>> memory = training_memory(dense, 4096, micro_batch_sequences=4)
        >>> f"{memory.weights / 1e9:.2f} GB of weights, {memory.total / 1e9:.1f} GB in all"
        '1.50 GB of weights, 32.7 GB in all'
    """
    at_least("micro_batch_sequences", micro_batch_sequences, 1)
    one_of("matrix_optimizer", matrix_optimizer, MATRIX_OPTIMIZERS)
    counts, gpus = count(architecture, sequence_length), parallelism.num_gpus
    weights = _FLOAT32 * counts.params_total
    dense = _FLOAT32 * (counts.params_total - counts.params_table)
    steps = 2 * _INT32 * _table_rows(architecture)
    kept = 2 * weights - _FLOAT32 * single_moments(architecture, matrix_optimizer)
    state = gpus if parallelism.sharding == "full" else 1
    moments = gpus if parallelism.sharding != "none" else 1
    tokens = micro_batch_sequences * sequence_length
    share = tokens if batch_sequences is None else -(-batch_sequences // gpus) * sequence_length
    saved = saved_bytes(architecture, sequence_length, micro_batch_sequences, precision)
    return TrainingMemory(
        weights=weights / state,
        gradients=dense / state + _table_gradients(architecture, share, tokens),
        optimizer=(kept + steps) / moments + (weights if averaged else 0.0),
        activations=saved + tokens * _loss_bytes(architecture, precision),
    )


def saved_bytes(
    architecture: Architecture, sequence_length: int, micro_batch_sequences: int, precision: str = "bfloat16"
) -> float:
    """Return the bytes that the forward pass of a micro-batch and its loss save for the backward pass.

    Raises ConfigError for an unknown precision.
    """
    one_of("precision", precision, PRECISIONS)
    a = architecture
    kept = _Kept(precision)
    # Each application of a recurrent layer saves what the layer saves.
    num_dense = a.num_dense_layers + a.depth - a.num_layers
    per_token = (2 * a.depth + 1) * kept.norm(a.d_model)
    per_token += a.depth * kept.attention(a) + num_dense * kept.feed_forward(a.d_model, a.ffn_hidden)
    if a.loop is not None and a.loop.injection == "concatenate":
        per_token += a.loop.recurrences * kept.width * 2 * a.d_model  # its input: the state and the prelude's output
    if a.moe is not None:
        per_token += len(a.moe.layers) * kept.experts(a.d_model, a.moe, sequence_length)
    if a.memory is not None:
        per_token += len(a.memory.layers) * kept.memory(a.d_model, a.memory)
    if a.peer is not None:
        per_token += len(a.peer.layers) * kept.peer(a.d_model, a.peer)
    if a.ngram is not None:
        per_token += len(a.ngram.layers) * kept.ngram(a.d_model, a.ngram, sequence_length)
    if a.token_table is not None:
        per_token += len(a.token_table.layers) * kept.token_table(a, a.token_table)
    per_token -= kept.shared_inputs(a)
    # The token itself, the head's input, and the logarithms of the softmax.
    per_token += 2 * _INT64 + kept.width * a.d_model + _FLOAT32 * a.vocab_size
    # Rotation factors of the rotary positions, complex.
    turns = _FLOAT32 * a.head_width * sequence_length
    return micro_batch_sequences * sequence_length * per_token + turns + kept.copies(a)


def _table_rows(a: Architecture) -> int:
    """Return the number of rows of all tables."""
    rows = 0
    if a.memory is not None:
        rows += a.memory.num_tables * a.memory.num_slots
    if a.peer is not None:
        rows += 2 * len(a.peer.layers) * a.peer.num_slots
    if a.ngram is not None:
        rows += a.ngram.num_rows
    if a.token_table is not None:
        rows += len(a.token_table.layers) * a.vocab_size
    return rows


def _table_gradients(a: Architecture, tokens: int, tokens_at_once: int) -> float:
    """Return the bytes of the tables' gradients, each in the smaller of its two forms.

    1. Per lookup its slot and weight, and the gradient that its row is multiplied with, for all tokens of the device:
       per token that of the sum, v (in PEER's first table the input, d), or per lookup that of the row itself, which
       n-gram and token tables give on as it is.
    2. The same for one micro-batch only, and one sum per touched row, before and after it is added.
    """

    def smaller(rows: int, width: int, per_token: float) -> float:
        sums = rows * (_INT64 + _FLOAT32 * (1 + width))
        return float(min(tokens * per_token, 2 * sums + tokens_at_once * per_token))

    total = 0.0
    for part in (a.memory, a.peer):
        if part is not None:
            reads = part.num_heads * part.knn
            width, lookups, tables, bags = a.d_model, 2, 2 * len(part.layers), 1  # both of the same slots
            if isinstance(part, Memory):
                width, lookups, tables, bags = part.value_width, 1, part.num_tables, part.num_virtual_tables
            per_token = len(part.layers) * bags * (_INT64 * reads + lookups * _FLOAT32 * (reads + width))
            total += smaller(tables * part.num_slots, width, per_token)
    if a.ngram is not None:
        each = _INT64 + _FLOAT32 * (1 + a.ngram.row_width)
        total += smaller(a.ngram.num_rows, a.ngram.row_width, len(a.ngram.layers) * a.ngram.num_reads * each)
    if a.token_table is not None:
        width, num_layers = a.token_table.row_width, len(a.token_table.layers)
        total += smaller(num_layers * a.vocab_size, width, num_layers * (_INT64 + _FLOAT32 * (1 + width)))
    return total


def _loss_bytes(a: Architecture, precision: str) -> float:
    """Return the bytes per token of the logits and, in float32, of the gradients of log-softmax and of its input."""
    return (_Kept(precision).width + 2 * _FLOAT32) * a.vocab_size


class _Kept:
    """Bytes per token that each kind of module saves for the backward pass."""

    def __init__(self, precision: str) -> None:
        self.width = 2 if precision == "bfloat16" else _FLOAT32
        """Bytes of a value that enters a matrix product."""
        self._autocast = precision == "bfloat16"

    def norm(self, d: int) -> float:
        """RMSNorm: its input, one reciprocal root; on the CPU, where it is several ops, the normalised input too."""
        return _FLOAT32 * (d * (1 if self._autocast else 2) + 1)

    def attention(self, a: Architecture) -> float:
        """Input d; projections, (H + 2 G) w; rotated queries and keys, (H + G) w; output, H w; H log-sums."""
        heads, groups = a.num_heads * a.head_width, a.num_kv_heads * a.head_width
        return self.width * (a.d_model + 3 * heads + 3 * groups) + _FLOAT32 * a.num_heads

    def feed_forward(self, d: int, hidden: int) -> float:
        """Input d; gate and up, 2 h; silu of the gate, h; their product, h."""
        return self.width * (d + 4 * hidden)

    def experts(self, d: int, moe: MoE, sequence_length: int) -> float:
        """Router, chosen experts and shared experts.

        The router in float32: its input d, scores and logits, 2 E, and sums. Per chosen expert: input and output, 2 d;
        gate and up, 2 h; silu, h; four indices and two weights. The shared experts as a feed-forward layer.
        """
        chosen = moe.trained_experts_per_token(sequence_length)
        router = _FLOAT32 * (d + 2 * moe.num_experts + 2) + _INT64 if moe.has_router else 0
        rows = self.width * (2 * d + 3 * moe.expert_hidden) + 4 * _INT64 + 2 * _FLOAT32
        shared = self.width * 4 * moe.shared_experts * moe.expert_hidden
        if moe.shared_experts and self._autocast:
            shared += self.width * d
        return router + chosen * rows + shared

    def _layer_input(self, d: int, part: Memory | Peer) -> float:
        """Return the input d in float32 products, where a convolution keeps it from being that of the queries."""
        return 0.0 if self._autocast or part.query_conv is None else self.width * d

    def memory(self, d: int, memory: Memory) -> float:
        """Product keys, and what the output saves.

        The input of its matrix, E v. With a gate also its own input (which autocast casts again), the weighted sums,
        E v, in float32, and the gate before and after silu, 2 v. With expansion the slots, the weights and whose they
        are, E H k each.
        """
        v = memory.value_width
        kept = self._product_keys(d, memory)
        tables = memory.num_virtual_tables
        if memory.expansion is not None:
            kept += tables * memory.num_heads * memory.knn * (_INT64 + _FLOAT32 + 1)
        if memory.num_output_matrices:
            kept += self.width * tables * v
        if memory.gated:
            kept += _FLOAT32 * tables * v + self.width * 2 * v + (self.width * d if self._autocast else 0)
            kept += self._layer_input(d, memory)
        return kept

    def peer(self, d: int, peer: Peer) -> float:
        """Product keys; the products x . u_i, their gelu and its weighted value; the input in float32."""
        selected = peer.num_heads * peer.knn
        kept = self._product_keys(d, peer) + _FLOAT32 * 3 * selected + (_FLOAT32 * d if self._autocast else 0)
        return kept + self._layer_input(d, peer)

    def ngram(self, d: int, ngram: NGram, sequence_length: int) -> float:
        """Return what an n-gram memory saves.

        Rows and their addresses; keys and values, 2 d, which autocast has in bfloat16, so that the key is cast; two
        norms with their results; the gate, one number, five with a signed root. A convolution: a norm, its padded input
        and its result.
        """
        kept = float((_INT64 + self.width * ngram.row_width) * ngram.num_reads + self.width * 2 * d)
        kept += 2 * (self.norm(d) + _FLOAT32 * d) - (0 if self._autocast else _FLOAT32 * d)
        kept += _FLOAT32 * (5 if ngram.signed_root else 1) + (self.width if self._autocast else 0)
        if ngram.conv_width:
            reach = (ngram.conv_width - 1) * max(ngram.orders)
            kept += self.norm(d) + self.width * d * (2 + reach / sequence_length)
        return kept

    def token_table(self, a: Architecture, table: TokenTable) -> float:
        """Input d; gate, its activation, the row and their product, 4 F.

        Rows that are added to values: the sum is saved in the place of the projections' result, which has queries and
        keys besides.
        """
        if table.use == "values":
            return float(_INT64) - self.width * (a.num_heads + a.num_kv_heads) * a.head_width
        kept = _INT64 + self.width * (a.d_model + 4 * table.row_width)
        return kept + (self.norm(a.d_model) if table.use == "gated" else 0)

    def shared_inputs(self, a: Architecture) -> float:
        """Return what a layer and a part beside it would count twice: the input d where both save it as it is."""
        besides = ((layer, a.beside_kind(layer)) for layer in range(a.num_layers))
        shared = sum(
            self._saves_input(a, a.feed_forward_kind(layer)) and self._saves_input(a, beside)
            for layer, beside in besides
            if beside is not None
        )
        return _FLOAT32 * a.d_model * shared

    def _saves_input(self, a: Architecture, kind: str) -> bool:
        """Whether a layer of this kind saves its input in float32; autocast casts that of a matrix product for each."""
        if kind == "moe":
            return a.moe is not None and a.moe.has_router
        if self._autocast:
            return kind == "peer"
        # A memory layer that is convolved and not gated saves its convolved input alone.
        return kind != "memory" or a.memory is None or a.memory.query_conv is None or a.memory.gated

    def _product_keys(self, d: int, part: Memory | Peer) -> float:
        """Input d, in float32 too if convolved; queries H w, again if normalised; slots and weights, H k."""
        query = part.num_heads * part.key_width
        normed = {
            "none": self.width * query + 2 * _FLOAT32 * part.num_heads if part.qk_norm else 0,
            "batch": _FLOAT32 * query,
            "layer": _FLOAT32 * 2 * (query + part.num_heads),
        }[part.query_norm]
        slots = (_INT64 + _FLOAT32) * part.num_heads * part.knn
        if part.core_rank is not None:
            # Per head the 2 k half keys and k candidates by index; both halves' scores, and the core times one half's.
            slots += part.num_heads * part.knn * (3 * _INT64 + _FLOAT32 * 3 * part.core_rank)
        if part.query_conv is not None:
            slots += _FLOAT32 * d
        scored = self.width * query if part.query_norm == "none" else _FLOAT32 * query
        return self.width * d + scored + normed + slots

    def copies(self, a: Architecture) -> float:
        """Return what does not depend on the micro-batch: autocast's matrix copies, and normalised keys in float32."""
        kept = 0.0
        for keyed in (a.memory, a.peer):
            if keyed is not None and keyed.qk_norm:
                half_keys = keyed.num_heads * keyed.num_half_keys * keyed.num_ranks
                kept += _FLOAT32 * len(keyed.layers) * half_keys * keyed.key_width
        if self._autocast:
            multiplied = (
                "attention", "ffn", "injection", "experts", "shared_experts", "query", "memory_output",
                "ngram_projections", "ngram_conv", "token_projections",
            )  # fmt: skip
            matrices = sum(part.params for part in components(a, 1) if part.name in multiplied)
            kept += self.width * (matrices + a.d_model * a.vocab_size)
        return kept
