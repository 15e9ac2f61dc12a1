"""The op that runs all experts: its gradients, its two ways to the same bits, and routed layers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from memscale.config.layers import MoE
from memscale.models import experts
from memscale.models.experts import FLOP_FORMULAS, run_experts, takes_grouped
from memscale.models.moe import MoEFeedForward
from memscale.models.transformer import build
from tests.models.zoo import ZOO, tokens_of


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loads", [[2, 0, 3, 1], [0, 0, 0, 6], [6, 0, 0, 0]])
def test_gradients_are_those_of_the_function_empty_experts_included(loads: list[int]) -> None:
    inputs = [random(6, 3).requires_grad_(), random(4, 10, 3).requires_grad_(), random(4, 3, 5).requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, up, down: run_experts(x, up, down, torch.tensor(loads)), inputs)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_grouped_products_are_those_of_one_expert_after_another(loads: list[int], d: int, f: int) -> None:
    d_model, hidden = 4 * d, 4 * f
    rows, experts_of = sum(loads), len(loads)
    inputs = [random(rows, d_model), random(experts_of, 2 * hidden, d_model), random(experts_of, d_model, hidden)]
    load_E = torch.tensor(loads)

    def results() -> list[torch.Tensor]:
        given = [value.float().requires_grad_() for value in inputs]
        out = run_experts(*given, load_E)
        return [out, *torch.autograd.grad(out.square().sum(), given)]

    assert takes_grouped(inputs[0].float(), d_model, hidden)
    grouped = results()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experts, "takes_grouped", lambda *_: False)
        in_turn = results()
    for one, other in zip(grouped, in_turn, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    assert not grouped[3][load_E == 0].any()


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
@settings(max_examples=80, deadline=None)
def test_grouped_products_are_used_exactly_where_torch_takes_them(d: int, f: int, dtype: torch.dtype) -> None:
    def tried() -> bool:
        try:
            for width, other in ((d, 2 * f), (f, d)):
                weights_EYX = torch.zeros(2, other, width, dtype=dtype)
                torch.nn.functional.grouped_mm(
                    torch.zeros(3, width, dtype=dtype), weights_EYX.mT, offs=torch.tensor([1, 3], dtype=torch.int32)
                )
        except (RuntimeError, ValueError):
            return False
        return True

    assert takes_grouped(torch.zeros(3, d, dtype=dtype), d, f) == tried()
    run_experts(  # never refused
        torch.zeros(3, d, dtype=dtype), torch.zeros(2, 2 * f, d, dtype=dtype), torch.zeros(2, d, f, dtype=dtype),
        torch.tensor([1, 2]),
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [8, 7])
def test_torchs_counter_sees_the_flops_of_every_row_forward_and_backward(hidden: int) -> None:
    inputs = [
        value.float().requires_grad_() for value in (random(6, 8), random(4, 2 * hidden, 8), random(4, 8, hidden))
    ]
    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
        out = run_experts(*inputs, torch.tensor([2, 0, 3, 1]))
        assert counter.get_total_flops() == 6 * 6 * 8 * hidden
        out.sum().backward()
    assert counter.get_total_flops() == 3 * 6 * 6 * 8 * hidden


def layer(num_experts: int, chosen: int, *, balance_weight: float = 1.0, z_weight: float = 0.0) -> MoEFeedForward:
    moe = MoE(
        layers=(0,),
        num_experts=num_experts,
        experts_per_token=chosen,
        expert_hidden=4,
        renormalise=chosen > 1,
        balance_weight=balance_weight,
        z_weight=z_weight,
    )
    made = MoEFeedForward(6, moe, 11).double()
    for seed, parameter in enumerate(made.parameters()):
        parameter.data.copy_(random(*parameter.shape, seed=seed))
    return made


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_the_balance_loss_is_one_at_uniform_scores_for_any_number_chosen(chosen: int) -> None:
    made = layer(4, chosen)
    made.router.weight.data.zero_()
    assert made(random(1, 10, 6))[1].item() == pytest.approx(1.0)


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
    assert made(x[None])[1].item() == pytest.approx(0.3 * balance + 0.2 * z)


def test_all_tokens_on_one_expert_are_all_served() -> None:
    made, x = layer(4, 1), random(50, 6).abs()
    made.router.weight.data[:] = -1.0
    made.router.weight.data[2] = 1.0
    out, auxiliary_loss = made(x.view(5, 10, 6))
    scores = (x @ made.router.weight.t()).softmax(-1)
    gate, up = (x @ made.gate_up[2].t()).chunk(2, dim=-1)
    expected = (torch.nn.functional.silu(gate) * up) @ made.down[2].t() * scores[:, 2:3]
    torch.testing.assert_close(out.view(50, 6), expected)
    assert auxiliary_loss.item() == pytest.approx(4 * scores[:, 2].mean().item())


@pytest.mark.parametrize("name", [name for name in ZOO if name.startswith("moe") and "hash" not in name])
def test_the_router_learns_from_the_loss_without_the_auxiliary_one(name: str) -> None:
    model = build(ZOO[name], seed=0)
    model(tokens_of(model.architecture, (2, 9))).logits_BSV.square().sum().backward()
    assert all(model.blocks[index].slot.router.weight.grad.abs().max() > 1e-6 for index in (0, 2))


def test_the_router_works_in_float32_under_autocast() -> None:
    made, x = layer(4, 1).float(), random(1, 50, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rough, auxiliary_loss = made(x)
    exact, expected_loss = made(x.float())
    assert auxiliary_loss.dtype == torch.float32
    assert torch.equal(auxiliary_loss, expected_loss)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.1)
