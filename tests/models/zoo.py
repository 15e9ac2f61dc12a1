"""One small model of every family and of every option that changes what a token may see."""

from __future__ import annotations

from typing import Any

import torch

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.token_layers import NGram, TokenTable


def architecture(family: str, **changes: Any) -> Architecture:
    """Three layers, grouped queries, every shape different from every other."""
    shapes: dict[str, Any] = {
        "d_model": 16, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_width": 6,
        "ffn_hidden": 20, "vocab_size": 61,
    }  # fmt: skip
    return Architecture(family=family, **{**shapes, **changes})


def moe(**changes: Any) -> MoE:
    given: dict[str, Any] = {"layers": (0, 2), "num_experts": 5, "experts_per_token": 2, "expert_hidden": 7}
    return MoE(**{**given, **changes})


def hashed(**changes: Any) -> MoE:
    given = {"routing": "hash", "renormalise": False, "balance": "none", "z_weight": 0.0}
    return moe(**{**given, **changes})


def memory(**changes: Any) -> Memory:
    given: dict[str, Any] = {
        "layers": (0, 2), "num_keys": 9, "num_heads": 3, "knn": 4, "key_width": 8, "value_width": 16,
    }  # fmt: skip
    return Memory(**{**given, **changes})


def peer(**changes: Any) -> Peer:
    given: dict[str, Any] = {"layers": (1,), "num_keys": 9, "num_heads": 3, "knn": 4, "key_width": 8}
    return Peer(**{**given, **changes})


def ngram(**changes: Any) -> NGram:
    given: dict[str, Any] = {"layers": (0, 2), "orders": (2, 3), "num_heads": 2, "rows_per_head": 11, "row_width": 3}
    return NGram(**{**given, **changes})


ZOO = {
    "dense": architecture("dense"),
    "dense, tied, a key head a head": architecture("dense", tied_embeddings=True, num_kv_heads=4),
    "moe top-1": architecture("moe", moe=moe(experts_per_token=1, renormalise=False)),
    "moe top-2": architecture("moe", moe=moe()),
    "moe sigmoid, shared, bias": architecture("moe", moe=moe(scores="sigmoid", shared_experts=1, balance="bias")),
    "moe expert choice": architecture(
        "moe",
        moe=moe(routing="expert_choice", experts_per_token=1, renormalise=False, balance="none", capacity_factor=2.0),
    ),
    "moe hash": architecture("moe", moe=hashed()),
    "moe hash top-1, shared": architecture("moe", moe=hashed(experts_per_token=1, shared_experts=1)),
    "pkm batch": architecture("pkm", memory=memory(query_norm="batch", shared_table=False, gated=False)),
    "pkm layer": architecture("pkm", memory=memory(query_norm="layer", shared_table=False, gated=False)),
    "memory": architecture("memory", memory=memory(layers=(1,), gated=False)),
    "memory_plus": architecture("memory_plus", memory=memory(value_width=5, qk_norm=True)),
    "memory_plus, own tables": architecture("memory_plus", memory=memory(value_width=5, shared_table=False)),
    "memory_plus beside": architecture("memory_plus", memory=memory(value_width=5, qk_norm=True, place="beside")),
    "peer beside": architecture("peer", peer=peer(layers=(0, 2), place="beside")),
    "memory projected": architecture("memory", memory=memory(value_width=5, gated=False, projection=True)),
    "memory tucker": architecture("memory", memory=memory(gated=False, core_rank=2)),
    "memory_plus tucker, no penalty": architecture(
        "memory_plus", memory=memory(value_width=5, qk_norm=True, core_rank=3, core_penalty=0.0)
    ),
    "peer tucker": architecture("peer", peer=peer(query_norm="layer", core_rank=2)),
    "memory convolved": architecture("memory", memory=memory(gated=False, query_conv=4)),
    "memory_plus convolved beside": architecture(
        "memory_plus", memory=memory(value_width=5, qk_norm=True, query_conv=3, place="beside")
    ),
    "peer convolved": architecture("peer", peer=peer(query_norm="batch", query_conv=2)),
    "memory_plus skip": architecture(
        "memory_plus", num_layers=4, memory=memory(layers=(0, 1), value_width=5, place="beside", skip=2)
    ),
    "memory expanded": architecture("memory", memory=memory(value_width=5, gated=False, projection=True, expansion=4)),
    "memory_plus expanded": architecture("memory_plus", memory=memory(value_width=5, qk_norm=True, expansion=9)),
    "ultramem": architecture(
        "memory",
        num_layers=4,
        memory=memory(
            layers=(0, 1),
            value_width=8,
            gated=False,
            projection=True,
            expansion=4,
            core_rank=2,
            weights="none",
            query_norm="layer",
            query_conv=4,
            place="beside",
            skip=2,
        ),
    ),
    "memory without softmax": architecture("memory", memory=memory(gated=False, weights="none")),
    "memory_plus relu": architecture("memory_plus", memory=memory(value_width=5, qk_norm=True, weights="relu", knn=9)),
    "peer without softmax": architecture("peer", peer=peer(weights="none")),
    "peer batch": architecture("peer", peer=peer(query_norm="batch")),
    "peer layer": architecture("peer", peer=peer(query_norm="layer")),
    "peer": architecture("peer", peer=peer()),
    "ngram": architecture("ngram", ngram=ngram()),
    "ngram, convolution, primes": architecture(
        "ngram", ngram=ngram(layers=(1,), orders=(2, 4), sizes="prime", conv_width=3, signed_root=False)
    ),
    "token table, gated": architecture("token_table", token_table=TokenTable(layers=(0, 1), row_width=5)),
    "token table, up": architecture("token_table", token_table=TokenTable(layers=(1,), use="up", row_width=20)),
    "token table, values": architecture("token_table", token_table=TokenTable(layers=(2,), use="values", row_width=12)),
    "experts and n-grams": architecture("mixture", moe=moe(layers=(1,)), ngram=ngram()),
    "experts, memory, n-grams, token table": architecture(
        "mixture",
        moe=moe(layers=(0,)),
        memory=memory(layers=(2,), value_width=5),
        ngram=ngram(layers=(2,)),
        token_table=TokenTable(layers=(1,), use="up", row_width=20),
    ),
    "experts, memory beside them": architecture(
        "mixture", moe=moe(), memory=memory(layers=(0, 1), value_width=5, core_rank=2, query_conv=3, place="beside")
    ),
    "experts, token tables, memory and PEER beside and late": architecture(
        "mixture",
        moe=moe(layers=(1,)),
        memory=memory(
            layers=(0,), value_width=5, gated=False, projection=True, shared_table=False, place="beside", skip=2
        ),
        peer=peer(weights="none", place="beside", skip=1),
        token_table=TokenTable(layers=(1, 2), row_width=5),
    ),
    "PEER, memory beside it, both convolved": architecture(
        "mixture",
        peer=peer(query_conv=2),
        memory=memory(layers=(1, 2), gated=False, query_conv=4, place="beside", weights="relu"),
    ),
    "peer qk-norm": architecture("peer", peer=peer(layers=(0, 2), qk_norm=True)),
    "looped": architecture("looped", loop=Loop(prelude=1, recurrent=1, coda=1, recurrences=3)),
    "looped, without ends": architecture("looped", loop=Loop(prelude=0, recurrent=3, coda=0, recurrences=2)),
    "looped, no injection": architecture(
        "looped", loop=Loop(prelude=0, recurrent=2, coda=1, recurrences=2, injection="none")
    ),
}


def tokens_of(architecture: Architecture, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randint(architecture.vocab_size, shape, generator=torch.Generator().manual_seed(seed))
