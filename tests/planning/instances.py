"""Families, and by hand the architecture that each means at given widths: what the solver is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memscale.config.architecture import Architecture
from memscale.config.family import (
    Family,
    MemoryFamily,
    MemoryPlusFamily,
    MixtureFamily,
    MoEFamily,
    NGramFamily,
    PeerFamily,
    PKMFamily,
    TokenTableFamily,
)
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.matching import Free
from memscale.config.token_layers import NGram, TokenTable

SEQUENCE = 48
LAYERS = 3


def small(d_model: int, ffn_hidden: int) -> Architecture:
    return Architecture(
        family="dense",
        d_model=d_model,
        num_layers=LAYERS,
        num_heads=1,
        num_kv_heads=1,
        head_width=d_model,
        ffn_hidden=ffn_hidden,
        vocab_size=40,
    )


@dataclass(frozen=True)
class Instance:
    """A family, and by hand the architecture that it means at given widths."""

    family: Family
    build: Callable[[Architecture, int, int], Architecture]
    least: tuple[int, int]
    """Of the outer and of the inner width."""
    step: tuple[int, int] = (1, 1)
    free: Free | None = None
    monotone: bool = True


def moe(k: int, shared: int, routing: str, width_step: int = 1) -> Instance:
    chosen = routing == "token_choice"

    def build(dense: Architecture, outer: int, inner: int) -> Architecture:
        part = MoE(
            layers=(0, 1, 2),
            num_experts=outer,
            experts_per_token=k,
            expert_hidden=inner,
            shared_experts=shared,
            routing=routing,
            renormalise=chosen and k > 1,
            balance="loss" if chosen else "none",
            z_weight=0.0 if routing == "hash" else 0.001,
        )
        return Architecture(**{**vars(dense), "family": "moe", "moe": part})

    family = MoEFamily(name="moe", experts_per_token=k, shared_experts=shared, routing=routing)
    return Instance(family, build, (k, width_step), (1, width_step), monotone=routing != "expert_choice")


def memory_plus(
    inner_width: str, gated: bool = True, root_step: int = 1, num_heads: int = 2, **options: Any
) -> Instance:
    """`options` are those that a family and its layer both have, such as `place`."""
    knn = 2

    def build(dense: Architecture, outer: int, inner: int) -> Architecture:
        widths = {"key_width": max(2, dense.d_model // 4 * 2), "value_width": dense.d_model}
        hidden = dense.ffn_hidden
        if inner_width == "ffn_hidden":
            hidden = inner
        else:
            widths[inner_width] = inner
        keys = {"num_keys": outer, "num_heads": num_heads, "knn": knn}
        part = Memory(layers=(1,), **keys, gated=gated, qk_norm=True, **widths, **options)
        return Architecture(**{**vars(dense), "family": "memory_plus", "ffn_hidden": hidden, "memory": part})

    family = MemoryPlusFamily(name="plus", centred=1, num_heads=num_heads, knn=knn, gated=gated, **options)
    step = 2 if inner_width == "key_width" else 1
    least = (-(-knn // root_step) * root_step, step)
    return Instance(family, build, least, (root_step, step), Free(name="plus", widths=("num_slots", inner_width)))


def own_table(kind: str, root_step: int = 1) -> Instance:
    def build(dense: Architecture, outer: int, inner: int) -> Architecture:
        keys = {"num_keys": outer, "num_heads": 1, "knn": 3, "key_width": max(2, dense.d_model // 4 * 2)}
        replaced = {**vars(dense), "family": kind, "ffn_hidden": inner}
        if kind == "peer":
            return Architecture(**{**replaced, "peer": Peer(layers=(1,), query_norm="batch", **keys)})
        shared = kind == "memory"
        norm = "none" if shared else "batch"
        part = Memory(layers=(1,), value_width=dense.d_model, gated=False, shared_table=shared, query_norm=norm, **keys)
        return Architecture(**{**replaced, "memory": part})

    classes = {"pkm": PKMFamily, "memory": MemoryFamily, "peer": PeerFamily}
    return Instance(
        classes[kind](name=kind, num_heads=1, knn=3), build, (-(-3 // root_step) * root_step, 1), (root_step, 1)
    )


def ngram(num_heads: int, conv_width: int) -> Instance:
    def part(outer: int) -> NGram:
        shape = {"layers": (0, 1), "num_heads": num_heads, "orders": (2, 4), "conv_width": conv_width}
        return NGram(rows_per_head=outer, row_width=3, **shape)

    def build(dense: Architecture, outer: int, inner: int) -> Architecture:
        return Architecture(**{**vars(dense), "family": "ngram", "ffn_hidden": inner, "ngram": part(outer)})

    family = NGramFamily(
        name="ngram", layers=(0, 1), num_heads=num_heads, orders=(2, 4), conv_width=conv_width, row_width=3
    )
    return Instance(family, build, (2, 1), (2, 1))


def token_rows() -> Instance:
    def build(dense: Architecture, outer: int, inner: int) -> Architecture:
        part = TokenTable(layers=(0, 2), row_width=outer)
        return Architecture(**{**vars(dense), "family": "token_table", "ffn_hidden": inner, "token_table": part})

    return Instance(TokenTableFamily(name="rows", layers=(0, 2)), build, (1, 1))


def mixed(num_experts: int, table: str, expert_step: int) -> Instance:
    """Experts of a given number, and a table whose size is solved; the experts' width meets the terms."""

    def build(dense: Architecture, outer: int, inner: int) -> Architecture:
        parts: dict[str, Any] = {}
        layers = (0, 1, 2) if table == "ngram" else (0, 2)
        parts["moe"] = MoE(layers=layers, num_experts=num_experts, experts_per_token=2, expert_hidden=inner)
        if table == "ngram":
            parts["ngram"] = NGram(layers=(0, 1), num_heads=2, rows_per_head=outer, row_width=3)
        else:
            width, keys = dense.d_model, max(2, dense.d_model // 4 * 2)
            parts["memory"] = Memory(
                layers=(1,), num_keys=outer, num_heads=2, knn=2, key_width=keys, value_width=width, qk_norm=True
            )
        return Architecture(**{**vars(dense), "family": "mixture", **parts})

    other: Family = NGramFamily(name="n", layers=(0, 1), num_heads=2, row_width=3)
    if table == "memory":
        other = MemoryPlusFamily(name="m", centred=1, num_heads=2, knn=2)
    family = MixtureFamily(name="mixed", parts=(MoEFamily(name="e", num_experts=num_experts), other))
    return Instance(family, build, (2, expert_step), (2 if table == "ngram" else 1, expert_step))
