"""Product-key selection: the exact top k of an N x N grid of slots, found from two lists of N half keys.

1. Scores (Lample et al. 2019, section 3.2). Slot first * N + second scores
   q[0] . keys[0][first] + q[1] . keys[1][second]: each half of a query is scored against N half keys, instead of one
   query against N^2 keys.
2. Sort each list of half scores; i and j are 0-based ranks in the first and the second list.
3. Candidates. The (i + 1)(j + 1) pairs of ranks (i', j') with i' <= i and j' <= j all score at least as much as (i, j).
   So (i, j) can be among the best K only if (i + 1)(j + 1) <= K: 50 pairs instead of 256 at K = 16, 119 instead of
   1,024 at K = 32.
4. The best K of the candidates are the best K of all N^2 slots.

Ties: of two slots with equal scores (as rounded), the one whose first half ranks higher goes first, then the one whose
second half does; of two half keys with equal scores the one with the lower index ranks higher.

Half scores are computed for some tokens at a time and not stored. The backward pass goes through the selected slots
alone: 4 H K 2W multiply-adds per token, where all half scores would take 4 H N 2W.

Shape suffixes: T tokens, H heads, N half keys per set, K slots selected, C candidate pairs, W width of a half key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memscale.errors import ConfigError
from memscale.kernels import backends
from memscale.kernels.embedding_bag import bag_offsets
from memscale.kernels.row_gradient import RowGradient

_SCORE_BYTES = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Of the half scores made at a time: on the CPU as much as stays in its cache."""


