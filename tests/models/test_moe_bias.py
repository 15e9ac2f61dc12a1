"""Loss-free balance: the bias moves against the load of whole steps, and decides who is chosen, not how much counts."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.config.layers import MoE
from memscale.models.moe import MoEFeedForward
from memscale.models.transformer import build
from memscale.models.usage import Usage
from tests.models.naive_experts import made
from tests.models.zoo import ZOO

RATE = 0.001


def layer(num_experts: int = 5, chosen: int = 2, rate: float = RATE, scores: str = "sigmoid") -> MoEFeedForward:
    moe = MoE(
        layers=(0,), num_experts=num_experts, experts_per_token=chosen, expert_hidden=4, scores=scores, balance="bias",
        bias_rate=rate, renormalise=chosen > 1,
    )  # fmt: skip
    return made(moe, 6)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_step_moves_every_bias_by_the_rate_towards_the_mean_load(parts: list[list[int]]) -> None:
    made = layer(num_experts=4)
    made.balance_bias.zero_()
    for loads in parts:
        made.step_load += torch.tensor(loads)
    made.after_step()
    loads = [sum(part[expert] for part in parts) for expert in range(4)]
    expected = [RATE * ((sum(loads) / 4 > load) - (sum(loads) / 4 < load)) for load in loads]
    torch.testing.assert_close(made.balance_bias, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)
    assert not made.step_load.any()


def test_the_load_of_a_step_is_that_of_all_its_micro_batches() -> None:
    whole, parts, x_BSD = layer(), layer(), random(6, 20, 6)
    whole(x_BSD)
    for part_BSD in x_BSD.split((1, 3, 2)):
        parts(part_BSD)
    assert torch.equal(whole.step_load, parts.step_load)
    assert whole.step_load.sum() == 6 * 20 * 2
    for each in (whole, parts):
        each.after_step()
    assert torch.equal(whole.balance_bias, parts.balance_bias)


def test_evaluation_counts_for_nothing_but_uses_the_bias() -> None:
    made, x_BSD, usage = layer().eval(), random(2, 20, 6), Usage(5)
    made.balance_bias.zero_()[3] = 100.0
    made(x_BSD, usage=usage)
    assert not made.step_load.any()
    assert usage.max_share == 0.5  # everyone's first choice, of two


def test_the_bias_changes_who_is_chosen_and_not_how_much_they_count() -> None:
    made, x_BSD = layer(chosen=1), random(1, 20, 6)
    made.balance_bias.zero_()[3] = 100.0
    x_TD = x_BSD.flatten(0, 1)
    gate_TF, up_TF = (x_TD @ made.gate_up[3].t()).chunk(2, dim=-1)
    raw_T1 = (x_TD @ made.router.weight[3]).sigmoid()[:, None]
    expected_TD = raw_T1 * ((torch.nn.functional.silu(gate_TF) * up_TF) @ made.down[3].t())
    torch.testing.assert_close(made(x_BSD)[0].flatten(0, 1), expected_TD)


def test_a_lopsided_router_ends_with_an_even_load() -> None:
    made, x_BSD, shares = layer(rate=0.003), random(4, 50, 6), []
    made.balance_bias.zero_()
    made.router.weight.data[2] *= 3
    x_BSD[..., 0] += 2.0
    for _ in range(400):
        made(x_BSD)
        shares.append((made.step_load.max() / made.step_load.sum()).item())
        made.after_step()
    assert shares[0] > 0.3
    assert sum(shares[-20:]) / 20 < 0.21  # even is 0.2


def test_a_built_model_begins_without_bias_in_float32_whatever_its_weights_are() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        model = build(ZOO["moe sigmoid, shared, bias"], seed=0, dtype=dtype)
        buffers = dict(model.named_buffers())
        assert len(buffers) == 4
        assert not any(buffer.any() for buffer in buffers.values())
        assert {buffer.dtype for buffer in buffers.values()} == {torch.float32, torch.int64}
        assert [name for name in model.state_dict() if "load" in name] == []


def test_other_balances_have_no_buffers_and_nothing_to_do_after_a_step() -> None:
    model = build(ZOO["moe top-2"], seed=0)
    model.blocks[0].slot.after_step()
    assert list(model.buffers()) == []
