"""Experts in the feed-forward slot: dropless top-k token choice (Shazeer et al. 2017; Fedus et al. 2022).

A token goes to the k experts with the highest softmax scores. For k > 1 their scores are renormalised to sum to one;
for k = 1 the raw score is the weight, else the router would get no gradient from the loss (Switch). No token is ever
dropped and none is padded. The auxiliary loss is the layer's balance loss in Switch form, divided by k so that it is 1
at a uniform load for any k, plus the router z-loss (Zoph et al. 2022), each with its weight; it stands apart from the
model's loss. Both are means over the tokens given at once, a micro-batch.

T tokens, D model width, E experts, K experts per token, A = T K rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from memscale.config.architecture import MoE
from memscale.models.experts import run_experts
from memscale.models.precision import promoted
from memscale.models.usage import Usage


class MoEFeedForward(nn.Module):
    """`gate_up[e]` is expert e's [2F, D] (gate first), `down[e]` its [D, F]; the router has no bias."""

    def __init__(self, d_model: int, moe: MoE) -> None:
        super().__init__()
        self._moe = moe
        self.router = nn.Linear(d_model, moe.num_experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(moe.num_experts, 2 * moe.expert_hidden, d_model))
        self.down = nn.Parameter(torch.empty(moe.num_experts, d_model, moe.expert_hidden))

    def forward(self, x_TD: Tensor, usage: Usage | None) -> tuple[Tensor, Tensor]:
        """Return the output [T, D] and the layer's auxiliary loss, a scalar."""
        with torch.autocast(x_TD.device.type, enabled=False):
            logits_TE = promoted(x_TD) @ promoted(self.router.weight).t()
        scores_TE = logits_TE.softmax(dim=-1)
        weights_TK, experts_TK = scores_TE.topk(self._moe.experts_per_token, dim=-1)
        if self._moe.experts_per_token > 1:
            weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True)
        load_E = experts_TK.flatten().bincount(minlength=self._moe.num_experts)
        if usage is not None:
            usage.add(load_E)
        out_TKD = self._run(x_TD, experts_TK, load_E.tolist())
        out_TD = torch.einsum("tkd,tk->td", out_TKD, weights_TK.to(out_TKD.dtype))
        return out_TD, self._auxiliary_loss(logits_TE, scores_TE, load_E)

    def _run(self, x_TD: Tensor, experts_TK: Tensor, loads: list[int]) -> Tensor:
        """Return [T, K, D]: each token through each of its experts."""
        gate_up: Tensor = self.gate_up
        down: Tensor = self.down
        device = x_TD.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x_TD, gate_up, down = x_TD.to(dtype), gate_up.to(dtype), down.to(dtype)
        num_chosen = experts_TK.shape[1]
        order_A = experts_TK.flatten().argsort(stable=True)
        place_A = torch.empty_like(order_A)
        place_A[order_A] = torch.arange(len(order_A), device=order_A.device)
        x_AD = x_TD.repeat_interleave(num_chosen, dim=0) if num_chosen > 1 else x_TD
        sorted_AD = _permute(x_AD, order_A, place_A)
        out_AD = _permute(run_experts(sorted_AD, gate_up, down, loads), place_A, order_A)
        return out_AD.view(len(x_TD), num_chosen, -1)

    def _auxiliary_loss(self, logits_TE: Tensor, scores_TE: Tensor, load_E: Tensor) -> Tensor:
        share_E = load_E / load_E.sum()
        balance = self._moe.num_experts * (share_E * scores_TE.mean(dim=0)).sum()
        z = logits_TE.logsumexp(dim=-1).square().mean()
        return self._moe.balance_weight * balance + self._moe.z_weight * z


class _Permute(torch.autograd.Function):
    """Rows in another order. Its gradient is the inverse order: a gather, where torch would add row by row."""

    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, order_A: Tensor, inverse_A: Tensor) -> Tensor:
        ctx.save_for_backward(inverse_A)
        return x_AD[order_A]

    @staticmethod
    def backward(ctx: Any, gradient_AD: Tensor) -> tuple[Tensor, None, None]:
        (inverse_A,) = ctx.saved_tensors
        return gradient_AD[inverse_A], None, None


_permute: Callable[[Tensor, Tensor, Tensor], Tensor] = _Permute.apply