def product_key_topk(
    query_T2HW: Tensor, keys_2HNW: Tensor, knn: int, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the best `knn` slots of every token and head, and their scores, best first.

    Args:
        query_T2HW: Half queries [T, 2, H, W], floating point.
        keys_2HNW: Half keys [2, H, N, W]; cast to the queries' type for the products.
        knn: Slots to select per head, at most N.
        backend: "torch" or "numba"; by default chosen by device and type.

    Returns:
        Slots, int64 [T, H, knn] in 0..N^2 - 1, and scores [T, H, knn], float32 or the queries' type if that is wider.
        Scores are differentiable once in queries and keys. A half score that is NaN or infinite makes the scores of its
        token and head NaN or infinite (under Numba minus infinity too).

    Raises:
        ConfigError: Shapes do not match, or knn is not in 1..N.

    Example:
        One token, one head, half keys of width 1: slot 1 * 3 + 2 pairs the best first with the best second half.

        >>> query_T2HW = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
        >>> keys_2HNW = torch.tensor([[0.0, 3.0, 1.0], [0.5, 0.0, 2.0]]).view(2, 1, 3, 1)
        >>> slots_THK, scores_THK = product_key_topk(query_T2HW, keys_2HNW, knn=2)
        >>> slots_THK.tolist(), scores_THK.tolist()
        ([[[5, 3]]], [[[5.0, 3.5]]])
    """
    given, needed = query_T2HW.shape[1:], (*keys_2HNW.shape[:2], *keys_2HNW.shape[3:])
    if query_T2HW.ndim != 4 or keys_2HNW.ndim != 4 or given != needed or given[0] != 2:
        raise ConfigError(
            f"product_key_topk needs queries [T, 2, H, W] and keys [2, H, N, W]; given were "
            f"{list(query_T2HW.shape)} and {list(keys_2HNW.shape)}"
        )
    if not 1 <= knn <= keys_2HNW.shape[2]:
        raise ConfigError(f"knn is {knn}; it must lie between 1 and the {keys_2HNW.shape[2]} half keys of a set")
    return _product_key_topk(query_T2HW, keys_2HNW, knn, backend)


def candidate_pairs(knn: int) -> list[tuple[int, int]]:
    """Return the pairs of 0-based ranks with (i + 1)(j + 1) <= knn, in the order of the tie rule.

    Example:
        >>> candidate_pairs(3)
        [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
        >>> len(candidate_pairs(32))
        119
    """
    return [(i, j) for i in range(knn) for j in range(knn // (i + 1))]


def topk_pairs(halves_2HTN: Tensor, knn: int, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Return the best slots and their scores, both [T, H, K], from half scores [2, H, T, N], without gradients.

    `halves_2HTN` is float32 or float64.
    """
    if backends.choose_backend(halves_2HTN, backend) == "numba":
        from memscale.kernels import product_keys_numba  # importing Numba takes half a second: only where it is used

        return product_keys_numba.topk_pairs(halves_2HTN, knn)
    # A stable sort, not topk: topk leaves open which of two equal scores it returns.
    ordered_2HTN, positions_2HTN = halves_2HTN.sort(dim=-1, descending=True, stable=True)
    pairs_C2 = torch.tensor(candidate_pairs(knn), device=halves_2HTN.device)
    sums_HTC = ordered_2HTN[0][..., pairs_C2[:, 0]] + ordered_2HTN[1][..., pairs_C2[:, 1]]
    scores_HTC, best_HTC = sums_HTC.sort(dim=-1, descending=True, stable=True)
    best_HTK = best_HTC[..., :knn]
    first_HTK = positions_2HTN[0].gather(-1, pairs_C2[:, 0][best_HTK])
    second_HTK = positions_2HTN[1].gather(-1, pairs_C2[:, 1][best_HTK])
    slots_HTK = first_HTK * halves_2HTN.shape[3] + second_HTK
    return slots_HTK.transpose(0, 1).contiguous(), scores_HTC[..., :knn].transpose(0, 1).contiguous()


class _ProductKeyTopK(torch.autograd.Function):
    """Scores and selection for a few tokens at a time; gradients through the selected slots."""

    @staticmethod
    def forward(
        ctx: Any, query_T2HW: Tensor, keys_2HNW: Tensor, knn: int, backend: str | None
    ) -> tuple[Tensor, Tensor]:
        query_2HTW, keys_2HWN = query_T2HW.permute(1, 2, 0, 3), keys_2HNW.mT.to(query_T2HW.dtype)
        wide = torch.promote_types(query_T2HW.dtype, torch.float32)
        num_tokens, num_heads, num_keys = len(query_T2HW), keys_2HNW.shape[1], keys_2HNW.shape[2]
        at_once = max(1, _SCORE_BYTES[query_T2HW.device.type] // (2 * num_heads * num_keys * wide.itemsize))
        parts = []
        for start in range(0, max(1, num_tokens), at_once):
            halves_2HTN = torch.matmul(query_2HTW[:, :, start : start + at_once], keys_2HWN)
            parts.append(topk_pairs(halves_2HTN.to(wide), knn, backend=backend))
        slots_THK, scores_THK = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        ctx.backend = backend
        ctx.save_for_backward(query_T2HW, keys_2HNW, slots_THK)
        ctx.mark_non_differentiable(slots_THK)
        return slots_THK, scores_THK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, gradient_THK: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query_T2HW, keys_2HNW, slots_THK = ctx.saved_tensors
        wide = gradient_THK.dtype
        query, keys = query_T2HW.to(wide).contiguous(), keys_2HNW.to(wide).contiguous()
        if backends.choose_backend(gradient_THK, ctx.backend) == "numba":
            from memscale.kernels import product_keys_numba

            for_query, for_keys = product_keys_numba.gradients(slots_THK, gradient_THK.contiguous(), query, keys)
        else:
            for_query, for_keys = _gradients(slots_THK, gradient_THK, query, keys, ctx.backend)
        return for_query.to(query_T2HW.dtype), for_keys.to(keys_2HNW.dtype), None, None


def _gradients(
    slots_THK: Tensor, gradient_THK: Tensor, query_T2HW: Tensor, keys_2HNW: Tensor, backend: str | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of queries and keys.

    A half query's gradient is an embedding bag over all half keys, laid out as one table; the keys' is that table's.
    """
    _, num_heads, num_keys, width = keys_2HNW.shape
    halves_T2HK = torch.stack([slots_THK // num_keys, slots_THK % num_keys], dim=1)
    lists_2H1 = torch.arange(2 * num_heads, device=slots_THK.device).view(2, num_heads, 1)
    indices_BK = (lists_2H1 * num_keys + halves_T2HK).flatten(0, 2)
    weights_BK = gradient_THK[:, None].expand_as(halves_T2HK).flatten(0, 2)
    for_query: Tensor = backends.bags(keys_2HNW, backend).embedding_bag(
        keys_2HNW.view(-1, width), indices_BK.flatten(), bag_offsets(indices_BK), weights_BK.flatten()
    )
    gradient = RowGradient(2 * num_heads * num_keys, backend=backend)
    gradient.add(indices_BK, weights_BK, query_T2HW.view(-1, width))
    return for_query.view_as(query_T2HW), gradient.to_dense().view_as(keys_2HNW)


_product_key_topk: Callable[..., tuple[Tensor, Tensor]] = _ProductKeyTopK.apply
