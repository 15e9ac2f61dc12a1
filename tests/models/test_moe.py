"""Expert layers of every option against the recount in `naive_experts`, and what each option promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.config.layers import MoE
from memscale.models.moe import MoEFeedForward
from memscale.models.usage import Usage
from tests.models.naive_experts import VOCAB_SIZE, configurations, made, naive


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def moe(**changes: object) -> MoE:
    given = {"layers": (0,), "num_experts": 5, "experts_per_token": 2, "expert_hidden": 4}
    return MoE(**{**given, **changes})


def choosing_tokens(**changes: object) -> MoE:
    given = {"routing": "expert_choice", "experts_per_token": 1, "renormalise": False, "balance": "none"}
    return moe(**{**given, **changes})


def by_hash(**changes: object) -> MoE:
    return moe(**{"routing": "hash", "renormalise": False, "balance": "none", "z_weight": 0.0, **changes})


class Counted(Usage):
    """What a layer reports of its loads."""

    def add(self, amount: Tensor) -> None:
        self.loads = amount.tolist()
        super().add(amount)


def gradients(layer: MoEFeedForward, x_BSD: Tensor, out_BSD: Tensor, loss: Tensor | None) -> dict[str, Tensor]:
    total = (out_BSD * random(*out_BSD.shape, seed=9)).sum() + (0.0 if loss is None else loss)
    inputs = {"x": x_BSD, **dict(layer.named_parameters())}
    found = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
    zeros = (
        torch.zeros_like(value) if grad is None else grad for value, grad in zip(inputs.values(), found, strict=True)
    )
    return dict(zip(inputs, zeros, strict=True))


@given(configurations(), st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_outputs_losses_loads_and_gradients_are_those_of_a_loop_over_tokens(
    config: MoE, num_sequences: int, length: int, d_model: int, training: bool, seed: int
) -> None:
    layer = made(config, d_model, seed=seed).train(training)
    x_BSD = random(num_sequences, length, d_model, seed=seed + 1).requires_grad_()
    usage = Counted(config.num_experts)
    tokens_BS = tokens(num_sequences, length, seed=seed + 2)
    out_BSD, loss = layer(x_BSD, None, tokens_BS, usage)
    expected_BSD, expected_loss, loads = naive(layer, config, x_BSD, tokens_BS)
    torch.testing.assert_close(out_BSD, expected_BSD, rtol=1e-9, atol=1e-11)
    assert usage.loads == loads
    assert (0.0 if loss is None else loss.item()) == pytest.approx(expected_loss.item(), rel=1e-9)
    expected = gradients(layer, x_BSD, expected_BSD, expected_loss)
    for name, gradient in gradients(layer, x_BSD, out_BSD, loss).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("config", [moe(scores="sigmoid"), moe(balance="bias", shared_experts=1), choosing_tokens()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_types_and_grouped_products_agree_with_the_loop(config: MoE, dtype: torch.dtype) -> None:
    """Widths that torch's grouped products take in float32, and (4 not being a multiple of 8) not in bfloat16."""
    layer, x_BSD = made(config, 8), random(2, 12, 8)
    expected_BSD, expected_loss, _ = naive(layer, config, x_BSD)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        out_BSD, loss = made(config, 8, dtype=torch.float32)(x_BSD.float())
    assert out_BSD.dtype == dtype
    rough = dtype == torch.bfloat16
    torch.testing.assert_close(
        out_BSD.double(), expected_BSD, rtol=0.05 if rough else 1e-4, atol=0.5 if rough else 1e-4
    )
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-4)  # the router works in float32 in any case


