"""Building: what is counted is what is built, and every weight comes from the seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from zoo import ZOO, tokens_of

from memscale.config.architecture import Architecture
from memscale.errors import ConfigError
from memscale.models.transformer import Transformer, build, count_parameters
from memscale.planning.accounting import components, count
from tests.planning.architectures import architectures


def by_hand(a: Architecture) -> int:
    """The total from the formulas of the papers, written out once more."""
    d, total = a.d_model, (1 if a.tied_embeddings else 2) * a.d_model * a.vocab_size + a.d_model
    for layer in range(a.num_layers):
        total += d * a.head_width * (2 * a.num_heads + 2 * a.num_kv_heads) + 2 * d
        if a.feed_forward_kind(layer) == "dense":
            total += 3 * d * a.ffn_hidden
        elif a.feed_forward_kind(layer) == "moe":
            total += 3 * d * a.moe.expert_hidden * (a.moe.num_experts + a.moe.shared_experts)
            total += d * a.moe.num_experts if a.moe.routing != "hash" else 0
        elif a.feed_forward_kind(layer) == "token_table":
            total += 2 * d * a.ffn_hidden
        for m in (a.memory, a.peer):
            if m is None or layer not in m.layers:
                continue
            total += d * m.num_heads * m.key_width + m.num_heads * m.key_width
            ranks = m.core_rank or 1
            total += d * (m.query_conv or 0)
            tables = (m.expansion or 1) if m is a.memory else 1
            half_keys = m.num_keys * round(tables**0.5)
            total += m.num_heads * half_keys * m.key_width * ranks + (m.num_heads * ranks**2 if m.core_rank else 0)
            total += 2 * m.num_heads * m.key_width if m.query_norm != "none" else 0
            total += (1 + tables) * d * m.value_width if m is a.memory and m.gated else 0
            total += tables * d * m.value_width if m is a.memory and m.projection else 0
        if a.ngram and layer in a.ngram.layers:
            total += 2 * d * len(a.ngram.orders) * a.ngram.num_heads * a.ngram.row_width + 2 * d
            total += d * (a.ngram.conv_width + 1) if a.ngram.conv_width else 0
        if a.token_table and layer in a.token_table.layers and a.token_table.use == "gated":
            total += 2 * d * a.token_table.row_width + d
    if a.loop is not None and a.loop.injection == "concatenate":
        total += 2 * d * d
    return total + tables_by_hand(a)


def tables_by_hand(a: Architecture) -> int:
    total = 0
    if a.peer:
        total += len(a.peer.layers) * 2 * a.peer.num_keys**2 * a.d_model
    if a.memory:
        tables = 1 if a.memory.shared_table else len(a.memory.layers)
        total += tables * a.memory.num_keys**2 * a.memory.value_width
    if a.ngram:
        for which in range(len(a.ngram.layers)):
            rows = sum(a.ngram.table_sizes(which))
            total += (rows + -rows % a.ngram.rows_multiple_of) * a.ngram.row_width
    if a.token_table:
        total += len(a.token_table.layers) * a.vocab_size * a.token_table.row_width
    return total


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_the_built_model_holds_what_the_planner_counts(architecture: Architecture) -> None:
    with torch.device("meta"):
        counts = count_parameters(Transformer(architecture))
    planned = count(architecture, 8)
    assert counts.total == planned.params_total == by_hand(architecture)
    assert counts.table == planned.params_table == tables_by_hand(architecture)
    assert counts.non_embedding == planned.params_non_embedding
    assert counts.embedding == counts.total - counts.non_embedding
    assert dict(counts.components) == {part.name: part.params for part in components(architecture, 8) if part.params}


@given(architectures())
@settings(max_examples=15, deadline=None)
def test_any_architecture_runs(architecture: Architecture) -> None:
    model = build(architecture, seed=0)
    output = model(tokens_of(architecture, (2, 3)))
    assert output.logits_BSV.shape == (2, 3, architecture.vocab_size)
    (output.logits_BSV.square().mean() + output.auxiliary_loss).backward()
    assert all(value.grad is None or value.grad.to_dense().isfinite().all() for value in model.parameters())


@pytest.mark.parametrize("family", ZOO)
def test_nothing_is_left_uninitialised(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = torch.empty

    def poisoned(*size: Any, **options: Any) -> torch.Tensor:
        tensor = allocate(*size, **options)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor.fill_(-(2**31))

    monkeypatch.setattr(torch, "empty", poisoned)
    model = build(ZOO[family], seed=0)
    monkeypatch.undo()
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert all((tensor > -(2**31)).all() for tensor in [*model.parameters(), *model.buffers()])
    assert model.eval()(tokens_of(ZOO[family], (2, 5))).logits_BSV.isfinite().all()


def weights(model: Transformer) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def test_weights_come_from_the_seed_and_nothing_else() -> None:
    torch.manual_seed(1)
    one = weights(build(ZOO["moe top-1"], seed=5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two, other = weights(build(ZOO["moe top-1"], seed=5)), weights(build(ZOO["moe top-1"], seed=6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if "norm" not in name)


def test_families_agree_in_the_parts_they_share() -> None:
    dense, memory = weights(build(ZOO["dense"], seed=5)), weights(build(ZOO["memory_plus"], seed=5))
    shared = [name for name in dense if name in memory and "slot." not in name]
    assert len(shared) >= 15
    assert all(torch.equal(dense[name], memory[name]) for name in shared)


def test_narrower_types_are_the_same_weights_rounded() -> None:
    exact, rounded = (build(ZOO["memory_plus"], seed=0, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert all(
        torch.equal(one.bfloat16(), two) for one, two in zip(exact.parameters(), rounded.parameters(), strict=True)
    )


def test_spreads() -> None:
    a = replace(ZOO["memory_plus"], d_model=64, ffn_hidden=128, vocab_size=500)
    model = weights(build(a, seed=0))
    assert model["embedding.weight"].std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert model["blocks.1.slot.gate_up.weight"].std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert model["blocks.1.slot.down.weight"].std().item() == pytest.approx((128 * 6) ** -0.5, rel=0.05)
    assert model["table"].std().item() == pytest.approx(a.memory.value_width**-0.5, rel=0.15)
    assert not model["blocks.0.slot.query.bias"].any()
    assert bool((model["norm.weight"] == 1).all())


@pytest.mark.parametrize("family", ["pkm batch", "peer batch"])
def test_spreads_of_own_tables_and_query_norms(family: str) -> None:
    a = ZOO[family]
    widened = {"d_model": 64, "memory": replace(a.memory, value_width=64) if a.memory else None}
    model = build(replace(a, **widened), seed=0)
    for name, value in model.named_parameters():
        if "table" in name:
            assert value.std().item() == pytest.approx(64**-0.5, rel=0.05), name
            assert value.mean().item() == pytest.approx(0.0, abs=0.01), name
        elif name.endswith("slot.keys"):
            assert value.std().item() == pytest.approx(4**-0.5, rel=0.1), name
    norm = model.blocks[1 if a.peer else 0].slot.query_norm
    assert bool((norm.weight == 1).all() and (norm.bias == 0).all())
    assert bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())


def test_buffers_are_as_wide_as_the_model_but_never_narrower_than_they_were() -> None:
    for dtype, expected in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        norm = build(ZOO["pkm batch"], seed=0, dtype=dtype).blocks[0].slot.query_norm
        assert (norm.running_mean.dtype, norm.running_var.dtype) == (expected, expected)


def test_a_tied_head_is_the_embedding() -> None:
    model = build(replace(ZOO["dense"], tied_embeddings=True), seed=0)
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize("family", [name for name, one in ZOO.items() if not {"ngram", "token_table"} & set(one.parts)])
def test_published_weights_are_drawn_as_that_code_draws_them(family: str) -> None:
    """Bounds are exact; standard deviations hold up to what so few values allow, over three seeds."""
    a, changes = ZOO[family], {"d_model": 32, "ffn_hidden": 40, "head_width": 8, "vocab_size": 200}
    memory = replace(a.memory, value_width=32) if a.memory and not a.memory.gated else a.memory
    a = replace(a, **changes, memory=memory)
    models = [weights(build(a, seed=seed, init="published")) for seed in (0, 1, 2)]
    part = a.memory or a.peer
    for name in models[0]:
        values = torch.stack([model[name].detach() for model in models])
        fan_in, fan_out = values.shape[-1], values.shape[-2]
        if name.endswith("norm.weight"):
            assert bool((values == 1).all())
            continue
        if name.endswith("bias"):
            assert not values.any()
            continue
        cut = False
        if name.endswith("keys"):
            assert part is not None
            bound = part.key_width**-0.5
            assert 0.9 * bound < values.abs().max() <= bound
            std = bound / 3**0.5
        elif name.endswith("query.weight"):
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert 0.98 * bound < values.abs().max() <= bound
            std = bound / 3**0.5
        elif name.endswith("core"):
            assert values.min() >= 0
            assert values.max() < 1
            continue
        elif name.endswith(("slot.out.weight", "beside.out.weight")):
            std = 32**-0.5
        elif "table" in name or name.endswith(("router.weight", "gate.weight", "query_conv.weight")):
            std = fan_in**-0.5
            summed = a.peer if name.endswith("output_table") else a.memory if name.endswith("table") else None
            if summed is not None and summed.weights != "softmax" and "input_table" not in name:
                spread = (summed.key_width / 2) ** 0.5 if summed.qk_norm else 1.0
                std /= summed.knn * spread ** (2 if summed.core_rank else 1)
        else:
            std, cut = 32**-0.5 if "attention.out" in name else fan_in**-0.5, True
            assert values.abs().max() <= 3.0001 * std
        tolerance = 4 * (2 * values.numel()) ** -0.5
        assert values.std().item() == pytest.approx(std * (0.98658 if cut else 1.0), rel=tolerance), name
        assert abs(values.mean().item()) < 5 * std * values.numel() ** -0.5, name


def test_published_weights_are_torchs_own_where_it_has_the_rule() -> None:
    """The cut normal distribution is that of trunc_normal_: the same share lies below every bound."""
    drawn = weights(build(replace(ZOO["dense"], vocab_size=2000), seed=1, init="published"))["embedding.weight"]
    theirs = torch.empty(2000, 16)
    torch.nn.init.trunc_normal_(theirs, std=0.25, a=-0.75, b=0.75, generator=torch.Generator().manual_seed(3))
    for bound in (-0.6, -0.25, 0.0, 0.1, 0.5, 0.7):
        ours, expected = ((one < bound).float().mean().item() for one in (drawn, theirs))
        assert ours == pytest.approx(expected, abs=0.012)


def test_published_weights_come_from_seed_and_name_and_an_unknown_rule_is_refused() -> None:
    one, two = (weights(build(ZOO["memory_plus"], seed=5, init="published")) for _ in range(2))
    scaled = weights(build(ZOO["memory_plus"], seed=5))
    assert all(torch.equal(one[name], two[name]) for name in one)
    same = {name for name in one if torch.equal(one[name], scaled[name])}
    assert all(
        "norm" in name or "bias" in name or name in ("table", "blocks.0.slot.gate.weight", "blocks.2.slot.gate.weight")
        for name in same
    )
    assert "table" in same
    with pytest.raises(ConfigError, match="init is 'publishd'; valid: scaled, published"):
        build(ZOO["dense"], seed=0, init="publishd")


@pytest.mark.parametrize("weights", ["none", "relu"])
@pytest.mark.parametrize("core_rank", [None, 2])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("family", ["memory", "peer"])
def test_without_a_softmax_the_output_starts_as_large_as_a_dense_layers(
    family: str, qk_norm: bool, core_rank: int | None, weights: str
) -> None:
    """Within a factor of five, where with the softmax's rows it would be up to 400 times as large."""
    options = {"num_keys": 60, "knn": 16, "key_width": 32, "weights": weights, "core_rank": core_rank}
    part = replace(ZOO[family].memory or ZOO[family].peer, layers=(1,), qk_norm=qk_norm, **options)
    if family == "memory":
        part = replace(part, value_width=64, shared_table=core_rank is None)
    a = replace(ZOO[family], d_model=64, **{family: part})
    x = torch.randn((2, 40, 64), generator=torch.Generator().manual_seed(0))
    model, dense = build(a, seed=0), build(replace(ZOO["dense"], d_model=64, ffn_hidden=170), seed=0)
    found, usual = (one.blocks[1].slot(x, getattr(one, "table", None), None, None)[0].std() for one in (model, dense))
    assert usual / 5 < found < 5 * usual
