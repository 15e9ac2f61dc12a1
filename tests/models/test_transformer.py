"""Whole models: against the naive ones, causal, deterministic, each with its own tables."""

from __future__ import annotations

import itertools

import naive_model
import numpy
import pytest
import torch
import torch.nn.functional as F
from zoo import ZOO, tokens_of

from memscale.models.counts import component
from memscale.models.precision import promoted
from memscale.models.queries import QueryBatchNorm
from memscale.models.transformer import Transformer, build

zoo = pytest.mark.parametrize("which", ZOO)


def loss_of(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    output = model(tokens[:, :-1])
    logits = promoted(output.logits_BSV).flatten(0, 1)
    return F.cross_entropy(logits, tokens[:, 1:].flatten()) + output.auxiliary_loss


def with_running_statistics(which: str) -> Transformer:
    """A float64 model whose gains, biases and running statistics are all different, so that none can be left out."""
    model = build(ZOO[which], seed=1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("norm.weight", ".bias")):
                value.add_(torch.randn(value.shape, generator=generator, dtype=torch.float64), alpha=0.3)
        for value in model.buffers():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("training", [False, True])
@zoo
def test_logits_are_those_of_the_naive_model(which: str, training: bool) -> None:
    model = with_running_statistics(which).train(training)
    tokens = tokens_of(model.architecture, (2, 7))
    expected = torch.from_numpy(naive_model.logits(model, tokens.tolist()))
    torch.testing.assert_close(model(tokens).logits_BSV, expected, rtol=0, atol=1e-10)


@zoo
def test_float32_and_its_compiled_kernels_agree_with_float64(which: str) -> None:
    tokens = tokens_of(ZOO[which], (3, 9))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model = build(ZOO[which], seed=1, dtype=dtype)
        loss_of(model, tokens).backward()
        gradients.append({name: value.grad.to_dense().double() for name, value in model.named_parameters()})
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=2e-5, msg=name)


@zoo
def test_gradients_are_the_slopes_of_the_loss(which: str) -> None:
    tokens = tokens_of(ZOO[which], (2, 7))
    model = build(ZOO[which], seed=1, dtype=torch.float64)
    loss_of(model, tokens).backward()
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        losses = []
        with torch.no_grad():
            for step in (1e-6, -2e-6, 1e-6):  # there, to the other side, and back
                parameter.add_(direction, alpha=step)
                losses.append(loss_of(model, tokens).item())
        slope = (losses[0] - losses[1]) / 2e-6
        assert slope == pytest.approx((parameter.grad.to_dense() * direction).sum().item(), rel=1e-5, abs=1e-7), name


@zoo
def test_two_backward_passes_are_equal_bit_for_bit(which: str) -> None:
    tokens = tokens_of(ZOO[which], (4, 33))
    gradients = []
    for _ in range(2):
        model = build(ZOO[which], seed=0)
        loss_of(model, tokens).backward()
        gradients.append([parameter.grad.to_dense() for parameter in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


@zoo
def test_every_parameter_gets_a_gradient(which: str) -> None:
    model = build(ZOO[which], seed=0)
    loss_of(model, tokens_of(model.architecture, (16, 33))).backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    unmoved = {name for name, gradient in gradients.items() if gradient is None or not gradient.to_dense().any()}
    # A batch norm takes out the bias before it, whose gradient is zero and not what rounding leaves of it.
    batch_norms = {name for name, part in model.named_modules() if isinstance(part, QueryBatchNorm)}
    # A convolution is zero at first, and its norm before it is not felt.
    convolved = {name for name in gradients if name.endswith("ngram.conv_norm.weight")}
    assert unmoved == {f"{name.removesuffix('_norm')}.bias" for name in batch_norms} | convolved


TABLES = {
    "memory_plus": ["table"],
    "memory_plus, own tables": ["blocks.0.slot.table", "blocks.2.slot.table"],
    "pkm batch": ["blocks.0.slot.table", "blocks.2.slot.table"],
    "ngram": ["blocks.0.ngram.table", "blocks.2.ngram.table"],
    "token table, gated": ["blocks.0.token_table.table", "blocks.1.token_table.table"],
    "token table, up": ["blocks.1.slot.table"],
    "experts, memory, n-grams, token table": ["table", "blocks.1.slot.table", "blocks.2.ngram.table"],
    "peer qk-norm": [f"blocks.{layer}.slot.{side}_table" for layer in (0, 2) for side in ("input", "output")],
}


@pytest.mark.parametrize("which", TABLES)
def test_a_model_has_its_tables_and_no_other_model_has_them(which: str) -> None:
    one, two = (build(ZOO[which], seed=0).eval() for _ in range(2))
    tables = {name: value for name, value in one.named_parameters() if component(name) == "table"}
    assert list(tables) == TABLES[which]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(tables.values(), 2))
    tokens = tokens_of(one.architecture, (1, 6))
    with torch.no_grad():
        before = two(tokens).logits_BSV
        for table in tables.values():
            unchanged = one(tokens).logits_BSV
            table.mul_(-1.5)
            assert not torch.equal(one(tokens).logits_BSV, unchanged)
        assert torch.equal(two(tokens).logits_BSV, before)


def test_the_memory_layers_of_a_model_share_its_table() -> None:
    model = build(ZOO["memory_plus"], seed=0)
    touched = []
    for silenced in (0, 2):
        model.zero_grad()
        other = build(ZOO["memory_plus"], seed=0)
        with torch.no_grad():
            other.blocks[silenced].slot.out.weight.zero_()
        loss_of(other, tokens_of(model.architecture, (1, 3))).backward()
        touched.append(other.table.grad.to_dense().any(dim=1))
    assert not torch.equal(touched[0], touched[1])  # either layer alone reaches the table


@zoo
def test_bfloat16_autocast_stays_near_float32(which: str) -> None:
    # The path that a GPU takes. Choices flip where scores nearly tie, so the mean over many tokens and a wide margin.
    model = build(ZOO[which], seed=0)
    tokens = tokens_of(model.architecture, (8, 20))
    exact = loss_of(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss_of(model, tokens)
    assert rough.item() == pytest.approx(exact.item(), abs=0.05)
    rough.backward()
    assert all(value.grad is not None and value.grad.to_dense().isfinite().all() for value in model.parameters())


def test_only_experts_and_cores_with_a_penalty_have_an_auxiliary_loss() -> None:
    for architecture in ZOO.values():
        loss = build(architecture, seed=0)(tokens_of(architecture, (2, 6))).auxiliary_loss
        assert loss.shape == ()
        learnt = architecture.moe is not None and architecture.moe.routing != "hash"
        cores = [part for part in (architecture.memory, architecture.peer) if part is not None and part.core_rank]
        assert (loss.item() > 0) == (learnt or any(part.core_penalty != 0 for part in cores))


def test_the_loss_of_a_core_is_that_of_its_minor_singular_values() -> None:
    model = build(ZOO["memory tucker"], seed=0, dtype=torch.float64)
    expected = 0.0
    for layer in (0, 2):
        minor = [numpy.linalg.svd(core)[1][1] for core in model.blocks[layer].slot.core.detach().numpy()]
        expected += 0.001 * sum(max(0.0, value - 0.15) ** 2 for value in minor) / len(minor)
    found = model(tokens_of(model.architecture, (1, 4))).auxiliary_loss.item()
    assert found == pytest.approx(expected, rel=1e-12)
    assert expected > 0
