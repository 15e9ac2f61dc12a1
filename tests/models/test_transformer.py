"""Whole models: against the naive ones, causal, deterministic, each with its own table."""

from __future__ import annotations

import naive_model
import pytest
import torch
import torch.nn.functional as F
from naive_model import FAMILIES, tokens_of

from memscale.models.precision import promoted
from memscale.models.transformer import Transformer, build

families = pytest.mark.parametrize("family", FAMILIES)


def loss_of(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    output = model(tokens[:, :-1])
    logits = promoted(output.logits_BSV).flatten(0, 1)
    return F.cross_entropy(logits, tokens[:, 1:].flatten()) + output.auxiliary_loss


@families
def test_logits_are_those_of_the_naive_model(family: str) -> None:
    model = build(FAMILIES[family], seed=1, dtype=torch.float64)
    torch.nn.init.normal_(model.norm.weight, 1.0, 0.1, generator=torch.Generator().manual_seed(0))
    tokens = tokens_of(model.architecture, (2, 7))
    found = model(tokens).logits_BSV
    for row, given in zip(found, tokens, strict=True):
        torch.testing.assert_close(row, torch.from_numpy(naive_model.logits(model, given.tolist())), rtol=0, atol=1e-10)


@families
def test_float32_and_its_compiled_kernels_agree_with_float64(family: str) -> None:
    tokens = tokens_of(FAMILIES[family], (3, 9))
    gradients = []
    for dtype in (torch.float32, torch.float64):
        model = build(FAMILIES[family], seed=1, dtype=dtype)
        loss_of(model, tokens).backward()
        gradients.append({name: value.grad.double() for name, value in model.named_parameters()})
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=2e-5, msg=name)


@families
def test_gradients_are_the_slopes_of_the_loss(family: str) -> None:
    tokens = tokens_of(FAMILIES[family], (2, 7))
    model = build(FAMILIES[family], seed=1, dtype=torch.float64)
    loss_of(model, tokens).backward()
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        losses = []
        with torch.no_grad():
            for step in (1e-6, -2e-6, 1e-6):  # there, to the other side, and back
                parameter.add_(direction, alpha=step)
                losses.append(loss_of(model, tokens).item())
        slope = (losses[0] - losses[1]) / 2e-6
        assert slope == pytest.approx((parameter.grad * direction).sum().item(), rel=1e-5, abs=1e-7), name


@families
def test_a_later_token_changes_no_earlier_logit(family: str) -> None:
    model = build(FAMILIES[family], seed=0).eval()
    tokens = tokens_of(model.architecture, (1, 12))
    with torch.no_grad():
        before = model(tokens).logits_BSV
        for position in range(1, 12):
            changed = tokens.clone()
            changed[0, position:] = (changed[0, position:] + 1) % model.architecture.vocab_size
            after = model(changed).logits_BSV
            torch.testing.assert_close(after[:, :position], before[:, :position], rtol=1e-5, atol=2e-6)
            assert not torch.allclose(after[:, position], before[:, position], atol=1e-3)


@families
def test_a_sequence_scores_alike_alone_and_in_a_batch(family: str) -> None:
    model = build(FAMILIES[family], seed=0).eval()
    tokens = tokens_of(model.architecture, (5, 8))
    with torch.no_grad():
        together = model(tokens).logits_BSV
        for row in range(5):
            torch.testing.assert_close(model(tokens[row : row + 1]).logits_BSV[0], together[row], rtol=1e-5, atol=2e-6)


@families
def test_two_backward_passes_are_equal_bit_for_bit(family: str) -> None:
    tokens = tokens_of(FAMILIES[family], (4, 33))
    gradients = []
    for _ in range(2):
        model = build(FAMILIES[family], seed=0)
        loss_of(model, tokens).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


@families
def test_every_parameter_gets_a_gradient(family: str) -> None:
    model = build(FAMILIES[family], seed=0)
    loss_of(model, tokens_of(model.architecture, (16, 33))).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_two_models_do_not_share_a_table() -> None:
    one, two = (build(FAMILIES["memory_plus"], seed=0).eval() for _ in range(2))
    assert one.table is not None
    assert two.table is not None
    tokens = tokens_of(one.architecture, (1, 6))
    with torch.no_grad():
        before = two(tokens).logits_BSV
        one.table.add_(1.0)
        assert torch.equal(two(tokens).logits_BSV, before)
        assert not torch.equal(one(tokens).logits_BSV, before)


def test_the_memory_layers_of_a_model_share_its_table() -> None:
    model = build(FAMILIES["memory_plus"], seed=0)
    tables = [name for name, value in model.named_parameters() if value.shape == model.table.shape]
    assert tables == ["table"]
    reads = []
    for silenced in (0, 2):
        model.zero_grad()
        other = build(FAMILIES["memory_plus"], seed=0)
        with torch.no_grad():
            other.blocks[silenced].slot.out.weight.zero_()
        loss_of(other, tokens_of(model.architecture, (1, 3))).backward()
        reads.append(other.table.grad.any(dim=1))
    assert not torch.equal(reads[0], reads[1])  # either layer alone reaches the table


@families
def test_bfloat16_autocast_stays_near_float32(family: str) -> None:
    # The path that a GPU takes. Routing may flip where scores nearly tie, so few tokens and a wide margin.
    model = build(FAMILIES[family], seed=0)
    tokens = tokens_of(model.architecture, (2, 6))
    exact = loss_of(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss_of(model, tokens)
    assert rough.item() == pytest.approx(exact.item(), abs=0.05)
    rough.backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


def test_only_experts_have_an_auxiliary_loss() -> None:
    for family, architecture in FAMILIES.items():
        loss = build(architecture, seed=0)(tokens_of(architecture, (2, 6))).auxiliary_loss
        assert loss.shape == ()
        assert (loss.item() > 0) == family.startswith("moe")
