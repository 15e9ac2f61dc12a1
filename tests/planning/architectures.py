"""Random architectures of every family, for properties."""

from __future__ import annotations

from hypothesis import strategies as st

from memscale.config.architecture import Architecture, Memory, MoE


@st.composite
def architectures(draw: st.DrawFn, family: str | None = None) -> Architecture:
    """A small architecture that any check allows."""
    family = family or draw(st.sampled_from(["dense", "moe", "memory_plus"]))
    num_layers = draw(st.integers(1, 4))
    layers = tuple(sorted(draw(st.sets(st.integers(0, num_layers - 1), min_size=1))))
    kv_heads = draw(st.integers(1, 3))
    d_model = draw(st.integers(4, 48))
    moe = memory = None
    if family == "moe":
        experts = draw(st.integers(1, 8))
        moe = MoE(
            layers=layers,
            num_experts=experts,
            experts_per_token=draw(st.integers(1, experts)),
            expert_hidden=draw(st.integers(1, 40)),
        )
    if family == "memory_plus":
        num_keys, gated = draw(st.integers(1, 20)), draw(st.booleans())
        memory = Memory(
            layers=layers,
            num_keys=num_keys,
            num_heads=draw(st.integers(1, 4)),
            knn=draw(st.integers(1, num_keys)),
            key_width=2 * draw(st.integers(1, 12)),
            value_width=draw(st.integers(1, 40)) if gated else d_model,
            gated=gated,
            qk_norm=draw(st.booleans()),
        )
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
        moe=moe,
        memory=memory,
    )
