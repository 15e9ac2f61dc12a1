"""Exact counts of a model: parameters, rows, forward FLOPs and weights read, by component.

Model FLOPs: every matrix product with a multiply-add as 2, causal attention at (s + 1) / 2 keys, gathers, norms and
activations as 0; training = 3 x forward. Formulas: Berges et al. 2024, Lample et al. 2019 and He 2024 for product
keys, and the layer definitions in `memscale.models`, which build the same numbers. A memory layer stands in the place
of the feed-forward layer, not beside it. Other conventions stand beside ours in `conventions`, under their own names.

In the comments: d model width, H heads, n half keys per set, w width of a key, k selected, v width of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer

TRAINING_PASSES = 3
"""Training FLOPs over forward FLOPs: the backward pass costs two forward passes."""

_Row = tuple[str, int, int, float, int]
"""The fields of a Component in their order: a plan counts a hundred thousand models, and a tuple is quickly made."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One kind of part, summed over the layers that hold it."""

    name: str
    params: int
    active: int
    """Parameters a token passes through or reads in training; with expert choice on average, rounded."""
    flops: float
    """Forward FLOPs per token in training."""
    decode_weights: int
    """Weights read to generate one token of one sequence: of the embedding a row, of a table the selected rows, of
    the experts the chosen ones."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The counts of one model at one sequence length."""

    params_total: int
    params_active: int
    params_non_embedding: int
    """Without the embedding and the LM head; the table is counted."""
    params_table: int
    rows_read_per_token: int
    flops_per_token_forward: float


def components(architecture: Architecture, sequence_length: int) -> tuple[Component, ...]:
    """Count every component of `architecture`, which is trained at `sequence_length` tokens.

    In the order embedding, attention, norm, ffn, router, experts, shared_experts, query, key_scoring, table,
    memory_output, lm_head; what a family does not have is left out.
    """
    return tuple(
        Component(name=name, params=params, active=active, flops=flops, decode_weights=decode)
        for name, params, active, flops, decode in _rows(architecture, sequence_length)
    )


def count(architecture: Architecture, sequence_length: int) -> Counts:
    """Sum the components of `architecture`."""
    total = active = outer = table = 0
    flops = 0.0
    for name, row_params, row_active, row_flops, _ in _rows(architecture, sequence_length):
        total += row_params
        active += row_active
        flops += row_flops
        if name == "embedding" or name == "lm_head":
            outer += row_params
        elif name == "table":
            table += row_params
    return Counts(
        params_total=total,
        params_active=active,
        params_non_embedding=total - outer,
        params_table=table,
        rows_read_per_token=_rows_read(architecture),
        flops_per_token_forward=flops,
    )


def evaluation_flops(architecture: Architecture, sequence_length: int) -> float:
    """Return the forward FLOPs per token in evaluation, where expert choice sends a token to its top experts.

    For every other model they are those of training.
    """
    flops = count(architecture, sequence_length).flops_per_token_forward
    moe = architecture.moe
    if moe is None:
        return flops
    more = moe.experts_per_token - moe.trained_experts_per_token(sequence_length)
    return flops + 6.0 * architecture.d_model * moe.expert_hidden * len(moe.layers) * more


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """Training FLOPs per token as others count them."""

    six_n_total: float
    six_n_active: float
    six_n_non_embedding: float
    palm: float
    """6 N_active + 12 L d_attention s: full, not causal, attention (Chowdhery et al. 2022, appendix B)."""
    ludziejewski: float
    """6 N_active with the embedding and the LM head both counted (Ludziejewski et al. 2025). Ours counts a tied head
    once, so that only models with tied embeddings differ from `six_n_active`."""


def conventions(architecture: Architecture, sequence_length: int) -> Conventions:
    a = architecture
    counts = count(a, sequence_length)
    attention = 12.0 * a.num_layers * a.num_heads * a.head_width * sequence_length
    second_embedding = a.d_model * a.vocab_size if a.tied_embeddings else 0
    return Conventions(
        six_n_total=6.0 * counts.params_total,
        six_n_active=6.0 * counts.params_active,
        six_n_non_embedding=6.0 * counts.params_non_embedding,
        palm=6.0 * counts.params_active + attention,
        ludziejewski=6.0 * (counts.params_active + second_embedding),
    )


