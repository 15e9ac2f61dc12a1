"""Which token goes to which expert with what weight, and the gather and scatter between tokens and rows.

- Token choice: every token goes to the K experts with its best scores; none is dropped (Shazeer et al. 2017).
- Expert choice: every expert takes its C best tokens of each sequence, independently of the micro-batch and of other
  sequences (Zhou et al. 2022); a token may be taken by any number of experts, or by none. An expert compares all tokens
  of a sequence, so whether an early token is taken depends on later ones: it is not causal, and used in training alone.
- Hash: every token goes to the experts of its id, in equal shares (Roller et al. 2021); the layer holds who they are
  (`memscale.models.hash_routing`).

Shape suffixes: B sequences of S positions, T = B S tokens, E experts, A rows (token and expert pairs), D model width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Assignment:
    """Rows sorted by expert, and the order of the rows by token."""

    tokens_A: Tensor  # noqa: N815
    """The token of each row."""
    weights_A: Tensor  # noqa: N815
    """Factor on each row's output; carries the router's gradient where there is a router."""
    load_E: Tensor  # noqa: N815
    """Rows of each expert, integers; the rows are in this order."""
    indices_A: Tensor  # noqa: N815
    """The rows' indices sorted by token, then by expert."""
    starts_T: Tensor  # noqa: N815
    """Where each token's rows start in `indices_A`; a token without rows starts where the next one does."""


def token_choice(
    scores_TE: Tensor, logs_TE: Tensor, choosing_TE: Tensor, *, num_chosen: int, renormalise: bool
) -> Assignment:
    """Send every token to the `num_chosen` experts with the highest values in `choosing_TE`.

    Args:
        scores_TE: Scores of the experts.
        logs_TE: Their logarithms up to a constant per token.
        choosing_TE: Scores to choose by, without gradients; with a balancing bias they differ from `scores_TE`.
        num_chosen: Experts per token.
        renormalise: A weight is the score's share of the sum over the token's experts, taken from `logs_TE` so that
            none is lost where scores underflow; otherwise the score itself.
    """
    experts_TK = choosing_TE.topk(num_chosen, dim=-1).indices
    weights_TK = logs_TE.gather(-1, experts_TK).softmax(dim=-1) if renormalise else scores_TE.gather(-1, experts_TK)
    return _assigned(experts_TK, weights_TK, scores_TE.shape[1])


def hash_choice(experts_TK: Tensor, num_experts: int, dtype: torch.dtype) -> Assignment:
    """Send every token to the experts that its id has, each with weight 1 / K, of type `dtype`."""
    weights_TK = torch.full(experts_TK.shape, 1 / experts_TK.shape[1], dtype=dtype, device=experts_TK.device)
    return _assigned(experts_TK, weights_TK, num_experts)


def _assigned(experts_TK: Tensor, weights_TK: Tensor, num_experts: int) -> Assignment:
    """Return the rows of tokens that all have K experts."""
    num_chosen = experts_TK.shape[1]
    # Counted by searchsorted, because bincount would wait for the GPU.
    experts_A, order_A = experts_TK.flatten().sort(stable=True)
    every_E = torch.arange(num_experts, dtype=experts_A.dtype, device=order_A.device)
    ends_E = torch.searchsorted(experts_A, every_E, right=True)
    indices_A = torch.empty_like(order_A)
    indices_A[order_A] = torch.arange(len(order_A), device=order_A.device)
    return Assignment(
        tokens_A=order_A // num_chosen,
        weights_A=weights_TK.flatten()[order_A],
        load_E=ends_E.diff(prepend=ends_E.new_zeros(1)),
        indices_A=indices_A,
        starts_T=torch.arange(0, len(order_A), num_chosen, device=order_A.device),
    )


def expert_choice(scores_BSE: Tensor, capacity: int) -> Assignment:
    """Let every expert take the `capacity` tokens of each sequence that score highest with it; a weight is the score.

    `scores_BSE` is [B, S, E]. Not causal.
    """
    num_sequences, length, num_experts = scores_BSE.shape
    weights_EBC, positions_EBC = scores_BSE.permute(2, 0, 1).topk(capacity, dim=-1)
    firsts_B = torch.arange(0, num_sequences * length, length, device=scores_BSE.device)
    tokens_A = (positions_EBC + firsts_B[:, None]).flatten()
    by_token_A, indices_A = tokens_A.sort(stable=True)
    tokens_T = torch.arange(num_sequences * length, device=scores_BSE.device)
    return Assignment(
        tokens_A=tokens_A,
        weights_A=weights_EBC.flatten(),
        load_E=torch.full((num_experts,), num_sequences * capacity, device=scores_BSE.device),
        indices_A=indices_A,
        starts_T=torch.searchsorted(by_token_A, tokens_T),
    )


def to_rows(x_TD: Tensor, assignment: Assignment) -> Tensor:
    """Return [A, D]: the token of every row. Differentiable once."""
    return _to_rows(x_TD, assignment.tokens_A, assignment.indices_A, assignment.starts_T)


def to_tokens(rows_AD: Tensor, assignment: Assignment) -> Tensor:
    """Return [T, D]: for every token the weighted sum of its rows, zero where it has none. Differentiable once."""
    weights_A = assignment.weights_A.to(rows_AD.dtype)
    return _to_tokens(rows_AD, weights_A, assignment.tokens_A, assignment.indices_A, assignment.starts_T)


def _summed(rows_AD: Tensor, indices_A: Tensor, starts_T: Tensor, weights_A: Tensor | None = None) -> Tensor:
    """Return [T, D]: the sum of every token's rows, in the order of the experts, on any device the same each time.

    It is the forward pass of torch's embedding bag. Rows added to their tokens one at a time would come in any order on
    a GPU; rows sorted by token and summed by an einsum took 2 to 3 times as long on the CPU.
    """
    per_sample = None if weights_A is None else weights_A[indices_A]
    return F.embedding_bag(indices_A, rows_AD, starts_T, mode="sum", per_sample_weights=per_sample)


class _ToRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, tokens_A: Tensor, indices_A: Tensor, starts_T: Tensor) -> Tensor:
        ctx.save_for_backward(indices_A, starts_T)
        return x_TD.index_select(0, tokens_A)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_AD: Tensor) -> tuple[Tensor, None, None, None]:
        indices_A, starts_T = ctx.saved_tensors
        return _summed(gradient_AD.contiguous(), indices_A, starts_T), None, None, None


class _ToTokens(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows_AD: Tensor, weights_A: Tensor, tokens_A: Tensor, indices_A: Tensor, starts_T: Tensor
    ) -> Tensor:
        ctx.save_for_backward(rows_AD, weights_A, tokens_A)
        return _summed(rows_AD, indices_A, starts_T, weights_A)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        rows_AD, weights_A, tokens_A = ctx.saved_tensors
        gradient_AD = gradient_TD.index_select(0, tokens_A)
        for_weights_A = torch.linalg.vecdot(gradient_AD, rows_AD)
        return gradient_AD * weights_A[:, None], for_weights_A, None, None, None


_to_rows: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _ToRows.apply
_to_tokens: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = _ToTokens.apply
