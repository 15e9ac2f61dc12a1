"""Random architectures of every family and with every option, for properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from memscale.config.architecture import FAMILIES, Architecture
from memscale.config.layers import (
    BALANCES,
    PLACES_IN_BLOCK,
    QUERY_NORMS,
    ROUTINGS,
    SCORES,
    SLOT_WEIGHTS,
    Memory,
    MoE,
    Peer,
)


@st.composite
def architectures(draw: st.DrawFn, family: str | None = None, most_layers: int = 4) -> Architecture:
    """A small architecture that any check allows; of `family`, or of any."""
    family = family or draw(st.sampled_from(FAMILIES))
    num_layers = draw(st.integers(1, most_layers))
    layers = tuple(sorted(draw(st.sets(st.integers(0, num_layers - 1), min_size=1))))
    kv_heads = draw(st.integers(1, 3))
    d_model = draw(st.integers(4, 48))
    return Architecture(
        family=family,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=kv_heads * draw(st.integers(1, 3)),
        num_kv_heads=kv_heads,
        head_width=2 * draw(st.integers(1, 8)),
        ffn_hidden=draw(st.integers(1, 64)),
        vocab_size=draw(st.integers(8, 300)),
        tied_embeddings=draw(st.booleans()),
        moe=draw(moes(layers)) if family == "moe" else None,
        memory=draw(memories(family, d_model, layers, num_layers))
        if family in ("pkm", "memory", "memory_plus")
        else None,
        peer=draw(peers(layers, num_layers)) if family == "peer" else None,
    )


@st.composite
def moes(draw: st.DrawFn, layers: tuple[int, ...]) -> MoE:
    """Both routings; shared experts; each way of scoring and of balancing that the routing allows."""
    num_experts = draw(st.integers(1, 8))
    experts_per_token = draw(st.integers(1, num_experts))
    expert_choice = draw(st.sampled_from(ROUTINGS)) == "expert_choice"
    return MoE(
        layers=layers,
        num_experts=num_experts,
        experts_per_token=experts_per_token,
        expert_hidden=draw(st.integers(1, 40)),
        shared_experts=draw(st.integers(0, 2)),
        routing="expert_choice" if expert_choice else "token_choice",
        scores=draw(st.sampled_from(SCORES)),
        renormalise=draw(st.booleans()) if experts_per_token > 1 and not expert_choice else False,
        capacity_factor=draw(st.floats(0.25, num_experts)) if expert_choice else 1.0,
        balance="none" if expert_choice else draw(st.sampled_from(BALANCES)),
    )


@st.composite
def places(draw: st.DrawFn, layers: tuple[int, ...], num_layers: int) -> dict[str, Any]:
    """In place of the dense layer, beside it, or beside it and added some blocks later."""
    place = draw(st.sampled_from(PLACES_IN_BLOCK))
    skips = [None, *range(1, num_layers - layers[-1])] if place == "beside" else [None]
    return {"place": place, "skip": draw(st.sampled_from(skips))}


@st.composite
def memories(draw: st.DrawFn, family: str, d_model: int, layers: tuple[int, ...], num_layers: int) -> Memory:
    """A shared table or one a layer, gated or not; a family's own settings are likely, but none is certain."""
    num_keys = draw(st.integers(1, 20))
    gated = draw(st.booleans())
    projection = not gated and draw(st.booleans())
    qk_norm = draw(st.booleans())
    return Memory(
        layers=layers,
        num_keys=num_keys,
        num_heads=draw(st.integers(1, 4)),
        knn=draw(st.integers(1, num_keys)),
        key_width=2 * draw(st.integers(1, 12)),
        qk_norm=qk_norm,
        query_norm="none" if qk_norm else draw(st.sampled_from(QUERY_NORMS)),
        value_width=draw(st.integers(1, 40)) if gated or projection else d_model,
        projection=projection,
        expansion=draw(st.sampled_from([None, None, 4, 9])) if gated or projection else None,
        shared_table=draw(st.booleans()) if family != "pkm" else False,
        gated=gated,
        **draw(places(layers, num_layers)),
        weights=draw(st.sampled_from(SLOT_WEIGHTS)),
        query_conv=draw(st.sampled_from([None, None, 2, 4])),
        core_rank=draw(st.sampled_from([None, None, 1, 2, 3])),
    )


@st.composite
def peers(draw: st.DrawFn, layers: tuple[int, ...], num_layers: int) -> Peer:
    """Every way of normalising the query."""
    num_keys = draw(st.integers(1, 20))
    qk_norm = draw(st.booleans())
    return Peer(
        layers=layers,
        num_keys=num_keys,
        num_heads=draw(st.integers(1, 4)),
        knn=draw(st.integers(1, num_keys)),
        key_width=2 * draw(st.integers(1, 12)),
        qk_norm=qk_norm,
        query_norm="none" if qk_norm else draw(st.sampled_from(QUERY_NORMS)),
        **draw(places(layers, num_layers)),
        weights=draw(st.sampled_from(SLOT_WEIGHTS)),
        query_conv=draw(st.sampled_from([None, None, 2, 4])),
        core_rank=draw(st.sampled_from([None, None, 1, 2, 3])),
    )