@given(configurations(routing="expert_choice"), st.integers(1, 4), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_every_expert_takes_exactly_its_capacity_of_every_sequence(
    config: MoE, num_sequences: int, length: int
) -> None:
    layer, usage = made(config, 3), Counted(config.num_experts)
    layer(random(num_sequences, length, 3), None, None, usage)
    capacity = max(1, round(config.capacity_factor * length / config.num_experts))
    assert usage.loads == [num_sequences * min(length, capacity)] * config.num_experts
    layer.eval()(random(num_sequences, length, 3), None, None, usage)
    assert sum(usage.loads) == num_sequences * length * config.experts_per_token


@pytest.mark.parametrize(
    "config", [moe(), by_hash(), choosing_tokens(), choosing_tokens(scores="sigmoid", capacity_factor=2.5)]
)
def test_the_micro_batch_has_no_say_in_what_training_computes(config: MoE) -> None:
    layer, x_BSD, tokens_BS = made(config, 6), random(4, 9, 6), tokens(4, 9)
    together_BSD, _ = layer(x_BSD, None, tokens_BS)
    for row in range(4):
        alone_BSD, _ = layer(x_BSD[row : row + 1], None, tokens_BS[row : row + 1])
        torch.testing.assert_close(alone_BSD[0], together_BSD[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [moe(balance="bias"), moe(scores="sigmoid", shared_experts=1), choosing_tokens()])
def test_in_evaluation_no_later_token_changes_an_earlier_output(config: MoE) -> None:
    layer, x_BSD = made(config, 6).eval(), random(2, 10, 6)
    assert not layer.is_noncausal(training=False)
    before_BSD, _ = layer(x_BSD)
    for position in range(1, 10):
        changed_BSD = x_BSD.clone()
        changed_BSD[:, position:] = random(2, 10 - position, 6, seed=position)
        torch.testing.assert_close(layer(changed_BSD)[0][:, :position], before_BSD[:, :position], rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [moe(balance="bias"), moe(), choosing_tokens()])
def test_expert_choice_in_training_alone_is_noncausal(config: MoE) -> None:
    layer, x_BSD = made(config, 6), random(2, 10, 6)
    changed_BSD = torch.cat((x_BSD[:, :5], 3 * random(2, 5, 6, seed=1)), dim=1)
    moved = (layer(changed_BSD)[0] - layer(x_BSD)[0])[:, :5].abs().max() > 1e-3
    assert moved == layer.is_noncausal(training=True) == (config.routing == "expert_choice")


def test_in_evaluation_expert_choice_is_the_top_expert_with_its_score() -> None:
    layer, x_BSD = made(choosing_tokens(), 6).eval(), random(2, 10, 6)
    scores_TE = (x_BSD.flatten(0, 1) @ layer.router.weight.t()).softmax(-1)
    best_T = scores_TE.argmax(-1).tolist()
    for token, (x_D, out_D) in enumerate(zip(x_BSD.flatten(0, 1), layer(x_BSD)[0].flatten(0, 1), strict=True)):
        gate, up = (layer.gate_up[best_T[token]] @ x_D).chunk(2)
        hidden = torch.nn.functional.silu(gate) * up
        torch.testing.assert_close(out_D, scores_TE[token].max() * (layer.down[best_T[token]] @ hidden))


@pytest.mark.parametrize(
    "config", [moe(), moe(scores="sigmoid", balance="bias", shared_experts=2), choosing_tokens(capacity_factor=2.0)]
)
@pytest.mark.parametrize("expert_hidden", [8, 7])  # grouped products, and one expert after another
def test_repeats_are_equal_bit_for_bit(config: MoE, expert_hidden: int) -> None:
    config = MoE(**{**vars(config), "expert_hidden": expert_hidden})
    x_BSD, found = random(8, 64, 16).float().requires_grad_(), []
    for _ in range(3):
        layer = made(config, 16, dtype=torch.float32)
        out_BSD, loss = layer(x_BSD)
        found.append([out_BSD, *torch.autograd.grad(out_BSD.square().sum() + loss, [x_BSD, *layer.parameters()])])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_sigmoids_that_all_underflow_still_have_shares() -> None:
    layer = made(moe(scores="sigmoid"), 6, dtype=torch.float32)
    layer.router.weight.data.fill_(-1e3)
    out_BSD, loss = layer(torch.ones(1, 3, 6))
    (out_BSD.sum() + loss).backward()
    assert out_BSD.any()
    assert all(value.grad.isfinite().all() for value in layer.parameters())
