"""A table of a memory layer: a parameter whose rows may belong to a row optimizer.

Without one it is a parameter like any other, with a sparse gradient. With one a lookup hands over its gradient as it
is made of, and reads rows as dense AdamW would have made them by now: those that got no gradient for some steps still
owe what AdamW does to such rows (`memscale.kernels.lazy_decay`). In training they pay before they are read; without
gradients, as in an evaluation, copies of them do, so that looking at a model leaves no trace in its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from memscale.kernels.row_gradient import RowGradient
from memscale.kernels.table_placement import ON_DEVICE, TablePlacement


class RowOptimizer(Protocol):
    """What a row optimizer keeps of one table."""

    gradient: RowGradient

    @property
    def is_flushed(self) -> bool:
        """Whether no row owes anything."""

    def catch_up(self, slots: Tensor) -> None:
        """Make the rows `slots` (int64, any shape, repeats allowed) what dense AdamW would have made of them by now."""

    def peek_rows(self, rows_U: Tensor) -> Tensor:
        """Return copies [U, V] of rows as they would be then; they themselves stay as they are."""


class MemoryTable(nn.Parameter):
    """The rows [N, V]."""

    row_optimizer: RowOptimizer | None = None
    memory: TablePlacement = ON_DEVICE
    """Where the rows lie; what is kept of them lies there too."""


def allocate_table(
    memory: TablePlacement, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> MemoryTable:
    """Return a table of zeros laid where `memory` says, for a model on `device`. Raises ConfigError."""
    table = MemoryTable(memory.zeros(shape, dtype, device))
    table.memory = memory
    return table


def row_optimizer_of(table_NV: Tensor) -> RowOptimizer | None:
    """Return who keeps the rows of a table, if anybody does; plain tensors are nobody's."""
    return table_NV.row_optimizer if isinstance(table_NV, MemoryTable) else None


@torch.no_grad()
def gather_rows(table_NV: Tensor, slots_TK: Tensor, *, read_only: bool) -> tuple[Tensor, Tensor]:
    """Return up-to-date rows on the slots' device, and the places of `slots_TK` among them.

    They are the table itself and the slots, wherever that can be; else a copy of the rows that are read, each once:
    of a table that lies elsewhere, or that rows owe to and that must stay as it is.
    """
    row_optimizer = row_optimizer_of(table_NV)
    if row_optimizer is not None and not read_only:
        row_optimizer.catch_up(slots_TK)
    owing = read_only and row_optimizer is not None and not row_optimizer.is_flushed
    elsewhere = table_NV.device != slots_TK.device or (isinstance(table_NV, MemoryTable) and table_NV.memory.staged)
    if not owing and not elsewhere:
        return table_NV, slots_TK
    rows_U, indices_TK = torch.unique(slots_TK, return_inverse=True)
    rows_U = rows_U.to(table_NV.device)
    rows_UV = (
        row_optimizer.peek_rows(rows_U)
        if owing and row_optimizer is not None
        else table_NV.detach().index_select(0, rows_U)
    )
    return rows_UV.to(slots_TK.device, non_blocking=True), indices_TK
