"""Slot selection by Tucker-decomposed scores (TDQKR; Huang et al. 2024, UltraMem, arXiv 2411.12364, section 3.2).

1. Every half key has R vectors, and a half query one: s[0, r, i] = q[0] . keys[0][r][i] are the row scores, s[1, r, j]
   the column scores.
2. The slot at row i and column j scores sum over r, r' of s[0, r, i] C[r, r'] s[1, r', j], with a learned core C.
   With R = 2, C = I and s[0, 1, i] = s[1, 0, j] = 1 that is the sum of product keys.
3. The best of all N^2 slots cannot be found from sorted lists here. C is approximated by its leading singular vectors,
   C ~ c u v^T: the best knn rows by sum over r of u[r] s[0, r, i], and the best knn columns by sum over r of
   v[r] s[1, r, j], are taken, and all knn^2 pairs of them are scored exactly.

u and v have one sign in common that the decomposition leaves open; here sum(u) + sum(v) is not negative. (The published
code instead follows the sign of the step before, which is a state.) A core with positive entries, as initial ones are,
has vectors of one sign (Perron and Frobenius), so that the rule agrees with it.

Row and column scores are computed for some tokens at a time and not stored; the backward pass goes through the selected
rows and columns alone. The core gets its gradient from the exact scores; u and v have none.

Shape suffixes: T tokens, H heads, R ranks, N half keys per set, K slots selected, W width of a half key, A = T N.
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
"""Of the row and column scores made at a time."""


def tucker_key_topk(
    query_T2HW: Tensor, keys_2HRNW: Tensor, core_HRR: Tensor, knn: int, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return `knn` slots of every token and head, and their exact scores, best first.

    Args:
        query_T2HW: Half queries [T, 2, H, W], floating point.
        keys_2HRNW: Half keys [2, H, R, N, W]; cast to the queries' type for the products.
        core_HRR: The cores [H, R, R], rows first.
        knn: Slots to select per head, at most N.
        backend: "torch" or "numba" for the gradients; by default chosen by device and type.

    Returns:
        Slots, int64 [T, H, knn] in 0..N^2 - 1, and scores [T, H, knn], float32 or the queries' type if that is wider;
        differentiable once in queries, keys and core.

    Raises:
        ConfigError: Shapes do not match, or knn is not in 1..N.

    Example:
        One token, one head, half keys of width 1 and two ranks. Row 1 scores (3, 1), column 0 scores (2, 1); the core
        weights products of equal ranks by 1 and 0.5.

        >>> query_T2HW = torch.ones(1, 2, 1, 1)
        >>> keys_2HRNW = torch.tensor([[[0.0, 3.0], [0.0, 1.0]], [[2.0, 0.0], [1.0, 0.0]]]).view(2, 1, 2, 2, 1)
        >>> core_HRR = torch.tensor([[[1.0, 0.0], [0.0, 0.5]]])
        >>> slots_THK, scores_THK = tucker_key_topk(query_T2HW, keys_2HRNW, core_HRR, knn=1)
        >>> slots_THK.tolist(), scores_THK.tolist()
        ([[[2]]], [[[6.5]]])
    """
    sides, heads, ranks, num_keys, width = keys_2HRNW.shape if keys_2HRNW.ndim == 5 else (0,) * 5
    if query_T2HW.shape[1:] != (2, heads, width) or sides != 2 or core_HRR.shape != (heads, ranks, ranks):
        raise ConfigError(
            "tucker_key_topk needs queries [T, 2, H, W], keys [2, H, R, N, W] and cores [H, R, R]; given were "
            f"{list(query_T2HW.shape)}, {list(keys_2HRNW.shape)} and {list(core_HRR.shape)}"
        )
    if not 1 <= knn <= num_keys:
        raise ConfigError(f"knn is {knn}; it must lie between 1 and the {num_keys} half keys of a set")
    vectors_2HR = leading_vectors(core_HRR)
    indices_T2HK, scores_T2HRK = _selected_scores(query_T2HW, keys_2HRNW, vectors_2HR, knn, backend)
    # Exact products: autocast would round them, and with them the order of the slots.
    with torch.autocast(query_T2HW.device.type, enabled=False):
        mixed_THRK = core_HRR.to(scores_T2HRK.dtype) @ scores_T2HRK[:, 1]
        grid_THKK = scores_T2HRK[:, 0].mT @ mixed_THRK
    scores_THK, best_THK = grid_THKK.flatten(2).topk(knn)
    rows_THK = indices_T2HK[:, 0].gather(-1, best_THK // knn)
    columns_THK = indices_T2HK[:, 1].gather(-1, best_THK % knn)
    return rows_THK * num_keys + columns_THK, scores_THK


def leading_vectors(core_HRR: Tensor) -> Tensor:
    """Return the left and the right leading singular vector of every core, [2, H, R], float32 at least, no gradient.

    The sum of both together is not negative. A core that is not finite gives the vectors of its finite entries, so that
    the loss and not this function tells of it.
    """
    with torch.no_grad():
        left_HRR, _, right_HRR = torch.linalg.svd(_finite(core_HRR))
        vectors_2HR = torch.stack([left_HRR[:, :, 0], right_HRR[:, 0]])
        signs_H1 = torch.where(vectors_2HR.sum(dim=(0, 2)) < 0, -1.0, 1.0)[:, None]
        return vectors_2HR * signs_H1.to(vectors_2HR.dtype)


def minor_singular_values(core_HRR: Tensor) -> Tensor:
    """Return all singular values of the cores but the largest, [H, R - 1], float32 at least; differentiable."""
    values_HR: Tensor = torch.linalg.svdvals(_finite(core_HRR))
    return values_HR[:, 1:]


def _finite(core_HRR: Tensor) -> Tensor:
    wide = torch.promote_types(core_HRR.dtype, torch.float32)
    return core_HRR.to(wide).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


class _SelectedScores(torch.autograd.Function):
    """The best rows and columns by the rank-1 approximation, [T, 2, H, K], and their scores of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, query_T2HW: Tensor, keys_2HRNW: Tensor, vectors_2HR: Tensor, knn: int, backend: str | None
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(query_T2HW.dtype, torch.float32)
        query_2H1TW, keys_2HRWN = query_T2HW.permute(1, 2, 0, 3)[:, :, None], keys_2HRNW.mT.to(query_T2HW.dtype)
        _, heads, ranks, num_keys, _ = keys_2HRNW.shape
        per_token = 2 * heads * ranks * num_keys * wide.itemsize
        at_once = max(1, _SCORE_BYTES[query_T2HW.device.type] // per_token)
        parts = []
        for start in range(0, max(1, len(query_T2HW)), at_once):
            scores_2HRTN = torch.matmul(query_2H1TW[:, :, :, start : start + at_once], keys_2HRWN).to(wide)
            with torch.autocast(query_T2HW.device.type, enabled=False):
                rough_2H1A = vectors_2HR.to(wide)[:, :, None] @ scores_2HRTN.flatten(3)
            rough_2HTN = rough_2H1A.view(2, heads, -1, num_keys)
            indices_2HTK = rough_2HTN.topk(knn).indices
            chosen_2HRTK = indices_2HTK[:, :, None].expand(-1, -1, ranks, -1, -1)
            parts.append(
                (indices_2HTK.permute(2, 0, 1, 3), scores_2HRTN.gather(-1, chosen_2HRTK).permute(3, 0, 1, 2, 4))
            )
        indices_T2HK, scores_T2HRK = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        ctx.backend = backend
        ctx.save_for_backward(query_T2HW, keys_2HRNW, indices_T2HK)
        ctx.mark_non_differentiable(indices_T2HK)
        return indices_T2HK, scores_T2HRK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, gradient_T2HRK: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """A half query's gradient is an embedding bag over its R K half keys; the keys' is that table's."""
        query_T2HW, keys_2HRNW, indices_T2HK = ctx.saved_tensors
        wide = gradient_T2HRK.dtype
        query, keys = query_T2HW.to(wide).contiguous(), keys_2HRNW.to(wide).contiguous()
        _, heads, ranks, num_keys, width = keys.shape
        lists_2HR1 = torch.arange(2 * heads * ranks, device=keys.device).view(2, heads, ranks, 1)
        rows_BM = (lists_2HR1 * num_keys + indices_T2HK[:, :, :, None]).flatten(3).flatten(0, 2)
        weights_BM = gradient_T2HRK.flatten(3).flatten(0, 2)
        for_query: Tensor = backends.bags(keys, ctx.backend).embedding_bag(
            keys.view(-1, width), rows_BM.flatten(), bag_offsets(rows_BM), weights_BM.flatten()
        )
        gradient = RowGradient(2 * heads * ranks * num_keys, backend=ctx.backend)
        gradient.add(rows_BM, weights_BM, query.view(-1, width))
        for_keys = gradient.to_dense().view_as(keys)
        return for_query.view_as(query).to(query_T2HW.dtype), for_keys.to(keys_2HRNW.dtype), None, None, None


_selected_scores: Callable[..., tuple[Tensor, Tensor]] = _SelectedScores.apply
