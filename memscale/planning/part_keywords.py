"""The keywords of a sparse part beside a dense model: what its family gives, and defaults that follow from the model.

Those of open widths are None, until a solver fills them in (`memscale.planning.widths`).
"""

from __future__ import annotations

import math
from typing import Any

from memscale.config.architecture import Architecture
from memscale.config.family import (
    MemoryPlusFamily,
    MemoryTableFamily,
    MoEFamily,
    NGramFamily,
    PlacedFamily,
    ProductKeyFamily,
    TokenTableFamily,
)
from memscale.planning.shapes import placed_layers


def part_keywords(family: PlacedFamily, dense: Architecture) -> dict[str, Any]:
    """Return the keywords of a family's sparse part; those of open widths are None."""
    layers = placed_layers(family, dense.num_layers)
    if isinstance(family, MoEFamily):
        return {"layers": layers, **_moe(family, dense)}
    if isinstance(family, NGramFamily):
        return {"layers": layers, **_ngram(family, dense)}
    if isinstance(family, TokenTableFamily):
        values = dense.num_kv_heads * dense.head_width
        width = {"gated": family.row_width, "up": dense.ffn_hidden, "values": values}[family.use]
        return {"layers": layers, "use": family.use, "row_width": width}
    assert isinstance(family, ProductKeyFamily)
    return {"layers": layers, **_product_keys(family, dense)}


def _ngram(family: NGramFamily, dense: Architecture) -> dict[str, Any]:
    reads = len(family.orders) * family.num_heads
    return {
        "orders": family.orders,
        "num_heads": family.num_heads,
        "rows_per_head": family.rows_per_head,
        "row_width": family.row_width or math.ceil(dense.d_model / 2 / reads),
        "sizes": family.sizes,
        "signed_root": family.signed_root,
        "conv_width": family.conv_width,
        "rows_multiple_of": family.rows_multiple_of,
        "hash_seed": family.hash_seed,
    }


def _moe(family: MoEFamily, dense: Architecture) -> dict[str, Any]:
    token_choice = family.routing == "token_choice"
    renormalise = family.renormalise
    # Nothing is scored with hash routing: a weight left at its default means no loss, any other is refused by MoE.
    unweighted = family.routing == "hash" and family.z_weight == MoEFamily.z_weight
    return {
        "num_experts": family.num_experts,
        "experts_per_token": family.experts_per_token,
        "expert_hidden": family.expert_hidden or dense.ffn_hidden,
        "shared_experts": family.shared_experts,
        "routing": family.routing,
        "scores": family.scores,
        "renormalise": family.experts_per_token > 1 and token_choice if renormalise is None else renormalise,
        "capacity_factor": family.capacity_factor,
        "balance": family.balance or ("loss" if token_choice else "none"),
        "balance_weight": family.balance_weight,
        "bias_rate": family.bias_rate,
        "z_weight": 0.0 if unweighted else family.z_weight,
    }


def _product_keys(family: ProductKeyFamily, dense: Architecture) -> dict[str, Any]:
    part: dict[str, Any] = {
        "num_keys": None if family.num_slots is None else math.isqrt(family.num_slots),
        "num_heads": family.num_heads,
        "knn": family.knn,
        "key_width": family.key_width or max(2, dense.d_model // 4 * 2),
        "qk_norm": family.qk_norm,
        "query_norm": family.query_norm,
        "core_rank": family.core_rank,
        "core_penalty": family.core_penalty,
        "query_conv": family.query_conv,
        "weights": family.weights,
        "place": family.place,
        "skip": family.skip,
    }
    if not isinstance(family, MemoryTableFamily):
        return part
    part["value_width"] = getattr(family, "value_width", None) or dense.d_model
    part["gated"] = isinstance(family, MemoryPlusFamily) and family.gated
    part["projection"] = family.projection
    part["expansion"] = family.expansion
    part["shared_table"] = family.family != "pkm"
    return part
