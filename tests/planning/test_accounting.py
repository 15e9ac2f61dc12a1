"""Counts against published totals and against an independent recount."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from memscale.config.architecture import Architecture, Memory, MoE
from memscale.planning.accounting import components, conventions, count
from tests.planning.architectures import architectures

# Berges et al. 2024: d_model, layers, hidden, and the printed billions of the dense bases.
BASES = {
    "134m": (768, 12, 2048, 0.1341),
    "373m": (1024, 24, 2816, 0.3739),
    "720m": (1536, 22, 4096, 0.7212),
    "1.3b": (2048, 22, 5632, 1.2615),
}


def base(name: str) -> Architecture:
    d_model, num_layers, hidden, _ = BASES[name]
    return Architecture(
        family="dense",
        d_model=d_model,
        num_layers=num_layers,
        num_heads=16,
        num_kv_heads=16,
        head_width=d_model // 16,
        ffn_hidden=hidden,
        vocab_size=32_000,
    )


def with_memory(name: str, num_keys: int, layers: tuple[int, ...]) -> Architecture:
    dense = base(name)
    memory = Memory(
        layers=layers, num_keys=num_keys, num_heads=4, knn=32, key_width=dense.d_model // 2, value_width=dense.d_model
    )
    return Architecture(
        **{**vars(dense), "family": "memory_plus", "memory": memory, "moe": None},
    )


@pytest.mark.parametrize("name", BASES)
def test_the_dense_bases_have_their_published_totals(name: str) -> None:
    assert round(count(base(name), 4096).params_total / 1e9, 4) == BASES[name][3]


@pytest.mark.parametrize("num_keys, billions", [(2048, 9.823), (4096, 35.618), (8192, 138.748)])
def test_memory_plus_has_its_published_totals(num_keys: int, billions: float) -> None:
    # The published totals leave out norms and query biases.
    model = with_memory("1.3b", num_keys, (3, 11, 19))
    parts = components(model, 4096)
    uncounted = sum(part.params for part in parts if part.name == "norm") + 3 * 4 * 1024
    assert round((count(model, 4096).params_total - uncounted) / 1e9, 3) == billions


def test_moe_has_its_published_total() -> None:
    dense = base("1.3b")
    moe = MoE(layers=tuple(range(22)), num_experts=4, experts_per_token=1, expert_hidden=5632)
    model = Architecture(**{**vars(dense), "family": "moe", "moe": moe})
    uncounted = sum(part.params for part in components(model, 4096) if part.name in ("norm", "router"))
    assert round((count(model, 4096).params_total - uncounted) / 1e9, 3) == 3.545


@pytest.mark.parametrize(
    "num_keys, differences",
    [(1024, (-1.4, -1.5, -2.3, -2.9)), (4096, (8.2, 2.8, 1.2, -0.2)), (8192, (21.0, 8.5, 5.9, 3.5))],
)
def test_key_scoring_makes_memory_cost_what_it_costs(num_keys: int, differences: tuple[float, ...]) -> None:
    for name, expected in zip(BASES, differences, strict=True):
        stride = 4 if name == "134m" else 8
        middle = BASES[name][1] // 2
        layers = (middle - stride, middle, middle + stride)
        sparse = count(with_memory(name, num_keys, layers), 4096).flops_per_token_forward
        dense = count(base(name), 4096).flops_per_token_forward
        assert 100 * (sparse / dense - 1) == pytest.approx(expected, abs=0.1)


@settings(max_examples=200, deadline=None)
@given(architectures())
def test_counts_agree_with_a_recount_layer_by_layer(a: Architecture) -> None:
    s = 17
    params, flops = (
        a.d_model + a.d_model * a.vocab_size * (1 if a.tied_embeddings else 2),
        2.0 * a.d_model * a.vocab_size,
    )
    table = 0
    for layer in range(a.num_layers):
        projections = [a.d_model * a.num_heads * a.head_width] * 2 + [a.d_model * a.num_kv_heads * a.head_width] * 2
        params += sum(projections) + 2 * a.d_model
        flops += 2 * sum(projections)
        # Token i of s attends to i + 1 keys: a product for the scores and one for the values.
        flops += sum(2 * 2 * a.num_heads * a.head_width * (i + 1) for i in range(s)) / s
        if a.slot(layer) == "moe":
            assert a.moe is not None
            expert = 3 * a.d_model * a.moe.expert_hidden
            params += a.d_model * a.moe.num_experts + expert * a.moe.num_experts
            flops += 2 * a.d_model * a.moe.num_experts + 2 * expert * a.moe.experts_per_token
        elif a.slot(layer) == "memory":
            m = a.memory
            assert m is not None
            query = a.d_model * m.num_heads * m.key_width
            half_keys = 2 * m.num_keys * (m.key_width // 2) * m.num_heads
            gate = 2 * a.d_model * m.value_width if m.gated else 0
            params += query + m.num_heads * m.key_width + half_keys + gate
            flops += 2 * (query + half_keys + gate) + m.num_heads * m.knn**2 + 2 * m.num_heads * m.knn * m.value_width
            table = m.num_keys**2 * m.value_width
        else:
            params += 3 * a.d_model * a.ffn_hidden
            flops += 6 * a.d_model * a.ffn_hidden
    counts = count(a, s)
    assert counts.params_total == params + table
    assert counts.params_table == table
    assert counts.flops_per_token_forward == pytest.approx(flops, rel=1e-12)
    assert counts.params_active <= counts.params_total


@pytest.mark.parametrize(
    "shape, ratios",
    [((256, 4, 683, 50_257, 1024), (1.69, 0.18)), ((2048, 24, 5632, 50_257, 2048), (1.00, 0.86))],
)
def test_other_conventions_stand_in_their_known_ratio(shape: tuple[int, ...], ratios: tuple[float, float]) -> None:
    d_model, num_layers, hidden, vocab, s = shape
    a = Architecture(
        family="dense", d_model=d_model, num_layers=num_layers, num_heads=16, num_kv_heads=16,
        head_width=d_model // 16, ffn_hidden=hidden, vocab_size=vocab,
    )  # fmt: skip
    ours, other = 3 * count(a, s).flops_per_token_forward, conventions(a, s)
    assert other.six_n_total / ours == pytest.approx(ratios[0], abs=0.02)
    assert other.six_n_non_embedding / ours == pytest.approx(ratios[1], abs=0.02)
    assert other.palm > other.six_n_active
