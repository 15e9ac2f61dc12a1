"""Looped models against plain loops with gradients, and against the models that they are unrolled."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.config.architecture import Architecture
from memscale.config.loop import INJECTIONS, Loop
from memscale.models.cache import KVCache
from memscale.models.transformer import Transformer, build
from tests.models.zoo import architecture, tokens_of


def looped(prelude: int, recurrent: int, coda: int, times: int, injection: str = "concatenate") -> Architecture:
    loop = Loop(prelude=prelude, recurrent=recurrent, coda=coda, recurrences=times, injection=injection)
    return architecture("looped", num_layers=loop.stored_layers, loop=loop)


def distinct(a: Architecture) -> Transformer:
    """A float64 model whose norms' gains are all different, so that none can be left out."""
    model = build(a, seed=1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("norm.weight"):
                value.add_(torch.randn(value.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return model


def plain_logits(model: Transformer, tokens: list[int]) -> Tensor:
    """Logits [S, V] of one sequence, from the formulas, position by position and head by head."""
    a, w = model.architecture, dict(model.named_parameters())

    def normed(x: list[Tensor], name: str) -> list[Tensor]:
        return [v / torch.sqrt((v * v).mean() + a.norm_eps) * w[f"{name}.weight"] for v in x]

    def turned(v: Tensor, position: int) -> Tensor:
        pairs = []
        for i in range(0, len(v), 2):
            angle = position * a.rope_theta ** (-i / len(v))
            pairs.append(v[i] * math.cos(angle) - v[i + 1] * math.sin(angle))
            pairs.append(v[i] * math.sin(angle) + v[i + 1] * math.cos(angle))
        return torch.stack(pairs)

    def attention(x: list[Tensor], name: str) -> list[Tensor]:
        rows = [(w[f"{name}.qkv.weight"] @ v).split(a.head_width) for v in x]
        outputs = []
        for here in range(len(x)):
            mixed = []
            for head in range(a.num_heads):
                key = a.num_heads + head * a.num_kv_heads // a.num_heads
                query = turned(rows[here][head], here)
                scores = [query @ turned(rows[at][key], at) / a.head_width**0.5 for at in range(here + 1)]
                weights = torch.stack(scores).softmax(0)
                mixed.append(sum(weights[at] * rows[at][key + a.num_kv_heads] for at in range(here + 1)))
            outputs.append(w[f"{name}.out.weight"] @ torch.cat(mixed))
        return outputs

    def swiglu(v: Tensor, name: str) -> Tensor:
        gate, up = (w[f"{name}.gate_up.weight"] @ v).split(a.ffn_hidden)
        return w[f"{name}.down.weight"] @ (gate * gate.sigmoid() * up)

    def block(x: list[Tensor], layer: int) -> list[Tensor]:
        name = f"blocks.{layer}"
        mixed = attention(normed(x, f"{name}.attention_norm"), f"{name}.attention")
        x = [v + m for v, m in zip(x, mixed, strict=True)]
        return [v + swiglu(n, f"{name}.slot") for v, n in zip(x, normed(x, f"{name}.slot_norm"), strict=True)]

    loop = a.loop
    assert loop is not None
    state = [w["embedding.weight"][token] for token in tokens]
    for layer in range(loop.prelude):
        state = block(state, layer)
    e = state
    for _ in range(loop.recurrences):
        if loop.injection == "concatenate":
            state = [w["injection.weight"] @ torch.cat((s, input)) for s, input in zip(state, e, strict=True)]
        for layer in range(loop.prelude, loop.prelude + loop.recurrent):
            state = block(state, layer)
    for layer in range(loop.prelude + loop.recurrent, a.num_layers):
        state = block(state, layer)
    return torch.stack([w["head.weight"] @ v for v in normed(state, "norm")])


@pytest.mark.parametrize(
    "a",
    [looped(1, 2, 1, 3), looped(0, 1, 0, 4), looped(1, 1, 0, 2, "none"), looped(2, 1, 1, 1)],
    ids=["1 2x3 1", "0 1x4 0", "1 1x2 0, none", "2 1x1 1"],
)
def test_logits_and_gradients_are_those_of_plain_loops(a: Architecture) -> None:
    model = distinct(a)
    tokens = tokens_of(a, (2, 6))
    pull = torch.randn(2, 6, a.vocab_size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = torch.stack([plain_logits(model, sequence) for sequence in tokens.tolist()])
    slopes = torch.autograd.grad((expected * pull).sum(), list(model.parameters()))
    found = model(tokens).logits_BSV
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    (found * pull).sum().backward()
    for (name, parameter), slope in zip(model.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-9, atol=1e-9, msg=name)


shapes = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 2), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_without_an_injection_it_is_the_dense_model_with_its_layers_repeated(shape: tuple[int, int, int, int]) -> None:
    """Logits are equal, and the gradient of a shared weight is the sum over its copies."""
    a = looped(*shape, injection="none")
    model, unrolled = distinct(a), build(architecture("dense", num_layers=a.depth), seed=9, dtype=torch.float64)
    copies: dict[str, list[str]] = {}
    for name, _ in unrolled.named_parameters():
        parts = name.split(".")
        stored = (
            name if parts[0] != "blocks" else ".".join(["blocks", str(a.applied_layers[int(parts[1])]), *parts[2:]])
        )
        copies.setdefault(stored, []).append(name)
    ours, theirs = dict(model.named_parameters()), dict(unrolled.named_parameters())
    with torch.no_grad():
        for stored, names in copies.items():
            for name in names:
                theirs[name].copy_(ours[stored])
    tokens = tokens_of(a, (2, 5))
    logits = [one(tokens).logits_BSV for one in (model, unrolled)]
    assert torch.equal(*logits)
    for one in logits:
        one.square().sum().backward()
    for stored, names in copies.items():
        total = sum(theirs[name].grad for name in names)
        torch.testing.assert_close(ours[stored].grad, total, rtol=1e-10, atol=1e-10, msg=stored)


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from(INJECTIONS), st.sets(st.integers(1, 7)))
def test_a_cache_holds_every_recurrence_apart(shape: tuple[int, int, int, int], injection: str, cuts: set[int]) -> None:
    a = looped(*shape, injection=injection)
    model, tokens = build(a, seed=1, dtype=torch.float64).eval(), tokens_of(a, (2, 8))
    cache = KVCache(a, num_rows=2, capacity=8, dtype=torch.float64)
    with torch.no_grad():
        expected = model(tokens).logits_BSV
        edges = [0, *sorted(cuts), 8]
        parts = [model(tokens[:, i:j], cache).logits_BSV for i, j in itertools.pairwise(edges)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-10)


def test_initial_weights_are_scaled_by_the_layers_that_a_token_passes_through() -> None:
    a = replace(looped(1, 2, 1, 5), d_model=64, ffn_hidden=160)
    model = build(a, seed=0)
    assert model.blocks[1].slot.down.weight.std().item() == pytest.approx((160 * 2 * 12) ** -0.5, rel=0.05)
    assert model.injection is not None
    assert model.injection.weight.std().item() == pytest.approx(128**-0.5, rel=0.05)
    # Beside a dense model of equal depth: what both have begins equal.
    dense = dict(build(replace(a, family="dense", loop=None, num_layers=12), seed=0).named_parameters())
    shared = [name for name, value in model.named_parameters() if name in dense and dense[name].shape == value.shape]
    assert len(shared) >= 20
    assert all(torch.equal(dict(model.named_parameters())[name], dense[name]) for name in shared)


def test_autocast_keeps_the_residual_stream_in_float32() -> None:
    seen: list[torch.dtype] = []
    model = build(looped(1, 1, 1, 3), seed=0)
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(tokens_of(model.architecture, (1, 4)))
    assert seen == [torch.float32] * 5


def test_changes_of_the_state_are_means_over_the_tokens_of_all_batches() -> None:
    a = looped(1, 2, 1, 3)
    model, tokens = build(a, seed=0, dtype=torch.float64).eval(), tokens_of(a, (3, 7))
    states: list[list[Tensor]] = []
    model.blocks[0].register_forward_hook(lambda _, __, out: states.append([out[0]]))
    model.blocks[2].register_forward_hook(lambda _, __, out: states[-1].append(out[0]))
    model.start_statistics()
    with torch.no_grad():
        for part in (tokens[:2], tokens[2:]):
            model(part)
    found = model.statistics()
    for i in (1, 2, 3):
        changes = [((s[i] - s[i - 1]).norm(dim=-1) / s[i].norm(dim=-1)).flatten() for s in states]
        assert found[f"loop_change_{i}"] == pytest.approx(torch.cat(changes).mean().item(), rel=1e-12)
    assert model.statistics() == {}
