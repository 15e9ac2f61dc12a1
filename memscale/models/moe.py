"""Mixture of experts in place of a feed-forward layer: routed SwiGLU experts, and shared experts beside them.

1. Scores: the softmax of the router's logits over the experts, or the sigmoid of each (DeepSeek-AI 2024).
2. Routing: tokens choose their experts (token choice); or, in training, experts choose their tokens (expert choice,
   Zhou et al. 2022), and in evaluation each token goes to its experts_per_token best experts. Expert choice looks at
   later tokens, so such a layer is not causal in training (`is_noncausal`); every layer is causal in evaluation. Token
   choice drops no token; a token that no expert chooses skips the routed experts. Nothing is padded. Or the token's id
   names its experts (`hash`, `memscale.models.hash_routing`): then there are neither scores nor losses.
3. Load balance, by one of two means. `loss`: the balance loss of Switch (Fedus et al. 2022, equation 4),
   E * sum_e load share_e * mean score_e, which is 1 at a uniform load for any number of chosen experts; sigmoid scores
   are first divided by their sum over the experts, as in DeepSeek-V3. `bias`: an offset per expert, added to the scores
   for choosing alone, and moved after every optimizer step by b_e += bias_rate * sign(mean load - load_e), with the
   loads of all its micro-batches (Wang et al. 2024, "Auxiliary-loss-free load balancing strategy for MoE").
4. The router z-loss, mean(logsumexp(logits)^2), combines with either (Zoph et al. 2022, equation 5).

Both losses are means over tokens, and are reported apart from the model's loss. Load shares and mean scores are those
of the whole batch, over all processes, as Qiu et al. 2025 ("Demons in the detail") recommend: over fewer tokens the
loss asks for balance within them. A forward pass that sees a part of the batch leaves its `BalanceTerm` to the trainer
(`deferred`, `memscale.training.batch_balance`); any other takes its own tokens for the batch.

Shape suffixes: B sequences of S positions, T = B S tokens, D model width, E experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.layers import MoE
from memscale.models.balance import BalanceTerm
from memscale.models.experts import run_experts
from memscale.models.feedforward import FeedForward
from memscale.models.hash_routing import draw_experts
from memscale.models.precision import promoted
from memscale.models.routing import Assignment, expert_choice, hash_choice, to_rows, to_tokens, token_choice
from memscale.models.usage import Usage


class MoEFeedForward(nn.Module):
    """A mixture-of-experts layer.

    `gate_up[e]` is expert e's [2F, D] (gate first), `down[e]` its [D, F]; `shared` is one wide SwiGLU or None. With
    balance "bias" there are two buffers of size E: `balance_bias` (float32, saved in checkpoints), and `step_load`, the
    rows each expert got since the last optimizer step (integers, zero between steps). With hash routing there is no
    `router`, and a buffer `experts` [vocabulary, experts per token] (int32, saved in checkpoints).
    """

    balance_bias: Tensor
    step_load: Tensor
    experts: Tensor
    deferred: list[BalanceTerm] | None = None
    """Where the balance terms of forward passes are put, instead of into their losses; None: nowhere."""

    def __init__(self, d_model: int, moe: MoE, vocab_size: int) -> None:
        super().__init__()
        self._moe = moe
        self.router = nn.Linear(d_model, moe.num_experts, bias=False) if moe.has_router else None
        self.gate_up = nn.Parameter(torch.empty(moe.num_experts, 2 * moe.expert_hidden, d_model))
        self.down = nn.Parameter(torch.empty(moe.num_experts, d_model, moe.expert_hidden))
        self.shared: FeedForward | None = None
        if moe.shared_experts:
            # Experts that all get every token with weight one equal a single expert of their total width.
            self.shared = FeedForward(d_model, moe.shared_experts * moe.expert_hidden)
        if moe.balance == "bias":
            self.register_buffer("balance_bias", torch.zeros(moe.num_experts, dtype=torch.float32))
            self.register_buffer("step_load", torch.zeros(moe.num_experts, dtype=torch.int64), persistent=False)
        if moe.routing == "hash":
            self.register_buffer("experts", torch.zeros(vocab_size, moe.experts_per_token, dtype=torch.int32))

    @torch.no_grad()
    def reset_experts(self, generator: torch.Generator) -> None:
        """Draw every token id's experts; nothing for another routing than hash."""
        if self._moe.routing == "hash":
            vocab_size, per_token = self.experts.shape
            self.experts.copy_(draw_experts(vocab_size, self._moe.num_experts, per_token, generator))

    @property
    def has_balance_loss(self) -> bool:
        """Whether a forward pass has a balance term."""
        return self._moe.balance == "loss"

    def is_noncausal(self, training: bool) -> bool:
        """Whether a later token can change an earlier one's output in training (or evaluation)."""
        return training and self._moe.routing == "expert_choice"

    def forward(
        self,
        x_BSD: Tensor,
        _table_NV: Tensor | None = None,
        tokens_BS: Tensor | None = None,
        usage: Usage | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output [B, S, D] and the layer's auxiliary loss, a scalar, or None if it has none.

        The token ids are for hash routing. The table is an argument of every feed-forward sublayer, and unused here.
        """
        x_TD = x_BSD.flatten(0, 1)
        logits_TE = self._logits(x_TD)
        if logits_TE is None:
            assert tokens_BS is not None, "hash routing was handed no token ids"
            experts_TK = self.experts[tokens_BS.flatten()]
            assignment = hash_choice(experts_TK, self._moe.num_experts, x_TD.dtype)
        else:
            assignment = self._assignment(logits_TE, x_BSD.shape[1])
        if usage is not None:
            usage.add(assignment.load_E)
        if self.training and self._moe.balance == "bias":
            self.step_load.add_(assignment.load_E)
        out_BSD = self._routed(x_TD, assignment).view_as(x_BSD)
        if self.shared is not None:
            out_BSD = out_BSD + self.shared(x_BSD)[0]
        loss = None if logits_TE is None else self._auxiliary_loss(logits_TE, assignment.load_E)
        return out_BSD, loss

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the bias against the load of the finished optimizer step; nothing for another balance."""
        if self._moe.balance != "bias":
            return
        missing_E = self.step_load.sum() - self._moe.num_experts * self.step_load  # E (mean - load), in whole rows
        self.balance_bias.add_(missing_E.sign(), alpha=self._moe.bias_rate)
        self.step_load.zero_()

    def _logits(self, x_TD: Tensor) -> Tensor | None:
        """Return the router's logits in float32 at least, [T, E]; None without a router."""
        if self.router is None:
            return None
        with torch.autocast(x_TD.device.type, enabled=False):
            return promoted(x_TD) @ promoted(self.router.weight).t()

    def _assignment(self, logits_TE: Tensor, length: int) -> Assignment:
        moe = self._moe
        scores_TE = logits_TE.softmax(dim=-1) if moe.scores == "softmax" else logits_TE.sigmoid()
        if self.is_noncausal(self.training):
            return expert_choice(scores_TE.view(-1, length, moe.num_experts), moe.capacity(length))
        choosing_TE = scores_TE.detach()
        if moe.balance == "bias":
            choosing_TE = choosing_TE + self.balance_bias
        return token_choice(
            scores_TE,
            self._logs(logits_TE),
            choosing_TE,
            num_chosen=moe.experts_per_token,
            renormalise=moe.renormalise,
        )

    def _logs(self, logits_TE: Tensor) -> Tensor:
        """Return the logarithms of the scores, up to a constant per token."""
        return logits_TE if self._moe.scores == "softmax" else F.logsigmoid(logits_TE)

    def _routed(self, x_TD: Tensor, assignment: Assignment) -> Tensor:
        """Return [T, D]: the weighted sum of each token's experts."""
        gate_up: Tensor = self.gate_up
        down: Tensor = self.down
        device = x_TD.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x_TD, gate_up, down = x_TD.to(dtype), gate_up.to(dtype), down.to(dtype)
        rows_AD = run_experts(to_rows(x_TD, assignment), gate_up, down, assignment.load_E)
        return to_tokens(rows_AD, assignment)

    def _auxiliary_loss(self, logits_TE: Tensor, load_E: Tensor) -> Tensor | None:
        moe, terms = self._moe, []
        if moe.balance == "loss":
            mean_E = self._logs(logits_TE).softmax(dim=-1).mean(dim=0)
            balance = BalanceTerm(load_E=load_E, mean_E=mean_E, weight=moe.balance_weight)
            if self.deferred is None:
                terms.append(balance.loss(load_E))
            else:
                self.deferred.append(balance)
        if moe.z_weight > 0:
            terms.append(moe.z_weight * logits_TE.logsumexp(dim=-1).square().mean())
        return torch.stack(terms).sum() if terms else None
