"""Exact counts of a model: parameters, rows and forward FLOPs, by component.

Model FLOPs: every matrix product with a multiply-add as 2, causal attention at (s + 1) / 2 keys, gathers as 0;
training = 3 x forward. Formulas: Berges et al. 2024 and the layer definitions in `memscale.models`, which build the
same numbers. Other conventions stand beside ours in `conventions`, under their own names.
"""

from __future__ import annotations

from dataclasses import dataclass

from memscale.config.architecture import Architecture

TRAINING_PASSES = 3
"""Training FLOPs over forward FLOPs: the backward pass costs two forward passes."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One kind of part, summed over the layers that hold it."""

    name: str
    params: int
    active: int
    """Parameters a token passes through or reads."""
    flops: float
    """Forward FLOPs per token."""


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
    """Count every component of `architecture`, which is read at `sequence_length` tokens."""
    a = architecture
    slots = [a.slot(layer) for layer in range(a.num_layers)]
    head = a.d_model * a.vocab_size
    parts = [
        Component(name="embedding", params=head, active=head, flops=0.0),
        _attention(a, sequence_length),
        _same("norm", (2 * a.num_layers + 1) * a.d_model, 0.0),
    ]
    if "dense" in slots:
        width = 3 * a.d_model * a.ffn_hidden * slots.count("dense")
        parts.append(_same("ffn", width, 2.0 * width))
    if a.moe is not None:
        parts.extend(_moe(a, slots.count("moe")))
    if a.memory is not None:
        parts.extend(_memory(a, slots.count("memory")))
    stored = 0 if a.tied_embeddings else head
    parts.append(Component(name="lm_head", params=stored, active=stored, flops=2.0 * head))
    return tuple(parts)


def count(architecture: Architecture, sequence_length: int) -> Counts:
    """Sum the components of `architecture`."""
    parts = components(architecture, sequence_length)
    total = sum(part.params for part in parts)
    outer = sum(part.params for part in parts if part.name in ("embedding", "lm_head"))
    memory = architecture.memory
    return Counts(
        params_total=total,
        params_active=sum(part.active for part in parts),
        params_non_embedding=total - outer,
        params_table=sum(part.params for part in parts if part.name == "table"),
        rows_read_per_token=memory.num_heads * memory.knn * len(memory.layers) if memory is not None else 0,
        flops_per_token_forward=sum(part.flops for part in parts),
    )


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """Training FLOPs per token as others count them."""

    six_n_total: float
    six_n_active: float
    six_n_non_embedding: float
    palm: float
    """6 N_active + 12 L d_attention s: full, not causal, attention (Chowdhery et al. 2022, appendix B)."""


def conventions(architecture: Architecture, sequence_length: int) -> Conventions:
    counts = count(architecture, sequence_length)
    attention = 12.0 * architecture.num_layers * architecture.num_heads * architecture.head_width * sequence_length
    return Conventions(
        six_n_total=6.0 * counts.params_total,
        six_n_active=6.0 * counts.params_active,
        six_n_non_embedding=6.0 * counts.params_non_embedding,
        palm=6.0 * counts.params_active + attention,
    )


def _same(name: str, params: int, flops: float) -> Component:
    return Component(name=name, params=params, active=params, flops=flops)


def _attention(a: Architecture, sequence_length: int) -> Component:
    projections = a.d_model * a.head_width * (2 * a.num_heads + 2 * a.num_kv_heads)
    scores = 4.0 * a.num_heads * a.head_width * (sequence_length + 1) / 2
    return _same("attention", a.num_layers * projections, a.num_layers * (2.0 * projections + scores))


def _moe(a: Architecture, num_layers: int) -> list[Component]:
    moe = a.moe
    assert moe is not None
    router = a.d_model * moe.num_experts * num_layers
    expert = 3 * a.d_model * moe.expert_hidden * num_layers
    active = expert * moe.experts_per_token
    return [
        _same("router", router, 2.0 * router),
        Component(name="experts", params=expert * moe.num_experts, active=active, flops=2.0 * active),
    ]


def _memory(a: Architecture, num_layers: int) -> list[Component]:
    memory = a.memory
    assert memory is not None
    heads, value = memory.num_heads, memory.value_width
    query = a.d_model * heads * memory.key_width
    keys = heads * memory.num_keys * memory.key_width
    output = 2 * a.d_model * value if memory.gated else 0
    rows = heads * memory.knn
    # Adding the halves' scores over the k x k candidates (H k^2) belongs to key scoring.
    scoring = 2.0 * keys + heads * memory.knn**2
    table = memory.num_slots * value
    return [
        _same("query", (query + heads * memory.key_width) * num_layers, 2.0 * query * num_layers),
        _same("key_scoring", keys * num_layers, scoring * num_layers),
        Component(
            name="table",
            params=table,
            active=min(table, rows * value * num_layers),
            flops=2.0 * rows * value * num_layers,
        ),
        _same("memory_output", output * num_layers, 2.0 * output * num_layers),
    ]
