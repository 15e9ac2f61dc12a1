"""Exact counts of a model: parameters, rows, forward FLOPs and weights read, by component.

1. FLOPs are model FLOPs. Each matrix product counts a multiply-add as 2; gathers, norms and activations count as 0.
2. Causal attention: token i attends to i keys, so on average (s + 1) / 2; the products q k and p v cost 2 FLOPs per
   value and key each, together 4 x heads x head width x (s + 1) / 2.
3. Product keys (Lample et al. 2019, Berges et al. 2024, He 2024): H heads score 2 n half keys of width w / 2, which is
   2 H n w FLOPs; adding the k x k candidate scores costs H k^2; the weighted sum of H k rows of width v, 2 H k v. With
   a core of rank r (Huang et al. 2024) 2 r n half keys are scored, 2 H n w r; their rank-1 approximation costs 4 H n r,
   and the exact scores of k x k candidates 2 H r^2 k + 2 H r k^2.
4. With implicit value expansion (Huang et al. 2024) sqrt(E) n half keys are scored per set, and the output has E
   projections of 2 d v; a token still reads H k rows.
5. A convolution of width c over the queries' inputs costs 2 d c FLOPs.
6. N-gram memory (Cheng et al. 2026): two projections of the m values read, 4 m d; a convolution over c tokens, 2 c d.
   Addresses and the gate's product are elementwise. There is no term in the number of rows.
7. Training costs 3 x forward: the backward pass is two products for each one of the forward pass.
8. A looped model's recurrent layers and its injection (2 d^2 parameters) are stored once, and cost FLOPs and reads of
   weights in each of their r recurrences (Geiping et al. 2025).

A sparse layer replaces the feed-forward layer of its block, or stands beside it (`place`). The modules of
`memscale.models` have the same parameters, and torch's own FLOP counter agrees
(tests/planning/test_counts_against_models.py). Other conventions are in `conventions`, under their own names.

Symbols: d model width, H heads, n half keys per set, w width of a key, k selected slots per head, v width of a row,
s sequence length.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.architecture import MIXTURE, Architecture
from memscale.planning.part_counts import (
    ComponentFields,
    memory_fields,
    moe_fields,
    ngram_fields,
    peer_fields,
    repeated_fields,
    rows_read,
    token_table_fields,
)

TRAINING_PASSES = 3
"""Training FLOPs divided by forward FLOPs: the backward pass costs twice the forward pass."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One kind of component, summed over the layers that have it."""

    name: str
    params: int
    active: int
    """Parameters that one token uses in training; with expert choice the average, rounded."""
    flops: float
    """Forward FLOPs per token in training."""
    decode_weights: int
    """Weights read to generate one token of one sequence: one row of the embedding, the selected rows of a table, the
    chosen experts, and all of everything else; those of recurrent layers in each recurrence."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The counts of one model, trained at one sequence length."""

    params_total: int
    params_active: int
    """Parameters that one token uses: of the experts the chosen ones, of a table the selected rows."""
    params_non_embedding: int
    """Parameters without the embedding and the LM head; memory tables are included."""
    params_table: int
    """Parameters of all memory tables."""
    rows_read_per_token: int
    """Table rows that a token reads, over all memory layers."""
    flops_per_token_forward: float


def components(architecture: Architecture, sequence_length: int) -> tuple[Component, ...]:
    """Count the parameters, forward FLOPs per token and weights read of every component.

    Args:
        architecture: The model.
        sequence_length: Tokens per training sequence; attention and expert choice depend on it.

    Returns:
        The components in the order embedding, attention, norm, ffn, injection, router, experts, shared_experts,
        query, query_conv, key_scoring, table, memory_output, ngram_projections, ngram_conv, token_projections, lm_head,
        without those that the model does not have. Tables of several parts are one component.

    Example:
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> for part in components(dense, sequence_length=128):
        ...     print(f"{part.name:<10} {part.params:>7,} parameters {part.flops:>9,.0f} FLOPs per token")
        embedding   65,536 parameters         0 FLOPs per token
        attention   65,536 parameters   197,120 FLOPs per token
        norm           576 parameters         0 FLOPs per token
        ffn        135,168 parameters   270,336 FLOPs per token
        lm_head     65,536 parameters   131,072 FLOPs per token
    """
    return tuple(
        Component(name=name, params=params, active=active, flops=flops, decode_weights=decode)
        for name, params, active, flops, decode in _component_fields(architecture, sequence_length)
    )


def count(architecture: Architecture, sequence_length: int) -> Counts:
    """Count the parameters and the forward FLOPs per token of a model; the sums over `components`.

    Args:
        architecture: The model.
        sequence_length: Tokens per training sequence; attention and expert choice depend on it.

    Returns:
        The exact counts. Training costs `TRAINING_PASSES` x `flops_per_token_forward` per token.

    Example:
        >>> dense = Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=4, head_width=16,
        ...                      ffn_hidden=176, vocab_size=1024)
        >>> counts = count(dense, sequence_length=128)
        >>> counts.params_total, counts.params_non_embedding, counts.flops_per_token_forward
        (332352, 201280, 598528.0)
    """
    total = active = outer = table = 0
    flops = 0.0
    for name, row_params, row_active, row_flops, _ in _component_fields(architecture, sequence_length):
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
        rows_read_per_token=rows_read(architecture),
        flops_per_token_forward=flops,
    )


