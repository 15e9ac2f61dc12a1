"""Counts against published totals and against an independent recount."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.token_layers import NGram, TokenTable
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


@dataclass
class Recount:
    """Sums over the layers of a model, from the formulas of the papers."""

    dense: int = 0
    """Parameters that every token uses."""
    active: float = 0.0
    """Parameters of experts that a token uses."""
    experts: int = 0
    table: int = 0
    rows: int = 0
    flops: float = 0.0
    reads: list[tuple[int, int]] = field(default_factory=list)
    """Of each layer's part: values selected, and values there are."""

    def dense_layer(self, a: Architecture, layer: int, s: int, times: int) -> None:
        projections = [a.d_model * a.num_heads * a.head_width] * 2 + [a.d_model * a.num_kv_heads * a.head_width] * 2
        self.dense += sum(projections) + 2 * a.d_model
        # Token i of s attends to i + 1 keys: a product for the scores and one for the values.
        scores = sum(2 * 2 * a.num_heads * a.head_width * (i + 1) for i in range(s)) / s
        self.flops += (2 * sum(projections) + scores) * times
        matrices = {"dense": 3, "token_table": 2}.get(a.feed_forward_kind(layer), 0)
        self.dense += matrices * a.d_model * a.ffn_hidden
        self.flops += 2 * matrices * a.d_model * a.ffn_hidden * times

    def moe(self, d: int, moe: MoE, s: int) -> None:
        expert = 3 * d * moe.expert_hidden
        router = 0 if moe.routing == "hash" else d * moe.num_experts
        seen: float = moe.experts_per_token
        if moe.routing == "expert_choice":
            seen = moe.num_experts * moe.capacity(s) / s
        self.dense += router + expert * moe.shared_experts
        self.experts += expert * moe.num_experts
        self.active += expert * seen
        self.flops += 2 * router + 2 * expert * (seen + moe.shared_experts)

    def selection(self, d: int, m: Memory | Peer, virtual_tables: int) -> None:
        """Queries, half keys and scores."""
        width, keys_per_set = m.num_heads * m.key_width, m.num_keys * round(virtual_tables**0.5)
        half_keys = 2 * keys_per_set * (m.key_width // 2) * m.num_heads * (m.core_rank or 1)
        self.dense += d * width + width + half_keys + (2 * width if m.query_norm != "none" else 0)
        self.dense += d * (m.query_conv or 0)
        self.flops += 2 * (d * width + half_keys + d * (m.query_conv or 0))
        if m.core_rank is None:
            self.flops += m.num_heads * m.knn**2
        else:
            self.dense += m.num_heads * m.core_rank**2
            rough = 2 * 2 * keys_per_set * m.core_rank  # two sets, a vector of r times n half keys
            self.flops += m.num_heads * (rough + 2 * m.core_rank * m.knn * (m.core_rank + m.knn))

    def memory(self, d: int, memory: Memory, layer: int) -> None:
        tables, v, selected = memory.expansion or 1, memory.value_width, memory.num_heads * memory.knn
        self.selection(d, memory, tables)
        matrices = (1 + tables if memory.gated else 0) + (tables if memory.projection else 0)
        self.dense += matrices * d * v
        self.flops += 2 * selected * v + 2 * matrices * d * v
        self.reads.append((selected * v, memory.num_keys**2 * v))
        self.rows += selected
        self.table += memory.num_keys**2 * v if layer == memory.layers[0] or not memory.shared_table else 0

    def peer(self, d: int, peer: Peer) -> None:
        selected = peer.num_heads * peer.knn
        self.selection(d, peer, 1)
        self.flops += 4 * selected * d
        self.reads.append((2 * selected * d, 2 * peer.num_keys**2 * d))
        self.rows += 2 * selected
        self.table += 2 * peer.num_keys**2 * d

    def ngram(self, d: int, ngram: NGram, layer: int) -> None:
        values = len(ngram.orders) * ngram.num_heads * ngram.row_width
        self.dense += 2 * d * (values + 1) + (d * (ngram.conv_width + 1) if ngram.conv_width else 0)
        self.flops += 4 * d * values + 2 * d * ngram.conv_width
        held = sum(ngram.table_sizes(ngram.layers.index(layer)))
        self.table += -(-held // ngram.rows_multiple_of) * ngram.rows_multiple_of * ngram.row_width
        self.rows += len(ngram.orders) * ngram.num_heads
        self.reads.append((values, values))

    def token_table(self, a: Architecture, table: TokenTable) -> None:
        self.table += a.vocab_size * table.row_width
        self.rows += 1
        self.reads.append((table.row_width, table.row_width))
        if table.use == "gated":
            self.dense += a.d_model + 2 * a.d_model * table.row_width
            self.flops += 4 * a.d_model * table.row_width


def recount(a: Architecture, s: int) -> Recount:
    """All layers of a model; its embedding, head and last norm are not in it."""
    found, times = Recount(), [1] * a.num_layers
    if a.loop is not None:
        for layer in range(a.loop.prelude, a.loop.prelude + a.loop.recurrent):
            times[layer] = a.loop.recurrences
        if a.loop.injection == "concatenate":  # from the state and the prelude's output to the width of the model
            found.dense += 2 * a.d_model * a.d_model
            found.flops += 2 * 2 * a.d_model * a.d_model * a.loop.recurrences
    for layer in range(a.num_layers):
        found.dense_layer(a, layer, s, times[layer])
        if a.moe is not None and layer in a.moe.layers:
            found.moe(a.d_model, a.moe, s)
        if a.memory is not None and layer in a.memory.layers:
            found.memory(a.d_model, a.memory, layer)
        if a.peer is not None and layer in a.peer.layers:
            found.peer(a.d_model, a.peer)
        if a.ngram is not None and layer in a.ngram.layers:
            found.ngram(a.d_model, a.ngram, layer)
        if a.token_table is not None and layer in a.token_table.layers:
            found.token_table(a, a.token_table)
    return found


@settings(max_examples=300, deadline=None)
@given(architectures())
def test_counts_agree_with_a_recount_layer_by_layer(a: Architecture) -> None:
    counts, found = count(a, 17), recount(a, 17)
    one_embedding = a.d_model * a.vocab_size
    embeddings = one_embedding * (1 if a.tied_embeddings else 2)
    used = a.d_model + found.dense
    assert counts.params_total == used + found.experts + found.table + embeddings
    assert counts.params_table == found.table
    assert counts.params_non_embedding == counts.params_total - embeddings
    assert counts.rows_read_per_token == found.rows
    assert counts.flops_per_token_forward == pytest.approx(found.flops + 2.0 * one_embedding, rel=1e-12)
    read = counts.params_active - used - found.active - embeddings
    if found.table == 0:
        assert abs(read) <= 0.5
    else:  # no row counts twice: a token can read no more than there is
        smaller = [min(one) for one in found.reads]
        shared = a.memory is not None and a.memory.shared_table
        assert (min(smaller) if shared else sum(smaller)) - 0.5 <= read <= min(sum(smaller), found.table) + 0.5


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
