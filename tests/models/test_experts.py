"""Experts: gradients, the auxiliary loss, and that no token is dropped."""

from __future__ import annotations

import math

import pytest
import torch
from naive_model import FAMILIES, tokens_of

from memscale.config.architecture import MoE
from memscale.models.experts import run_experts
from memscale.models.moe import MoEFeedForward
from memscale.models.transformer import build


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loads", [[2, 0, 3, 1], [0, 0, 0, 6], [6, 0, 0, 0]])
def test_gradients_are_those_of_the_function_empty_experts_included(loads: list[int]) -> None:
    inputs = [random(6, 3).requires_grad_(), random(4, 10, 3).requires_grad_(), random(4, 3, 5).requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, up, down: run_experts(x, up, down, torch.tensor(loads)), inputs)


def layer(num_experts: int, chosen: int, *, balance_weight: float = 1.0, z_weight: float = 0.0) -> MoEFeedForward:
    moe = MoE(
        layers=(0,),
        num_experts=num_experts,
        experts_per_token=chosen,
        expert_hidden=4,
        balance_weight=balance_weight,
        z_weight=z_weight,
    )
    made = MoEFeedForward(6, moe).double()
    for seed, parameter in enumerate(made.parameters()):
        parameter.data.copy_(random(*parameter.shape, seed=seed))
    return made


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_the_balance_loss_is_one_at_uniform_scores_for_any_number_chosen(chosen: int) -> None:
    made = layer(4, chosen)
    made.router.weight.data.zero_()
    assert made(random(10, 6), None)[1].item() == pytest.approx(1.0)


@pytest.mark.parametrize("chosen", [1, 3])
def test_the_auxiliary_loss_by_hand(chosen: int) -> None:
    made, x = layer(5, chosen, balance_weight=0.3, z_weight=0.2), random(20, 6)
    scores = torch.exp(x @ made.router.weight.t())
    load, mean_score, z = [0.0] * 5, [0.0] * 5, 0.0
    for row in scores.tolist():
        z += math.log(sum(row)) ** 2 / 20
        for expert in range(5):
            mean_score[expert] += row[expert] / sum(row) / 20
        for expert in sorted(range(5), key=lambda e: -row[e])[:chosen]:
            load[expert] += 1 / (20 * chosen)
    balance = 5 * sum(share * score for share, score in zip(load, mean_score, strict=True))
    assert made(x, None)[1].item() == pytest.approx(0.3 * balance + 0.2 * z)


def test_all_tokens_on_one_expert_are_all_served() -> None:
    made, x = layer(4, 1), random(50, 6).abs()
    made.router.weight.data[:] = -1.0
    made.router.weight.data[2] = 1.0
    out, auxiliary_loss = made(x, None)
    scores = (x @ made.router.weight.t()).softmax(-1)
    gate, up = (x @ made.gate_up[2].t()).chunk(2, dim=-1)
    expected = (torch.nn.functional.silu(gate) * up) @ made.down[2].t() * scores[:, 2:3]
    torch.testing.assert_close(out, expected)
    assert auxiliary_loss.item() == pytest.approx(4 * scores[:, 2].mean().item())


@pytest.mark.parametrize("family", ["moe top-1", "moe top-2"])
def test_the_router_learns_from_the_loss_without_the_auxiliary_one(family: str) -> None:
    model = build(FAMILIES[family], seed=0)
    model(tokens_of(model.architecture, (2, 9))).logits_BSV.square().sum().backward()
    assert all(model.blocks[index].slot.router.weight.grad.abs().max() > 1e-6 for index in (0, 2))


def test_the_router_works_in_float32_under_autocast() -> None:
    made, x = layer(4, 1).float(), random(50, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rough, auxiliary_loss = made(x, None)
    exact, expected_loss = made(x.float(), None)
    assert auxiliary_loss.dtype == torch.float32
    assert torch.equal(auxiliary_loss, expected_loss)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.1)
