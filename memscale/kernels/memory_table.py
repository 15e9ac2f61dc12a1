"""A memory table: the parameter that memory and PEER layers look rows up in, and its link to a row optimizer.

Without a row optimizer a `MemoryTable` is a parameter like any other, with a sparse gradient. With one, a lookup routes
its gradient to the optimizer in factored form, and has to see every row as dense AdamW would have left it by now: rows
that got no gradient for some steps have a pending update (`memscale.kernels.lazy_decay`). With gradients enabled the
pending update is applied to the table just before the rows are read; under `torch.no_grad`, as in evaluation, it is
applied to copies, so that evaluating a model changes nothing in its training.

Shape suffixes: T tokens, K slots per token, U distinct rows, V width of a row, N slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from memscale.kernels.row_gradient import RowGradient
from memscale.kernels.table_placement import ON_DEVICE, TablePlacement


class RowOptimizer(Protocol):
    """What a lookup needs of the optimizer of one table's rows."""

    gradient: RowGradient

    @property
    def is_flushed(self) -> bool:
        """Whether no row has a pending update."""

    def catch_up(self, slots: Tensor) -> None:
        """Apply the pending updates of the rows `slots` (int64, any shape, repeats allowed) to the table."""

    def peek_rows(self, rows_U: Tensor) -> Tensor:
        """Return copies [U, V] of the rows `rows_U` with their pending updates applied; change nothing."""


class MemoryTable(nn.Parameter):
    """The rows [N, V] of one memory table, a parameter.

    Example:
        >>> table = MemoryTable(torch.zeros(4, 2))
        >>> isinstance(table, nn.Parameter), table.row_optimizer is None
        (True, True)
    """

    row_optimizer: RowOptimizer | None = None
    placement: TablePlacement = ON_DEVICE
    """Where the rows are allocated, and the optimizer state with them."""


def allocate_table(
    placement: TablePlacement, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> MemoryTable:
    """Return a table of zeros [N, V] allocated by `placement`, for a model on `device`.

    Raises:
        ConfigError: There is no room for it.
    """
    table = MemoryTable(placement.zeros(shape, dtype, device))
    table.placement = placement
    return table


def row_optimizer_of(table_NV: Tensor) -> RowOptimizer | None:
    """Return the row optimizer of a table; None if it has none, or is a plain tensor."""
    return table_NV.row_optimizer if isinstance(table_NV, MemoryTable) else None


@torch.no_grad()
def gather_rows(table_NV: Tensor, slots_TK: Tensor, *, read_only: bool) -> tuple[Tensor, Tensor]:
    """Return up-to-date rows on the slots' device, and the indices of `slots_TK` in them.

    Wherever possible these are the table and the slots themselves. Otherwise the rows that are looked up are copied,
    each once: if the table lies on another device, or if rows have a pending update and the lookup is `read_only`.

    Args:
        table_NV: The table.
        slots_TK: Rows to look up, int64.
        read_only: Leave the table and its optimizer state as they are.
    """
    row_optimizer = row_optimizer_of(table_NV)
    if row_optimizer is not None and not read_only:
        row_optimizer.catch_up(slots_TK)
    pending = read_only and row_optimizer is not None and not row_optimizer.is_flushed
    elsewhere = table_NV.device != slots_TK.device or (isinstance(table_NV, MemoryTable) and table_NV.placement.staged)
    if not pending and not elsewhere:
        return table_NV, slots_TK
    rows_U, indices_TK = torch.unique(slots_TK, return_inverse=True)
    rows_U = rows_U.to(table_NV.device)
    rows_UV = (
        row_optimizer.peek_rows(rows_U)
        if pending and row_optimizer is not None
        else table_NV.detach().index_select(0, rows_U)
    )
    return rows_UV.to(slots_TK.device, non_blocking=True), indices_TK
