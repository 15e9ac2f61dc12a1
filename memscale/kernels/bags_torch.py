"""Bags of rows in plain torch operators: the reference of every other back end, on any device and for any type.

All that a lookup needs, forward and backward, is sums over bags: bag b holds the places offsets[b] to offsets[b + 1] of
a list of A reads. A token's slots are a bag of table rows; the reads of one slot are a bag of token gradients. Nothing
of size [A, V] is ever made. Refuses nothing: the ops check what comes in.

A reads, B bags, T tokens, K slots read per token, U rows touched, V width of a row, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SUM = 0
"""embedding_bag's mode, as its operators number it."""


def embedding_bag(
    rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, weights_A: Tensor, *, max_bag_size: int | None = None
) -> Tensor:
    """Return [B, V]: for every bag the sum of weights_A[a] * rows_NV[indices_A[a]] over its reads; zero if it has none.

    `indices_A` and `offsets_B1` are int64, `weights_A` of the rows' type. `max_bag_size`: the most lookups of a
    bag, where that is known; some back ends then have less to look for.
    """
    del max_bag_size
    found: tuple[Tensor, ...] = torch.ops.aten._embedding_bag(
        rows_NV.contiguous(),
        indices_A,
        offsets_B1,
        mode=_SUM,
        per_sample_weights=weights_A.contiguous(),
        include_last_offset=True,
    )
    return found[0]


def per_sample_weight_grad(rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, x_BV: Tensor) -> Tensor:
    """Return [A]: for every read a of bag b the scalar product of rows_NV[indices_A[a]] and x_BV[b]."""
    bags_B = torch.arange(len(x_BV), device=x_BV.device)
    bags_A = torch.repeat_interleave(bags_B, offsets_B1.diff(), output_size=len(indices_A))
    products_A: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x_BV.contiguous(), rows_NV.contiguous(), indices_A, offsets_B1[:-1], bags_A, _SUM
    )
    return products_A


def bag_squared_norm(rows_NV: Tensor, indices_A: Tensor, offsets_B1: Tensor, weights_A: Tensor) -> Tensor:
    """Return the sum of squares of all bags' sums, a float64 scalar."""
    return embedding_bag(rows_NV, indices_A, offsets_B1, weights_A).double().square().sum()


def squared_norm(rows_NV: Tensor) -> Tensor:
    """Return the sum of squares of all values, a float64 scalar."""
    return rows_NV.square().sum(dtype=torch.float64)


def group_lookups(
    slots: Sequence[Tensor], weights: Sequence[Tensor], num_slots: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the reads of all parts, `slots` [T, K] with `weights` [T, K] each, in the order of their slots and, within
    one, in their own: the slots that are read, rising, int64 [U]; where each slot's reads begin, int64 [U + 1]; and for
    every read its token, counted through the parts, int64 [A], and its weight [A].
    """
    slots_A, weights_A = (torch.cat([part.flatten() for part in parts]) for parts in (slots, weights))
    ordered_A, order_A = _narrowed(slots_A, num_slots).sort(stable=True)
    rows_U, counts_U = torch.unique_consecutive(ordered_A, return_counts=True)
    starts_U1 = torch.zeros(len(rows_U) + 1, dtype=torch.int64, device=slots_A.device)
    torch.cumsum(counts_U, 0, out=starts_U1[1:])
    tokens_A = order_A // slots[0].shape[1] if len(slots) == 1 else _tokens(slots).index_select(0, order_A)
    return rows_U.long(), starts_U1, tokens_A, weights_A.index_select(0, order_A)


def _narrowed(slots_A: Tensor, num_slots: int) -> Tensor:
    """The slots as int32 where that holds them: half the digits to sort by."""
    return slots_A.int() if num_slots <= 1 << 31 else slots_A


def _tokens(slots: Sequence[Tensor]) -> Tensor:
    """int64 [A]: the token of every read, counted through the parts."""
    first, tokens = 0, []
    for part in slots:
        rows_T = torch.arange(first, first + len(part), device=part.device)
        tokens.append(rows_T.repeat_interleave(part.shape[1]))
        first += len(part)
    return torch.cat(tokens)


def unique_slots(slots_A: Tensor, num_slots: int) -> Tensor:
    """Return the slots that are among `slots_A`, rising, int64 [U]."""
    rows_U: Tensor = torch.unique(_narrowed(slots_A, num_slots))
    return rows_U.long()
