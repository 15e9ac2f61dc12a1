"""An expert layer once more, token by token and expert by expert in plain torch, from the formulas of the papers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from memscale.config.layers import MoE
from memscale.models.moe import MoEFeedForward

VOCAB_SIZE = 11


@st.composite
def configurations(draw: st.DrawFn, **fixed: Any) -> MoE:
    """Any expert layer that the configuration allows, small; `fixed` says what is not left to chance."""
    routing = fixed.get("routing") or draw(st.sampled_from(["token_choice", "expert_choice", "hash"]))
    # The softmax over a single expert is one for every token: whom it chooses is then anybody's guess.
    num_experts = draw(st.integers(2 if routing == "expert_choice" else 1, 6))
    per_token = draw(st.integers(1, num_experts))
    chooses_tokens, hashed = routing == "expert_choice", routing == "hash"
    given = {
        "layers": (0,),
        "num_experts": num_experts,
        "experts_per_token": per_token,
        "expert_hidden": draw(st.integers(1, 5)),
        "shared_experts": draw(st.integers(0, 2)),
        "routing": routing,
        "scores": "softmax" if hashed else draw(st.sampled_from(["softmax", "sigmoid"])),
        "renormalise": per_token > 1 and routing == "token_choice" and draw(st.booleans()),
        "capacity_factor": draw(st.floats(0.1, float(num_experts))) if chooses_tokens else 1.0,
        "balance": "none" if chooses_tokens or hashed else draw(st.sampled_from(["loss", "bias", "none"])),
        "balance_weight": 0.01 if hashed else 0.3,
        "z_weight": 0.0 if hashed else draw(st.sampled_from([0.0, 0.2])),
    }
    return MoE(**{**given, **fixed})


def made(moe: MoE, d_model: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> MoEFeedForward:
    """A layer with random weights and, where it has one, a random bias large enough to change choices."""
    layer = MoEFeedForward(d_model, moe, VOCAB_SIZE).to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    layer.reset_experts(generator)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        if moe.balance == "bias":
            layer.balance_bias.copy_(0.3 * torch.randn(moe.num_experts, generator=generator))
    return layer.to(dtype)


def naive(
    layer: MoEFeedForward, moe: MoE, x_BSD: Tensor, tokens_BS: Tensor | None = None
) -> tuple[Tensor, Tensor, list[int]]:
    """Return output, auxiliary loss and the rows of every expert, in the mode that the layer is in."""
    sequences, loads = [], [0] * moe.num_experts
    for row, x_SD in enumerate(x_BSD):
        outputs = [shared(layer, x) for x in x_SD]
        if moe.routing == "hash":
            assert tokens_BS is not None
            choices = named(layer, tokens_BS[row].tolist())
        else:
            choices = chosen(layer, moe, x_SD)
        for token, expert, weight in choices:
            outputs[token] = outputs[token] + weight * swiglu(layer.gate_up[expert], layer.down[expert], x_SD[token])
            loads[expert] += 1
        sequences.append(torch.stack(outputs))
    return torch.stack(sequences), auxiliary(layer, moe, x_BSD.flatten(0, 1), loads), loads


def named(layer: MoEFeedForward, ids: list[int]) -> Iterator[tuple[int, int, float]]:
    """Yield token, expert and weight of every row of one sequence with hash routing."""
    for token, id_ in enumerate(ids):
        experts = layer.experts[id_].tolist()
        for expert in experts:
            yield token, expert, 1 / len(experts)


def chosen(layer: MoEFeedForward, moe: MoE, x_SD: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield token, expert and weight of every row of one sequence."""
    scores = [scores_of(layer, moe, x) for x in x_SD]
    if moe.routing == "expert_choice" and layer.training:
        for expert in range(moe.num_experts):
            best = sorted(range(len(scores)), key=lambda token: -scores[token][expert].item())
            for token in best[: max(1, round(moe.capacity_factor * len(scores) / moe.num_experts))]:
                yield token, expert, scores[token][expert]
        return
    offsets = layer.balance_bias.tolist() if moe.balance == "bias" else [0.0] * moe.num_experts
    for token, row in enumerate(scores):
        best = sorted(range(moe.num_experts), key=lambda expert: -(row[expert].item() + offsets[expert]))
        best = best[: moe.experts_per_token]
        total = sum(row[expert] for expert in best) if moe.renormalise else 1.0
        for expert in best:
            yield token, expert, row[expert] / total


def scores_of(layer: MoEFeedForward, moe: MoE, x_D: Tensor) -> list[Tensor]:
    logits = [(row * x_D).sum() for row in layer.router.weight]
    if moe.scores == "sigmoid":
        return [1 / (1 + torch.exp(-logit)) for logit in logits]
    total = sum(torch.exp(logit) for logit in logits)
    return [torch.exp(logit) / total for logit in logits]


def swiglu(gate_up_GD: Tensor, down_DF: Tensor, x_D: Tensor) -> Tensor:
    gate, up = (gate_up_GD @ x_D).chunk(2)
    return down_DF @ (gate / (1 + torch.exp(-gate)) * up)


def shared(layer: MoEFeedForward, x_D: Tensor) -> Tensor:
    """The experts for every token, one by one: slices of the wide one."""
    if layer.shared is None:
        return torch.zeros_like(x_D)
    gate, up = layer.shared.gate_up.weight.chunk(2)
    down = layer.shared.down.weight
    units = range(down.shape[1])
    return sum(swiglu(torch.stack((gate[unit], up[unit])), down[:, unit : unit + 1], x_D) for unit in units)


def auxiliary(layer: MoEFeedForward, moe: MoE, x_TD: Tensor, loads: list[int]) -> Tensor:
    z = balance = torch.zeros((), dtype=x_TD.dtype)
    if moe.routing == "hash":
        return z
    for x in x_TD:
        z = z + torch.log(sum(torch.exp((row * x).sum()) for row in layer.router.weight)) ** 2 / len(x_TD)
        scores = scores_of(layer, moe, x)
        for score, load in zip(scores, loads, strict=True):
            balance = balance + moe.num_experts * load / sum(loads) * score / sum(scores) / len(x_TD)
    return moe.z_weight * z + (moe.balance_weight * balance if moe.balance == "loss" else 0.0)
