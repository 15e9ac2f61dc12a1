"""Counts against published totals and against an independent recount."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.planning.accounting import Component, components, conventions, count, evaluation_flops
from tests.planning.architectures import architectures

# Berges et al. 2024: d_model, layers, hidden, and the printed billions of the dense bases.
BASES = {
    "134m": (768, 12, 2048, 0.1341),
    "373m": (1024, 24, 2816, 0.3739),
    "720m": (1536, 22, 4096, 0.7212),
    "1.3b": (2048, 22, 5632, 1.2615),
}
MIDDLE = (11,)


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
    return replace(dense, family="memory_plus", memory=memory)


def printed_billions(a: Architecture, *uncounted: str) -> float:
    """The total as the paper prints it: without components (`norm`, `router`) and without the queries' biases."""
    left_out = sum(part.params for part in components(a, 4096) if part.name in uncounted)
    keys = a.memory or a.peer
    biases = len(keys.layers) * keys.num_heads * keys.key_width if keys is not None else 0
    return round((count(a, 4096).params_total - left_out - biases) / 1e9, 3)


@pytest.mark.parametrize("name", BASES)
def test_the_dense_bases_have_their_published_totals(name: str) -> None:
    # To the printed decimals, with and without norms.
    assert round(count(base(name), 4096).params_total / 1e9, 4) == BASES[name][3]


@pytest.mark.parametrize("num_keys, billions", [(1024, 3.368), (2048, 9.823), (4096, 35.618), (8192, 138.748)])
def test_memory_plus_has_its_published_totals(num_keys: int, billions: float) -> None:
    # Of 1024^2 slots the paper prints 3.377, the vanilla layer's total; 3.368 follows from what it describes.
    assert printed_billions(with_memory("1.3b", num_keys, (3, 11, 19)), "norm") == billions


def test_the_vanilla_memory_layer_has_its_published_total() -> None:
    memory = Memory(
        layers=MIDDLE, num_keys=1024, num_heads=4, knn=32, key_width=256, value_width=2048, gated=False,
        shared_table=False,
    )  # fmt: skip
    assert printed_billions(replace(base("1.3b"), family="memory", memory=memory), "norm") == 3.377


def test_peer_has_its_published_total() -> None:
    peer = Peer(layers=MIDDLE, num_keys=768, num_heads=4, knn=32, key_width=256)
    assert printed_billions(replace(base("1.3b"), family="peer", peer=peer), "norm") == 3.646


def test_moe_has_its_published_total() -> None:
    moe = MoE(
        layers=tuple(range(22)), num_experts=4, experts_per_token=1, expert_hidden=5632, routing="expert_choice",
        balance="none", renormalise=False,
    )  # fmt: skip
    assert printed_billions(replace(base("1.3b"), family="moe", moe=moe), "norm", "router") == 3.545


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


