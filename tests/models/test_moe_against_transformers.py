"""Expert layers against those of `transformers`: the same weights, output and all gradients, in float64.

Theirs take the softmax in float32 whatever the weights are, which leaves 1e-7; here it is kept from that, so that
nothing but the order of sums is left. Expert choice, which they do not have, is held to a loop over experts
(`naive_experts`, `test_moe`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memscale.config.layers import MoE
from memscale.models.moe import MoEFeedForward
from tests.models.naive_experts import VOCAB_SIZE, made

transformers = pytest.importorskip("transformers")
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@contextmanager
def in_float64() -> Iterator[None]:
    """Leave a softmax in float64 where their router asks for float32."""
    softmax = torch.nn.functional.softmax
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", lambda tensor: tensor)
        patch.setattr(torch.nn.functional, "softmax", lambda x, dim, **_: softmax(x, dim=dim))
        yield


def mixtral(moe: MoE, d_model: int) -> nn.Module:
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = transformers.MixtralConfig(
        hidden_size=d_model, intermediate_size=moe.expert_hidden, num_local_experts=moe.num_experts,
        num_experts_per_tok=moe.experts_per_token, experts_implementation="eager",
    )  # fmt: skip
    return MixtralSparseMoeBlock(config)


def olmoe(moe: MoE, d_model: int) -> nn.Module:
    from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock

    config = transformers.OlmoeConfig(
        hidden_size=d_model, intermediate_size=moe.expert_hidden, num_experts=moe.num_experts,
        num_experts_per_tok=moe.experts_per_token, norm_topk_prob=moe.renormalise, experts_implementation="eager",
    )  # fmt: skip
    return OlmoeSparseMoeBlock(config)


def with_weights_of(theirs: nn.Module, layer: MoEFeedForward) -> nn.Module:
    named = {"gate.weight": layer.router.weight, "experts.gate_up_proj": layer.gate_up, "experts.down_proj": layer.down}
    theirs.double().load_state_dict({name: value.detach() for name, value in named.items()})
    return theirs


def gradients(out_BSD: Tensor, x_BSD: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out_BSD * random(*out_BSD.shape, seed=9)).sum(), [x_BSD, *weights])


shapes = {
    "num_experts": st.integers(2, 6), "hidden": st.integers(1, 9), "d_model": st.integers(1, 7),
    "seed": st.integers(0, 999),
}  # fmt: skip


@pytest.mark.parametrize("block", [mixtral, olmoe])
@pytest.mark.parametrize("renormalise", [True, False])
@settings(max_examples=50, deadline=None)
@given(**shapes, data=st.data())
def test_outputs_and_gradients_are_theirs(
    block: Any, renormalise: bool, num_experts: int, hidden: int, d_model: int, seed: int, data: st.DataObject
) -> None:
    if block is mixtral and not renormalise:
        return  # it always does
    per_token = data.draw(st.integers(1 + renormalise, num_experts))
    moe = MoE(
        layers=(0,), num_experts=num_experts, experts_per_token=per_token, expert_hidden=hidden,
        renormalise=renormalise,
    )  # fmt: skip
    layer = made(moe, d_model, seed=seed).train()
    theirs = with_weights_of(block(moe, d_model), layer).train()
    x_BSD = random(2, 7, d_model, seed=seed + 1).requires_grad_()
    ours_BSD, _ = layer(x_BSD)
    with in_float64():
        theirs_BSD = theirs(x_BSD)
    torch.testing.assert_close(ours_BSD, theirs_BSD, **CLOSE)
    weights = [theirs.gate.weight, theirs.experts.gate_up_proj, theirs.experts.down_proj]
    expected = gradients(theirs_BSD, x_BSD, weights)
    found = gradients(ours_BSD, x_BSD, [layer.router.weight, layer.gate_up, layer.down])
    for ours, one in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, one, **CLOSE)


@pytest.mark.parametrize("per_token", [1, 2, 4])
def test_the_balance_loss_is_theirs_for_each_expert_of_a_token(per_token: int) -> None:
    """Theirs adds up the shares of the first, second ... choices, so at a uniform load it is the number of choices."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    moe = MoE(
        layers=(0,), num_experts=5, experts_per_token=per_token, expert_hidden=3, renormalise=per_token > 1,
        balance_weight=1.0, z_weight=0.0,
    )  # fmt: skip
    layer, x_BSD = made(moe, 6), random(3, 9, 6)
    logits_TE = (x_BSD.flatten(0, 1) @ layer.router.weight.t(),)
    theirs = load_balancing_loss_func(logits_TE, num_experts=5, top_k=per_token)
    assert layer(x_BSD)[1].item() * per_token == pytest.approx(theirs.item(), rel=1e-6)


def test_hash_routing_is_that_of_deepseek_v4_with_a_gate_of_zeros() -> None:
    """There a gate weighs the experts that the token's id names; zeros weigh them alike."""
    v4 = pytest.importorskip("transformers.models.deepseek_v4.modeling_deepseek_v4")
    moe = MoE(
        layers=(0,), num_experts=5, experts_per_token=3, expert_hidden=4, routing="hash", renormalise=False,
        balance="none", z_weight=0.0,
    )  # fmt: skip
    layer, x_BSD = made(moe, 6), random(3, 9, 6).requires_grad_()
    tokens_BS = torch.randint(VOCAB_SIZE, (3, 9), generator=torch.Generator().manual_seed(1))
    router = v4.DeepseekV4HashRouter(
        transformers.DeepseekV4Config(
            hidden_size=6, num_local_experts=5, num_experts_per_tok=3, vocab_size=VOCAB_SIZE, routed_scaling_factor=1.0
        )
    ).double()
    router.weight.data.zero_()
    router.tid2eid.copy_(layer.experts)
    experts = mixtral(moe, 6).experts.double()
    experts.load_state_dict({"gate_up_proj": layer.gate_up.detach(), "down_proj": layer.down.detach()})
    _, weights_TK, experts_TK = router(x_BSD, tokens_BS)
    theirs_BSD = experts(x_BSD.flatten(0, 1), experts_TK, weights_TK).view_as(x_BSD)
    ours_BSD, _ = layer(x_BSD, None, tokens_BS)
    torch.testing.assert_close(ours_BSD, theirs_BSD, rtol=1e-12, atol=1e-12)
    expected = gradients(theirs_BSD, x_BSD, [experts.gate_up_proj, experts.down_proj])
    for ours, one in zip(gradients(ours_BSD, x_BSD, [layer.gate_up, layer.down]), expected, strict=True):
        torch.testing.assert_close(ours, one, rtol=1e-12, atol=1e-12)