def evaluation_flops(architecture: Architecture, sequence_length: int) -> float:
    """Return the forward FLOPs per token in evaluation.

    They differ from those of training only with expert choice, which in evaluation sends every token to its
    `experts_per_token` top experts instead of `capacity_factor` experts on average.
    """
    flops = count(architecture, sequence_length).flops_per_token_forward
    moe = architecture.moe
    if moe is None:
        return flops
    more = moe.experts_per_token - moe.trained_experts_per_token(sequence_length)
    return flops + 6.0 * architecture.d_model * moe.expert_hidden * len(moe.layers) * more


def unused_params(architecture: Architecture, part: str, sequence_length: int) -> int:
    """Return the parameters of a sparse part that are stored and that a token does not use in training.

    Args:
        architecture: The model.
        part: A field of `architecture.parts`.
        sequence_length: Tokens per training sequence.

    """
    d = architecture.d_model
    rows: list[ComponentFields] = []
    if part == "moe" and architecture.moe is not None:
        rows = moe_fields(d, architecture.moe, sequence_length)
    elif part == "memory" and architecture.memory is not None:
        rows = memory_fields(d, architecture.memory)
    elif part == "peer" and architecture.peer is not None:
        rows = peer_fields(d, architecture.peer)
    elif part == "ngram" and architecture.ngram is not None:
        rows = ngram_fields(d, architecture.ngram)
    elif part == "token_table" and architecture.token_table is not None:
        rows = token_table_fields(architecture, architecture.token_table)
    return sum(params - active for _, params, active, _, _ in rows)


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """Training FLOPs per token in other conventions; N counts parameters, those of recurrent layers once."""

    six_n_total: float
    """6 x all parameters."""
    six_n_active: float
    """6 x active parameters."""
    six_n_non_embedding: float
    """6 x non-embedding parameters (Kaplan et al. 2020)."""
    palm: float
    """6 N_active + 12 L d_attention s, with attention over all s keys (Chowdhery et al. 2022, appendix B); L counts the
    layers that a token passes through."""
    ludziejewski: float
    """6 N_active with both embedding and LM head counted (Ludziejewski et al. 2025); it differs from `six_n_active`
    only where the two are tied, which `count` counts once."""


def conventions(architecture: Architecture, sequence_length: int) -> Conventions:
    """Return the training FLOPs per token of `architecture` in other conventions, to compare with published numbers."""
    a = architecture
    counts = count(a, sequence_length)
    attention = 12.0 * a.depth * a.num_heads * a.head_width * sequence_length
    second_embedding = a.d_model * a.vocab_size if a.tied_embeddings else 0
    return Conventions(
        six_n_total=6.0 * counts.params_total,
        six_n_active=6.0 * counts.params_active,
        six_n_non_embedding=6.0 * counts.params_non_embedding,
        palm=6.0 * counts.params_active + attention,
        ludziejewski=6.0 * (counts.params_active + second_embedding),
    )


def _component_fields(a: Architecture, sequence_length: int) -> list[ComponentFields]:
    d = a.d_model
    head = d * a.vocab_size
    rows: list[ComponentFields] = [
        ("embedding", head, head, 0.0, d),
        _attention(a, sequence_length),
        repeated_fields("norm", _norms(a, a.num_layers) * d, _norms(a, a.depth) * d, 0.0),
    ]
    if num_dense := a.num_dense_layers:
        ffn = 3 * d * a.ffn_hidden
        applied = ffn * (num_dense + a.depth - a.num_layers)
        rows.append(repeated_fields("ffn", ffn * num_dense, applied, 2.0 * applied))
    if a.loop is not None and a.loop.injection == "concatenate":
        applied = 2 * d * d * a.loop.recurrences
        rows.append(repeated_fields("injection", 2 * d * d, applied, 2.0 * applied))
    if a.moe is not None:
        rows += moe_fields(d, a.moe, sequence_length)
    if a.memory is not None:
        rows += memory_fields(d, a.memory)
    if a.peer is not None:
        rows += peer_fields(d, a.peer)
    if a.ngram is not None:
        rows += ngram_fields(d, a.ngram)
    if a.token_table is not None:
        rows += token_table_fields(a, a.token_table)
    if a.family == MIXTURE:
        rows = _merged(rows)
    stored = 0 if a.tied_embeddings else head
    rows.append(("lm_head", stored, stored, 2.0 * head, head))
    return rows


def _norms(a: Architecture, layers: int) -> int:
    """Return the number of norms as wide as the model in so many layers, stored or passed through."""
    norms = 2 * layers + 1
    if a.ngram is not None:
        norms += (3 if a.ngram.conv_width else 2) * len(a.ngram.layers)
    if a.token_table is not None and a.token_table.use == "gated":
        norms += len(a.token_table.layers)
    return norms


def _merged(rows: list[ComponentFields]) -> list[ComponentFields]:
    """Return one component for all of one name, where the first of them stood."""
    sums: dict[str, ComponentFields] = {}
    for name, *numbers in rows:
        before = sums.get(name, (name, 0, 0, 0.0, 0))
        params, active, flops, read = (x + y for x, y in zip(before[1:], numbers, strict=True))
        sums[name] = name, int(params), int(active), flops, int(read)
    return list(sums.values())


def _attention(a: Architecture, sequence_length: int) -> ComponentFields:
    width = a.num_heads * a.head_width
    projections = a.d_model * 2 * (width + a.num_kv_heads * a.head_width)
    scores = 2.0 * width * (sequence_length + 1)
    applied = a.depth * projections
    return repeated_fields("attention", a.num_layers * projections, applied, 2.0 * applied + a.depth * scores)