@settings(max_examples=300, deadline=None)
@given(architectures())
def test_counts_agree_with_a_recount_layer_by_layer(a: Architecture) -> None:
    s = 17
    embedding = a.d_model * a.vocab_size
    params, flops = a.d_model + embedding * (1 if a.tied_embeddings else 2), 2.0 * embedding
    active, table, rows = params, 0, 0
    reads: list[tuple[int, int]] = []  # of each layer's part: values selected, and values there are
    times = [1] * a.num_layers
    if a.loop is not None:
        for layer in range(a.loop.prelude, a.loop.prelude + a.loop.recurrent):
            times[layer] = a.loop.recurrences
        if a.loop.injection == "concatenate":  # from the state and the prelude's output to the width of the model
            injection = 2 * a.d_model * a.d_model
            params, active, flops = params + injection, active + injection, flops + 2 * injection * a.loop.recurrences
    for layer in range(a.num_layers):
        projections = [a.d_model * a.num_heads * a.head_width] * 2 + [a.d_model * a.num_kv_heads * a.head_width] * 2
        dense = sum(projections) + 2 * a.d_model
        flops += 2 * sum(projections) * times[layer]
        # Token i of s attends to i + 1 keys: a product for the scores and one for the values.
        flops += sum(2 * 2 * a.num_heads * a.head_width * (i + 1) for i in range(s)) / s * times[layer]
        if a.feed_forward_kind(layer) == "moe":
            assert a.moe is not None
            expert = 3 * a.d_model * a.moe.expert_hidden
            router = 0 if a.moe.routing == "hash" else a.d_model * a.moe.num_experts
            dense += router + expert * a.moe.shared_experts
            params += expert * a.moe.num_experts
            seen = a.moe.experts_per_token
            if a.moe.routing == "expert_choice":
                seen = a.moe.num_experts * a.moe.capacity(s) / s
            active += expert * seen
            flops += 2 * router + 2 * expert * (seen + a.moe.shared_experts)
        for m in (a.memory, a.peer):
            if m is None or layer not in m.layers:
                continue
            width = m.num_heads * m.key_width
            tables = (a.memory.expansion or 1) if m is a.memory else 1
            keys_per_set = m.num_keys * round(tables**0.5)
            half_keys = 2 * keys_per_set * (m.key_width // 2) * m.num_heads * (m.core_rank or 1)
            dense += a.d_model * width + width + half_keys + (2 * width if m.query_norm != "none" else 0)
            dense += a.d_model * (m.query_conv or 0)
            flops += 2 * (a.d_model * width + half_keys + a.d_model * (m.query_conv or 0))
            if m.core_rank is None:
                flops += m.num_heads * m.knn**2
            else:
                dense += m.num_heads * m.core_rank**2
                rough = 2 * 2 * keys_per_set * m.core_rank  # two sets, a vector of r times n half keys
                flops += m.num_heads * (rough + 2 * m.core_rank * m.knn * (m.core_rank + m.knn))
            selected = m.num_heads * m.knn
            if m is a.memory:
                v = a.memory.value_width
                dense += (1 + tables) * a.d_model * v if a.memory.gated else 0
                dense += tables * a.d_model * v if a.memory.projection else 0
                flops += 2 * selected * v + (2 * (1 + tables) * a.d_model * v if a.memory.gated else 0)
                flops += 2 * tables * a.d_model * v if a.memory.projection else 0
                reads.append((selected * v, m.num_keys**2 * v))
                rows += selected
                first = layer == a.memory.layers[0]
                table += m.num_keys**2 * v if first or not a.memory.shared_table else 0
            else:
                flops += 4 * selected * a.d_model
                reads.append((2 * selected * a.d_model, 2 * m.num_keys**2 * a.d_model))
                rows += 2 * selected
                table += 2 * m.num_keys**2 * a.d_model
        if a.feed_forward_kind(layer) == "token_table":
            dense += 2 * a.d_model * a.ffn_hidden
            flops += 4 * a.d_model * a.ffn_hidden
        if a.feed_forward_kind(layer) == "dense":
            dense += 3 * a.d_model * a.ffn_hidden
            flops += 6 * a.d_model * a.ffn_hidden * times[layer]
        if a.ngram is not None and layer in a.ngram.layers:
            values = len(a.ngram.orders) * a.ngram.num_heads * a.ngram.row_width
            dense += 2 * a.d_model * (values + 1)
            flops += 4 * a.d_model * values
            if a.ngram.conv_width:
                dense += a.d_model * (a.ngram.conv_width + 1)
                flops += 2 * a.d_model * a.ngram.conv_width
            held = sum(a.ngram.table_sizes(a.ngram.layers.index(layer)))
            table += -(-held // a.ngram.rows_multiple_of) * a.ngram.rows_multiple_of * a.ngram.row_width
            rows += len(a.ngram.orders) * a.ngram.num_heads
            reads.append((values, values))
        if a.token_table is not None and layer in a.token_table.layers:
            table += a.vocab_size * a.token_table.row_width
            rows += 1
            reads.append((a.token_table.row_width, a.token_table.row_width))
            if a.token_table.use == "gated":
                dense += a.d_model + 2 * a.d_model * a.token_table.row_width
                flops += 4 * a.d_model * a.token_table.row_width
        params += dense
        active += dense
    counts = count(a, s)
    assert counts.params_total == params + table
    assert counts.params_table == table
    assert counts.params_non_embedding == params + table - embedding * (1 if a.tied_embeddings else 2)
    assert counts.rows_read_per_token == rows
    assert counts.flops_per_token_forward == pytest.approx(flops, rel=1e-12)
    read = counts.params_active - active
    if table == 0:
        assert abs(read) <= 0.5
    else:  # no row counts twice: a token can read no more than there is
        assert read <= table + 0.5
        shared = a.memory is not None and a.memory.shared_table
        least = min((min(one) for one in reads), default=0) if shared else sum(min(one) for one in reads)
        assert least - 0.5 <= read <= sum(min(one) for one in reads) + 0.5


def by_name(a: Architecture) -> dict[str, Component]:
    return {part.name: part for part in components(a, 64)}


def test_expert_choice_costs_its_capacity_in_training_and_its_top_experts_in_evaluation() -> None:
    dense = replace(base("134m"), ffn_hidden=64)
    shape = {"layers": (1, 2), "num_experts": 6, "experts_per_token": 2, "expert_hidden": 32, "renormalise": False}
    chosen = replace(dense, family="moe", moe=MoE(**shape))
    # Of 64 tokens each of 6 experts takes 13: 1.25 x 64 / 6 is 13.3; a token meets 78 / 64 experts.
    choosing = replace(
        dense,
        family="moe",
        moe=MoE(**shape, routing="expert_choice", balance="none", capacity_factor=1.25),
    )
    expert = 3 * 768 * 32 * 2
    assert by_name(choosing)["experts"].flops == 2 * expert * 78 / 64
    assert by_name(choosing)["experts"].active == expert * 78 // 64
    assert by_name(choosing)["experts"].decode_weights == by_name(chosen)["experts"].decode_weights == 2 * expert
    assert evaluation_flops(chosen, 64) == count(chosen, 64).flops_per_token_forward
    assert evaluation_flops(choosing, 64) == pytest.approx(evaluation_flops(chosen, 64), rel=1e-12)
    assert evaluation_flops(dense, 64) == count(dense, 64).flops_per_token_forward


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
    assert (round(other.six_n_total / ours, 2), round(other.six_n_non_embedding / ours, 2)) == ratios


@settings(max_examples=100, deadline=None)
@given(architectures())
@example(base("134m"))
@example(replace(base("134m"), tied_embeddings=True))
def test_other_conventions_count_what_their_names_say(a: Architecture) -> None:
    counts, other = count(a, 100), conventions(a, 100)
    assert other.six_n_total == 6 * counts.params_total
    assert other.six_n_active == 6 * counts.params_active
    assert other.six_n_non_embedding == 6 * counts.params_non_embedding
    # Full attention: every token meets all 100 keys, in two products, each thrice with the backward pass.
    assert other.palm - other.six_n_active == 3 * a.depth * 2 * 2 * a.num_heads * a.head_width * 100
    outside = sum(part.active for part in components(a, 100) if part.name not in ("embedding", "lm_head"))
    assert other.ludziejewski == 6 * (outside + 2 * a.d_model * a.vocab_size)
