"""Product keys: the best slots of a grid of N x N, from the scores of two sets of N half keys, exactly.

Slot first * N + second scores halves[0][first] + halves[1][second]. A pair of ranks (i, j) in the two sorted lists can
be among the best K only if (i + 1)(j + 1) <= K, for that many pairs go before it: 50 pairs instead of 256 at K = 16.
The tie rule: of two slots with equal scores (as rounded), the one whose first half ranks higher, then whose second
half does, goes first; of two half keys with equal scores the one with the lower index ranks higher.
Refuses to select more than a half list holds.

T tokens, H heads, N half keys per set, K slots selected, C candidate pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memscale.errors import ConfigError
from memscale.kernels.lookup import choose_backend


def select(halves_2HTN: Tensor, knn: int, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """Return the best `knn` slots of every token and head, int64 [T, H, K], and their scores [T, H, K], best first.

    Differentiable once in the scores. `backend` as in `memscale.kernels.lookup`. A half score
    that is not finite makes scores of its token and head NaN or infinite. Raises ConfigError.
    """
    if halves_2HTN.ndim != 4 or halves_2HTN.shape[0] != 2:
        raise ConfigError(f"select needs half scores [2, H, T, N]; given were {list(halves_2HTN.shape)}")
    if not 1 <= knn <= halves_2HTN.shape[3]:
        raise ConfigError(f"knn is {knn}; it must lie between 1 and the {halves_2HTN.shape[3]} half keys of a set")
    if choose_backend(halves_2HTN, backend) == "numba":
        return _numba_select(halves_2HTN, knn)
    return _select_torch(halves_2HTN, knn)


def candidate_pairs(knn: int) -> list[tuple[int, int]]:
    """Return the pairs of 0-based ranks that can be among the best `knn`, in the order of the tie rule."""
    return [(i, j) for i in range(knn) for j in range(knn // (i + 1))]


def _select_torch(halves_2HTN: Tensor, knn: int) -> tuple[Tensor, Tensor]:
    # A stable sort, not topk: topk leaves open which of two equal scores it returns.
    ordered_2HTN, positions_2HTN = halves_2HTN.detach().sort(dim=-1, descending=True, stable=True)
    pairs_C2 = torch.tensor(candidate_pairs(knn), device=halves_2HTN.device)
    sums_HTC = ordered_2HTN[0][..., pairs_C2[:, 0]] + ordered_2HTN[1][..., pairs_C2[:, 1]]
    best_HTK = sums_HTC.sort(dim=-1, descending=True, stable=True).indices[..., :knn]
    first_HTK = positions_2HTN[0].gather(-1, pairs_C2[:, 0][best_HTK])
    second_HTK = positions_2HTN[1].gather(-1, pairs_C2[:, 1][best_HTK])
    slots_HTK = first_HTK * halves_2HTN.shape[3] + second_HTK
    scores_HTK = halves_2HTN[0].gather(-1, first_HTK) + halves_2HTN[1].gather(-1, second_HTK)
    return slots_HTK.transpose(0, 1), scores_HTK.transpose(0, 1)


class _NumbaSelect(torch.autograd.Function):
    """The selection on CPU arrays."""

    @staticmethod
    def forward(ctx: Any, halves_2HTN: Tensor, knn: int) -> tuple[Tensor, Tensor]:
        from memscale.kernels import product_keys_numba

        slots, scores = product_keys_numba.select(halves_2HTN.detach().contiguous().numpy(), knn)
        slots_THK, scores_THK = torch.from_numpy(slots), torch.from_numpy(scores)
        ctx.num_keys = halves_2HTN.shape[3]
        ctx.save_for_backward(slots_THK)
        ctx.mark_non_differentiable(slots_THK)
        return slots_THK, scores_THK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, gradient_THK: Tensor) -> tuple[Tensor, None]:
        from memscale.kernels import product_keys_numba

        (slots_THK,) = ctx.saved_tensors
        gradient_2HTN = product_keys_numba.spread_gradient(
            slots_THK.numpy(), gradient_THK.contiguous().numpy(), ctx.num_keys
        )
        return torch.from_numpy(gradient_2HTN), None


_numba_select: Callable[[Tensor, int], tuple[Tensor, Tensor]] = _NumbaSelect.apply
