"""Product-key layers one by one: query norms, tables of their own, tiny experts, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo import ZOO, memory, peer, tokens_of

from memscale.config.layers import Memory, Peer
from memscale.kernels.embedding_bag import embedding_bag
from memscale.models.memory import MemoryLayer
from memscale.models.peer import PeerLayer
from memscale.models.queries import QueryBatchNorm, QueryLayerNorm
from memscale.models.transformer import build
from memscale.models.usage import Usage

MEMORY_PLUS, MEMORY = memory(value_width=5, qk_norm=True), memory(value_width=12, gated=False)
PKM, PEER = replace(MEMORY, shared_table=False, query_norm="batch"), peer(query_norm="batch")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(layer: nn.Module) -> nn.Module:
    """The layer in float64, its parameters random and its running statistics those of nothing seen."""
    for module in layer.modules():
        if isinstance(module, QueryBatchNorm):
            module.reset_buffers()
    layer.double()
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(random(*parameter.shape, seed=seed))
    return layer


def test_running_statistics_are_those_of_batch_norm_as_defined() -> None:
    norm = filled(QueryBatchNorm(6, 1e-5))
    mean, variance = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for seed in range(4):
        queries = 3 + 2 * random(10 + seed, 6, seed=seed)
        norm(queries)
        mean = 0.9 * mean + 0.1 * queries.mean(0)
        variance = 0.9 * variance + 0.1 * queries.var(0, unbiased=True)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    norm.eval()
    queries = random(5, 6)
    expected = (queries - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias
    torch.testing.assert_close(norm(queries), expected)
    torch.testing.assert_close(norm(queries[:1]), expected[:1])  # each token alone
    torch.testing.assert_close(norm.running_mean, mean)  # and evaluation leaves no trace


@given(tokens=st.integers(2, 40), heads=st.integers(1, 4), half=st.integers(1, 9), scale=st.floats(0.1, 100))
@settings(max_examples=30, deadline=None)
def test_in_training_batch_norm_takes_out_shift_and_scale(tokens: int, heads: int, half: int, scale: float) -> None:
    norm = filled(QueryBatchNorm(2 * heads * half, 1e-12))
    queries = random(tokens, 2 * heads * half)
    shifts = random(2 * heads * half, seed=1)
    torch.testing.assert_close(norm(scale * queries + shifts), norm(queries), rtol=1e-5, atol=1e-6)
    plain = (norm(queries) - norm.bias) / norm.weight
    torch.testing.assert_close(plain.mean(0), torch.zeros_like(shifts), atol=1e-9, rtol=0)
    torch.testing.assert_close(plain.var(0, unbiased=False), torch.ones_like(shifts), atol=1e-6, rtol=0)


@given(tokens=st.integers(1, 20), heads=st.integers(1, 4), half=st.integers(2, 9), head=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_layer_norm_takes_both_halves_of_each_head_alone(tokens: int, heads: int, half: int, head: int) -> None:
    norm, head = filled(QueryLayerNorm(heads, 2 * heads * half, 1e-12)), head % heads
    queries = random(tokens, 2 * heads * half)
    by_head = queries.clone().view(tokens, 2, heads, half)
    by_head[:, :, head] = 5 * by_head[:, :, head] + 3  # shift and scale of one head's whole query change nothing
    torch.testing.assert_close(norm(by_head.view(tokens, -1)), norm(queries))
    by_head[:, 0, head] += 1  # of one half they do, in this head and no other
    moved = (norm(by_head.view(tokens, -1)) - norm(queries)).view(tokens, 2, heads, half).abs().amax((0, 1, 3))
    assert bool(moved[head] > 1e-3)
    assert bool((torch.cat([moved[:head], moved[head + 1 :]]) < 1e-9).all())


def test_norms_have_gains_and_biases_of_all_heads_in_float32_at_least() -> None:
    for norm in (QueryBatchNorm(12, 1e-5), QueryLayerNorm(3, 12, 1e-5)):
        assert [tuple(value.shape) for value in norm.parameters()] == [(12,), (12,)]
        filled(norm).bfloat16()
        if isinstance(norm, QueryBatchNorm):
            norm.running_mean, norm.running_var = norm.running_mean.float(), norm.running_var.float()
        assert norm(random(4, 12).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("part", [replace(MEMORY_PLUS, shared_table=False), PKM])
def test_a_layer_with_its_own_table_leaves_the_models_alone(part: Memory) -> None:
    layer = filled(MemoryLayer(12, part, 1e-5)).eval()
    x = random(2, 3, 12)
    other = random(part.num_slots, part.value_width, seed=9).requires_grad_()
    out, loss = layer(x, other, None)
    assert loss is None
    assert torch.equal(out, layer(x, None, None)[0])
    out.sum().backward()
    assert other.grad is None
    assert layer.table.grad.to_dense().any()


def test_an_ungated_layer_gives_the_weighted_sum_itself() -> None:
    layer, table = filled(MemoryLayer(12, MEMORY, 1e-5)), random(MEMORY.num_slots, 12)
    x = random(2, 5, 12)
    out, _ = layer(x, table, None)
    expected = embedding_bag(table, *layer.selected(x.flatten(0, 1), None)).view(2, 5, 12)
    torch.testing.assert_close(out, expected)
    assert not any("gate" in name or "out" in name for name, _ in layer.named_parameters())


@pytest.mark.parametrize("part", [MEMORY_PLUS, MEMORY, PKM, replace(PKM, query_norm="layer"), PEER])
def test_weights_add_up_to_one_in_each_head(part: Memory | Peer) -> None:
    layer = filled(PeerLayer(12, part, 1e-5) if isinstance(part, Peer) else MemoryLayer(12, part, 1e-5))
    slots, weights = layer.selected(random(7, 12), None)
    assert slots.shape == weights.shape == (7, part.num_heads * part.knn)
    by_head = weights.view(7, part.num_heads, part.knn)
    torch.testing.assert_close(by_head.sum(-1), torch.ones(7, part.num_heads, dtype=torch.float64))
    assert bool((by_head.diff(dim=-1) <= 0).all())  # best first
    assert all(len(set(head)) == part.knn for row in slots.view(7, part.num_heads, -1).tolist() for head in row)


@pytest.mark.parametrize("part", [MEMORY, PEER])
def test_without_a_softmax_the_weights_are_the_scores_or_their_positive_part(part: Memory | Peer) -> None:
    def selected(weights: str) -> tuple[torch.Tensor, torch.Tensor]:
        given = replace(part, weights=weights, num_keys=3, knn=3)
        layer = filled(PeerLayer(12, given, 1e-5) if isinstance(given, Peer) else MemoryLayer(12, given, 1e-5))
        return layer.eval().selected(random(30, 12), None)

    slots, scores = selected("none")
    assert bool((scores < 0).any() and (scores > 0).any())
    for weights, function in (("relu", torch.relu), ("softmax", lambda by_head: by_head.softmax(-1))):
        same, found = selected(weights)
        assert torch.equal(same, slots)
        torch.testing.assert_close(found, function(scores.view(30, part.num_heads, -1)).flatten(1))


def test_statistics_of_use_add_up_magnitudes_of_weights_by_row() -> None:
    part = replace(MEMORY, weights="none", num_keys=3, knn=3, gated=True, expansion=4)
    layer, usage = filled(MemoryLayer(12, part, 1e-5)), Usage(part.num_slots)
    slots, weights = layer.selected(random(30, 12), usage)
    assert bool((weights < 0).any())
    assert int(slots.max()) >= part.num_slots  # virtual ones
    amounts = torch.zeros(part.num_slots, dtype=torch.float64)
    for slot, weight in zip(slots.flatten().tolist(), weights.flatten().tolist(), strict=True):
        amounts[slot % part.num_slots] += abs(weight)
    assert usage.max_share == pytest.approx(float(amounts.max() / amounts.sum()))


def test_peer_is_a_feed_forward_network_whose_hidden_values_a_token_chooses() -> None:
    """As a matrix product over all N experts, with the weight of those not chosen zero."""
    layer, x = filled(PeerLayer(12, PEER, 1e-5)), random(2, 5, 12)
    out, loss = layer(x, None, None)
    slots, weights = layer.selected(x.flatten(0, 1), None)
    spread = torch.zeros(10, PEER.num_slots, dtype=torch.float64).scatter_add(1, slots, weights)
    hidden = nn.functional.gelu(x.flatten(0, 1) @ layer.input_table.t()) * spread
    torch.testing.assert_close(out, (hidden @ layer.output_table).view(2, 5, 12))
    assert loss is None


def test_peer_reaches_only_the_rows_it_chose() -> None:
    layer, x = filled(PeerLayer(12, PEER, 1e-5)), random(1, 2, 12)
    slots, _ = layer.selected(x.flatten(0, 1), None)
    layer(x, None, None)[0].square().sum().backward()
    chosen = torch.zeros(PEER.num_slots, dtype=torch.bool).index_fill(0, slots.flatten(), True)
    for table in (layer.input_table, layer.output_table):
        assert torch.equal(table.grad.to_dense().any(dim=1), chosen)


@pytest.mark.parametrize("name", ["pkm batch", "peer batch"])
def test_training_on_other_batches_moves_the_statistics_and_evaluation_does_not(name: str) -> None:
    model = build(ZOO[name], seed=0)
    statistics = [value.clone() for value in model.buffers()]
    with torch.no_grad():
        model.eval()(tokens_of(model.architecture, (3, 8)))
        assert all(torch.equal(one, two) for one, two in zip(statistics, model.buffers(), strict=True))
        model.train()(tokens_of(model.architecture, (3, 8)))
    assert not any(torch.equal(one, two) for one, two in zip(statistics, model.buffers(), strict=True))
    assert {key.rsplit(".", 1)[1] for key in model.state_dict()} >= {"running_mean", "running_var"}


@pytest.mark.parametrize("name", ["pkm batch", "memory_plus, own tables", "peer qk-norm"])
def test_a_layers_own_slots_are_counted_apart(name: str) -> None:
    architecture = ZOO[name]
    part = architecture.memory or architecture.peer
    model = build(architecture, seed=0).eval()
    model.start_statistics()
    model(tokens_of(architecture, (1, 1)))
    values, kind = model.statistics(), architecture.feed_forward_kind(0)
    # Heads may choose the same slot; with one token a layer looks up no more than heads x knn, however many layers.
    for layer in (0, 2):
        assert part.knn <= round(values[f"{kind}_used_share_{layer}"] * part.num_slots) <= part.knn * part.num_heads
    assert values[f"{kind}_kl_0"] != values[f"{kind}_kl_2"]
