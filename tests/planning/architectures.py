"""Random architectures of every family and with every option, for properties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from memscale.config.architecture import FAMILIES, MIXTURE, PARTS, SPARSE_PARTS, Architecture
from memscale.config.layers import (
    BALANCES,
    QUERY_NORMS,
    ROUTINGS,
    SCORES,
    SLOT_WEIGHTS,
    Memory,
    MoE,
    Peer,
)
from memscale.config.loop import INJECTIONS, Loop
from memscale.config.token_layers import TABLE_SIZES, TOKEN_USES, NGram, TokenTable


@st.composite
def architectures(draw: st.DrawFn, family: str | None = None, most_layers: int = 4) -> Architecture:
    """A small architecture that any check allows; of `family`, or of any."""
    family = family or draw(st.sampled_from(FAMILIES))
    num_layers = draw(st.integers(1, most_layers))
    kv_heads = draw(st.integers(1, 3))
    shape: dict[str, Any] = {
        "d_model": draw(st.integers(4, 48)),
        "num_kv_heads": kv_heads,
        "num_heads": kv_heads * draw(st.integers(1, 3)),
        "head_width": 2 * draw(st.integers(1, 8)),
        "ffn_hidden": draw(st.integers(1, 64)),
    }
    if family == MIXTURE:
        names = sorted(draw(st.sets(st.sampled_from(SPARSE_PARTS), min_size=2, max_size=3)))
    else:
        names = [PARTS[family]] if PARTS[family] in SPARSE_PARTS else []
    return Architecture(
        family=family,
        num_layers=num_layers,
        vocab_size=draw(st.integers(8, 300)),
        tied_embeddings=draw(st.booleans()),
        **shape,
        **draw(parts(names, family, num_layers, shape)),
        loop=draw(loops(num_layers)) if family == "looped" else None,
    )


@st.composite
def parts(
    draw: st.DrawFn, names: list[str], family: str, num_layers: int, shape: dict[str, Any]
) -> dict[str, MoE | Memory | Peer | NGram | TokenTable]:
    """The named parts; those in the place of a feed-forward layer share out the layers, the last part the rest.

    Memory and PEER layers may stand beside any layer, but not both beside one.
    """
    free, not_beside = list(range(num_layers)), list(range(num_layers))
    found: dict[str, Any] = {}
    for name in names:
        use = draw(st.sampled_from(TOKEN_USES)) if name == "token_table" else None
        if name in ("memory", "peer") and not_beside and draw(st.booleans()):
            layers = tuple(sorted(draw(st.sets(st.sampled_from(not_beside), min_size=1))))
            not_beside = [layer for layer in not_beside if layer not in layers]
            skip = draw(st.sampled_from([None, *range(1, num_layers - layers[-1])]))
            place = {"place": "beside", "skip": skip}
            keyed = memories(family, shape["d_model"], layers) if name == "memory" else peers(layers)
            found[name] = replace(draw(keyed), **place)
            continue
        takes_the_slot = name in ("moe", "memory", "peer") or use == "up"
        if takes_the_slot and not free:
            if name == "token_table":
                use, takes_the_slot = "gated", False
            else:
                name = "ngram" if "ngram" not in names else "token_table"
                use, takes_the_slot = "values", False
                if name in found:
                    continue
        choice = free if takes_the_slot else list(range(num_layers))
        most = max(1, len(free) - 1) if family == MIXTURE and takes_the_slot else len(choice)
        layers = tuple(sorted(draw(st.sets(st.sampled_from(choice), min_size=1, max_size=most))))
        if takes_the_slot:
            free = [layer for layer in free if layer not in layers]
        if name == "moe":
            found[name] = draw(moes(layers))
        elif name == "memory":
            found[name] = draw(memories(family, shape["d_model"], layers))
        elif name == "peer":
            found[name] = draw(peers(layers))
        elif name == "ngram":
            found[name] = draw(ngrams(layers))
        else:
            assert use is not None
            values = shape["num_kv_heads"] * shape["head_width"]
            width = {"up": shape["ffn_hidden"], "values": values}.get(use) or draw(st.integers(1, 24))
            found[name] = TokenTable(layers=layers, use=use, row_width=width)
    return found


@st.composite
def ngrams(draw: st.DrawFn, layers: tuple[int, ...]) -> NGram:
    """Both kinds of sizes, with and without a convolution."""
    return NGram(
        layers=layers,
        orders=tuple(sorted(draw(st.sets(st.integers(2, 5), min_size=1, max_size=3)))),
        num_heads=draw(st.integers(1, 4)),
        rows_per_head=draw(st.integers(1, 60)),
        row_width=draw(st.integers(1, 10)),
        sizes=draw(st.sampled_from(TABLE_SIZES)),
        signed_root=draw(st.booleans()),
        conv_width=draw(st.sampled_from((0, 2, 4))),
        rows_multiple_of=draw(st.sampled_from((1, 16))),
        hash_seed=draw(st.integers(0, 9)),
    )


@st.composite
def moes(draw: st.DrawFn, layers: tuple[int, ...]) -> MoE:
    """Every routing; shared experts; each way of scoring and of balancing that the routing allows."""
    num_experts = draw(st.integers(1, 8))
    experts_per_token = draw(st.integers(1, num_experts))
    routing = draw(st.sampled_from(ROUTINGS))
    expert_choice, token_choice, hashed = (routing == each for each in ("expert_choice", "token_choice", "hash"))
    return MoE(
        layers=layers,
        num_experts=num_experts,
        experts_per_token=experts_per_token,
        expert_hidden=draw(st.integers(1, 40)),
        shared_experts=draw(st.integers(0, 2)),
        routing=routing,
        scores="softmax" if hashed else draw(st.sampled_from(SCORES)),
        renormalise=draw(st.booleans()) if experts_per_token > 1 and token_choice else False,
        capacity_factor=draw(st.floats(0.25, num_experts)) if expert_choice else 1.0,
        balance=draw(st.sampled_from(BALANCES)) if token_choice else "none",
        z_weight=0.0 if hashed else 0.001,
    )


@st.composite
def memories(draw: st.DrawFn, family: str, d_model: int, layers: tuple[int, ...]) -> Memory:
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
        weights=draw(st.sampled_from(SLOT_WEIGHTS)),
        query_conv=draw(st.sampled_from([None, None, 2, 4])),
        core_rank=draw(st.sampled_from([None, None, 1, 2, 3])),
    )


@st.composite
def peers(draw: st.DrawFn, layers: tuple[int, ...]) -> Peer:
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
        weights=draw(st.sampled_from(SLOT_WEIGHTS)),
        query_conv=draw(st.sampled_from([None, None, 2, 4])),
        core_rank=draw(st.sampled_from([None, None, 1, 2, 3])),
    )


@st.composite
def loops(draw: st.DrawFn, num_layers: int) -> Loop:
    """Every way of sharing out the layers, ends without layers included, with and without an injection."""
    recurrent = draw(st.integers(1, num_layers))
    prelude = draw(st.integers(0, num_layers - recurrent))
    return Loop(
        prelude=prelude,
        recurrent=recurrent,
        coda=num_layers - recurrent - prelude,
        recurrences=draw(st.integers(1, 4)),
        injection=draw(st.sampled_from(INJECTIONS)),
    )