def _rows(a: Architecture, sequence_length: int) -> list[_Row]:
    d = a.d_model
    head = d * a.vocab_size
    rows: list[_Row] = [
        ("embedding", head, head, 0.0, d),
        _attention(a, sequence_length),
        _all("norm", (2 * a.num_layers + 1) * d, 0.0),
    ]
    part = a.moe or a.memory or a.peer
    num_dense = a.num_layers - (len(part.layers) if part is not None else 0)
    if num_dense:
        ffn = 3 * d * a.ffn_hidden * num_dense
        rows.append(_all("ffn", ffn, 2.0 * ffn))
    if a.moe is not None:
        rows += _moe(d, a.moe, sequence_length)
    elif a.memory is not None:
        rows += _memory(d, a.memory)
    elif a.peer is not None:
        rows += _peer(d, a.peer)
    stored = 0 if a.tied_embeddings else head
    rows.append(("lm_head", stored, stored, 2.0 * head, head))
    return rows


def _all(name: str, params: int, flops: float) -> _Row:
    """A part that every token passes through whole."""
    return name, params, params, flops, params


def _attention(a: Architecture, sequence_length: int) -> _Row:
    width = a.num_heads * a.head_width
    projections = a.d_model * 2 * (width + a.num_kv_heads * a.head_width)
    scores = 2.0 * width * (sequence_length + 1)
    return _all("attention", a.num_layers * projections, a.num_layers * (2.0 * projections + scores))


def _moe(d: int, moe: MoE, sequence_length: int) -> list[_Row]:
    router = d * moe.num_experts * len(moe.layers)
    expert = 3 * d * moe.expert_hidden * len(moe.layers)
    trained = expert * moe.trained_experts_per_token(sequence_length)
    rows: list[_Row] = [
        _all("router", router, 2.0 * router),
        ("experts", expert * moe.num_experts, round(trained), 2.0 * trained, expert * moe.experts_per_token),
    ]
    if moe.shared_experts:
        shared = expert * moe.shared_experts
        rows.append(_all("shared_experts", shared, 2.0 * shared))
    return rows


def _memory(d: int, memory: Memory) -> list[_Row]:
    v, num_layers = memory.value_width, len(memory.layers)
    table = memory.num_slots * v
    selected = memory.num_heads * memory.knn * v
    read = min(table, selected) * num_layers
    stored = table * memory.num_tables
    rows = _product_keys(d, memory)
    # Value sum: 2 H k v.
    rows.append(("table", stored, min(stored, read), 2.0 * selected * num_layers, read))
    if memory.gated:
        output = 2 * d * v * num_layers
        rows.append(_all("memory_output", output, 2.0 * output))
    return rows


def _peer(d: int, peer: Peer) -> list[_Row]:
    num_layers = len(peer.layers)
    table = 2 * peer.num_slots * d
    selected = 2 * peer.num_heads * peer.knn * d
    read = min(table, selected) * num_layers
    # x . u_i and the sum of the v_i: 4 H k d.
    return [*_product_keys(d, peer), ("table", table * num_layers, read, 2.0 * selected * num_layers, read)]


def _product_keys(d: int, part: Memory | Peer) -> list[_Row]:
    """Queries with a bias, and where they are batch- or layer-normalised a gain and a bias again; two sets of keys."""
    num_layers = len(part.layers)
    width = part.num_heads * part.key_width
    query = d * width
    vectors = width if part.query_norm == "none" else 3 * width
    keys = width * part.num_keys
    # Adding the halves' scores over the k x k candidates (H k^2) belongs to key scoring.
    scoring = 2.0 * keys + part.num_heads * part.knn**2
    return [
        _all("query", (query + vectors) * num_layers, 2.0 * query * num_layers),
        _all("key_scoring", keys * num_layers, scoring * num_layers),
    ]


def _rows_read(a: Architecture) -> int:
    """Rows of tables that a token reads: those of H k slots in every layer, where PEER reads two a slot."""
    if a.memory is not None:
        return a.memory.num_heads * a.memory.knn * len(a.memory.layers)
    if a.peer is not None:
        return 2 * a.peer.num_heads * a.peer.knn * len(a.peer.layers)
    return 0
