"""The counts of each sparse part, for `memscale.planning.accounting`, which says what is counted and how.

Symbols: d model width, H heads, n half keys per set, w width of a key, k selected slots per head, v width of a row.
"""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.token_layers import NGram, TokenTable

ComponentFields = tuple[str, int, int, float, int]
"""The fields of a Component in order. A plan counts a hundred thousand models, and a tuple is faster to make."""


def dense_fields(name: str, params: int, flops: float) -> ComponentFields:
    """Return a component that every token uses whole."""
    return name, params, params, flops, params


def repeated_fields(name: str, params: int, applied: int, flops: float) -> ComponentFields:
    """Return a component that every token uses whole, `applied` weights of it if one counts each time it is used."""
    return name, params, params, flops, applied


def moe_fields(d: int, moe: MoE, sequence_length: int) -> list[ComponentFields]:
    """Return the router, unless ids name the experts, the routed and the shared experts."""
    router = d * moe.num_experts * len(moe.layers)
    expert = 3 * d * moe.expert_hidden * len(moe.layers)
    trained = expert * moe.trained_experts_per_token(sequence_length)
    rows: list[ComponentFields] = [dense_fields("router", router, 2.0 * router)] if moe.has_router else []
    rows.append(("experts", expert * moe.num_experts, round(trained), 2.0 * trained, expert * moe.experts_per_token))
    if moe.shared_experts:
        shared = expert * moe.shared_experts
        rows.append(dense_fields("shared_experts", shared, 2.0 * shared))
    return rows


def memory_fields(d: int, memory: Memory) -> list[ComponentFields]:
    """Return the product keys, the table, and the output if it has matrices."""
    v, num_layers = memory.value_width, len(memory.layers)
    table = memory.num_slots * v
    selected = memory.num_heads * memory.knn * v
    read = min(table, selected) * num_layers
    stored = table * memory.num_tables
    rows = _product_keys(d, memory)
    # Value sum: 2 H k v.
    rows.append(("table", stored, min(stored, read), 2.0 * selected * num_layers, read))
    if memory.num_output_matrices:
        output = memory.num_output_matrices * d * v * num_layers
        rows.append(dense_fields("memory_output", output, 2.0 * output))
    return rows


def peer_fields(d: int, peer: Peer) -> list[ComponentFields]:
    """Return the product keys and both tables."""
    num_layers = len(peer.layers)
    table = 2 * peer.num_slots * d
    selected = 2 * peer.num_heads * peer.knn * d
    read = min(table, selected) * num_layers
    # x . u_i and the sum of the v_i: 4 H k d.
    return [*_product_keys(d, peer), ("table", table * num_layers, read, 2.0 * selected * num_layers, read)]


def _product_keys(d: int, part: Memory | Peer) -> list[ComponentFields]:
    """Return queries (with a bias, and a gain and a bias of their normalisation) and the two sets of half keys.

    Between them, where queries are convolved, is the convolution.
    """
    num_layers = len(part.layers)
    width = part.num_heads * part.key_width
    query, conv = d * width, d * (part.query_conv or 0)
    vectors = width if part.query_norm == "none" else 3 * width
    keys = width * part.num_half_keys * part.num_ranks
    # Key scoring includes adding the scores of the two halves over k x k candidates: H k^2.
    scoring = 2.0 * keys + part.num_heads * part.knn**2
    if part.core_rank is not None:
        r, k = part.core_rank, part.knn
        scoring = 2.0 * keys + part.num_heads * (4.0 * part.num_half_keys * r + 2.0 * r * r * k + 2.0 * r * k * k)
        keys += part.num_heads * r * r
    return [
        dense_fields("query", (query + vectors) * num_layers, 2.0 * query * num_layers),
        *([dense_fields("query_conv", conv * num_layers, 2.0 * conv * num_layers)] if conv else []),
        dense_fields("key_scoring", keys * num_layers, scoring * num_layers),
    ]


def ngram_fields(d: int, ngram: NGram) -> list[ComponentFields]:
    """Return the tables, the projections, and the convolution if there is one."""
    num_layers, width = len(ngram.layers), ngram.memory_width
    read = width * num_layers  # each head and order has rows of its own
    projections = 2 * d * width * num_layers
    rows: list[ComponentFields] = [
        ("table", ngram.num_rows * ngram.row_width, read, 0.0, read),
        dense_fields("ngram_projections", projections, 2.0 * projections),
    ]
    if ngram.conv_width:
        conv = d * ngram.conv_width * num_layers
        rows.append(dense_fields("ngram_conv", conv, 2.0 * conv))
    return rows


def token_table_fields(a: Architecture, table: TokenTable) -> list[ComponentFields]:
    """Return the tables, and the projections unless rows are added to values."""
    num_layers, width = len(table.layers), table.row_width
    read = width * num_layers
    rows: list[ComponentFields] = [("table", a.vocab_size * read, read, 0.0, read)]
    if table.use != "values":
        projections = 2 * a.d_model * width * num_layers
        rows.append(dense_fields("token_projections", projections, 2.0 * projections))
    return rows


def rows_read(a: Architecture) -> int:
    """Return the table rows that a token reads.

    H k in every memory layer, 2 H k in every PEER layer, one for each order and head in a layer with n-gram memory, one
    in a layer with a token table.
    """
    rows = 0
    if a.memory is not None:
        rows += a.memory.num_heads * a.memory.knn * len(a.memory.layers)
    if a.peer is not None:
        rows += 2 * a.peer.num_heads * a.peer.knn * len(a.peer.layers)
    if a.ngram is not None:
        rows += a.ngram.num_reads * len(a.ngram.layers)
    if a.token_table is not None:
        rows += len(a.token_table.layers)
    return rows
