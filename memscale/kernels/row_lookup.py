"""Rows of a memory table, concatenated for each token; differentiable in the table.

What `embedding_bag` is to sums, this is to rows that are read one by one: an n-gram table reads few and narrow rows
whose addresses are known beforehand. The gradient of a row is the part of the token's gradient that it gave, and is
routed to the table's row optimizer as lookups of weight one (`memscale.kernels.row_gradient`).

Raises ConfigError for shapes and types that do not match, and for slots outside the table (on the CPU only).

Shape suffixes: T tokens, K rows per token, A = T K lookups, V width of a row, N rows of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memscale.errors import ConfigError
from memscale.kernels.embedding_bag import check_slots, route_gradient
from memscale.kernels.memory_table import gather_rows


def row_lookup(table_NV: Tensor, slots_TK: Tensor) -> Tensor:
    """Return [T, K V]: for every token t the rows table_NV[slots_TK[t, k]], one after another.

    Args:
        table_NV: The table, floating point [N, V]; a `MemoryTable` or any tensor.
        slots_TK: Rows to look up, int64 [T, K]; repeats are allowed.

    Returns:
        The rows, of the table's type. Differentiable once in the table. With gradients enabled, a table that has a row
        optimizer is brought up to date in the rows that are looked up; under `torch.no_grad` nothing is changed.

    Raises:
        ConfigError: Shapes or types do not match, or a slot lies outside the table.

    Example:
        >>> table_NV = torch.arange(6.0).view(3, 2)
        >>> row_lookup(table_NV, torch.tensor([[0, 2], [1, 1]])).tolist()
        [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 2.0, 3.0]]
    """
    if table_NV.ndim != 2 or slots_TK.ndim != 2:
        raise ConfigError(
            f"row_lookup needs a table [N, V] and slots [T, K]; given were {list(table_NV.shape)} and "
            f"{list(slots_TK.shape)}"
        )
    check_slots("row_lookup", table_NV, slots_TK)
    rows_NV, indices_TK = gather_rows(table_NV, slots_TK, read_only=not torch.is_grad_enabled())
    return _row_lookup(table_NV, rows_NV, indices_TK, slots_TK)


class _RowLookup(torch.autograd.Function):
    """The op: `table_NV` is an argument for its gradient, the values are read from `rows_NV` (`gather_rows`)."""

    @staticmethod
    def forward(ctx: Any, table_NV: Tensor, rows_NV: Tensor, indices_TK: Tensor, slots_TK: Tensor) -> Tensor:
        ctx.table = table_NV
        ctx.save_for_backward(slots_TK)
        return rows_NV.index_select(0, indices_TK.flatten()).view(
            len(indices_TK), indices_TK.shape[1] * rows_NV.shape[1]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TKV: Tensor) -> tuple[Tensor | None, None, None, None]:
        (slots_TK,) = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        gradient_AV = gradient_TKV.reshape(slots_TK.numel(), ctx.table.shape[1])
        ones_A1 = torch.ones(len(gradient_AV), 1, dtype=gradient_AV.dtype, device=gradient_AV.device)
        return route_gradient(ctx.table, slots_TK.reshape(-1, 1), ones_A1, gradient_AV, None), None, None, None


_row_lookup: Callable[..., Tensor] = _RowLookup.apply
