"""Product keys: the best slots of a grid of N x N, from a query's products with two sets of N half keys, exactly.

Slot first * N + second scores q[0] . keys[0][first] + q[1] . keys[1][second]. A pair of ranks (i, j) in the two sorted
lists of half scores can be among the best K only if (i + 1)(j + 1) <= K, for that many pairs go before it: 50 pairs
instead of 256 at K = 16, 119 instead of 1,024 at K = 32.
The tie rule: of two slots with equal scores (as rounded), the one whose first half ranks higher, then whose second
half does, goes first; of two half keys with equal scores the one with the lower index ranks higher.
Half scores are made for some tokens at a time and not kept: the backward pass goes through the selected slots alone,
which is 4 H K 2W multiplications and additions a token where all half scores would take 4 H N 2W.
Refuses to select more than a half list holds.

T tokens, H heads, N half keys per set, K slots selected, C candidate pairs, W width of a half key.
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
    """Return the best `knn` slots of every token and head, int64 [T, H, K], and their scores [T, H, K], best first.

    Keys are brought to the queries' type for the products; scores are float32 at least. Differentiable once in both.
    `backend` as in `memscale.kernels.backends`. A half score of NaN or infinity makes scores of its token and head NaN
    or infinite; compiled, one of minus infinity does so too. Raises ConfigError.
    """
    given, needed = query_T2HW.shape[1:], (*keys_2HNW.shape[:2], *keys_2HNW.shape[3:])
    if query_T2HW.ndim != 4 or keys_2HNW.ndim != 4 or given != needed or given[0] != 2:
        raise ConfigError(
            f"select needs queries [T, 2, H, W] and keys [2, H, N, W]; given were {list(query_T2HW.shape)} and "
            f"{list(keys_2HNW.shape)}"
        )
    if not 1 <= knn <= keys_2HNW.shape[2]:
        raise ConfigError(f"knn is {knn}; it must lie between 1 and the {keys_2HNW.shape[2]} half keys of a set")
    return _select(query_T2HW, keys_2HNW, knn, backend)


def candidate_pairs(knn: int) -> list[tuple[int, int]]:
    """Return the pairs of 0-based ranks that can be among the best `knn`, in the order of the tie rule."""
    return [(i, j) for i in range(knn) for j in range(knn // (i + 1))]


def topk_pairs(halves_2HTN: Tensor, knn: int, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Return slots and scores, both [T, H, K], from half scores of float32 or float64, without gradients."""
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


class _Select(torch.autograd.Function):
    """Scores and selection of a few tokens at a time; gradients through what was selected."""

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
    """Return the gradients of queries and keys. A half query's is a lookup in all half keys, laid out as one table."""
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
    return for_query.view_as(query_T2HW), gradient.dense().view_as(keys_2HNW)


_select: Callable[..., tuple[Tensor, Tensor]] = _Select.apply
