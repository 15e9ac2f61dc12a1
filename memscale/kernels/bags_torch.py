"""Sums over bags of rows in plain torch operators: the reference of the other back ends, for any type and device.

All that a lookup needs, forward and backward, are sums over bags of rows: bag b holds the indices offsets[b] to
offsets[b + 1] of a list of A lookups. In the forward pass a token's slots are a bag of table rows; in the table's
gradient the lookups of one slot are a bag of token gradients. No tensor of size [A, V] is made.

Arguments are not checked here: the ops do that.

Shape suffixes: A lookups, B bags, T tokens, K slots per token, U distinct rows, V width of a row, N rows.
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
    """Return [B, V]: for every bag the sum of weights_A[a] * rows_NV[indices_A[a]] over its lookups.

    The sum of an empty bag is zero.

    Args:
        rows_NV: The rows, floating point.
        indices_A: Row of each lookup, int64.
        offsets_B1: Where each bag begins in `indices_A`, and the end, int64.
        weights_A: Weight of each lookup, of the rows' type.
        max_bag_size: The most lookups of a bag, if known; it saves Triton a search.
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
    """Return [A]: for every lookup a of bag b the dot product of rows_NV[indices_A[a]] and x_BV[b]."""
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
    """Sort the lookups of all parts by slot, stably.

    Args:
        slots: Slots [T, K] of each part, int64.
        weights: Weights [T, K] of each part.
        num_slots: Rows of the table.

    Returns:
        The distinct slots, rising, int64 [U]; where each slot's lookups begin, int64 [U + 1]; and for every lookup in
        the new order its token, counted through the parts, int64 [A], and its weight [A].
    """
    slots_A, weights_A = (torch.cat([part.flatten() for part in parts]) for parts in (slots, weights))
    ordered_A, order_A = _narrowed(slots_A, num_slots).sort(stable=True)
    rows_U, counts_U = torch.unique_consecutive(ordered_A, return_counts=True)
    starts_U1 = torch.zeros(len(rows_U) + 1, dtype=torch.int64, device=slots_A.device)
    torch.cumsum(counts_U, 0, out=starts_U1[1:])
    tokens_A = order_A // slots[0].shape[1] if len(slots) == 1 else _tokens(slots).index_select(0, order_A)
    return rows_U.long(), starts_U1, tokens_A, weights_A.index_select(0, order_A)


def _narrowed(slots_A: Tensor, num_slots: int) -> Tensor:
    """The slots as int32 if that holds them: half the digits to sort by."""
    return slots_A.int() if num_slots <= 1 << 31 else slots_A


def _tokens(slots: Sequence[Tensor]) -> Tensor:
    """int64 [A]: the token of every lookup, counted through the parts."""
    first, tokens = 0, []
    for part in slots:
        rows_T = torch.arange(first, first + len(part), device=part.device)
        tokens.append(rows_T.repeat_interleave(part.shape[1]))
        first += len(part)
    return torch.cat(tokens)


def unique_slots(slots_A: Tensor, num_slots: int) -> Tensor:
    """Return the distinct slots of `slots_A`, rising, int64 [U]."""
    rows_U: Tensor = torch.unique(_narrowed(slots_A, num_slots))
    return rows_U.long()
