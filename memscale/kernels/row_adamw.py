"""AdamW on memory tables at the cost of the rows that are looked up, with the result of dense AdamW.

1. `step` updates the rows that got a gradient, and no others.
2. All other rows now have a pending update: under dense AdamW their moments would have decayed, and their weights
   would have decayed and moved along the first moment (`memscale.kernels.lazy_decay`).
3. Just before a row is looked up, its pending update is applied in closed form (`catch_up`). Lookups without gradients
   apply it to copies (`peek_rows`).
4. `flush` applies all pending updates, before the table itself is read: at the last checkpoint, and when weights are
   loaded for evaluation or export.

The result equals dense AdamW's up to rounding and the closed form's error (at most 3e-4 of what a row moves while it
gets no gradient, at betas .9 and .95), and no step visits all rows. The saving is that of the rows not touched: it
needs many more slots than lookups per step.

A table belongs to one optimizer and may be looked up by several layers and in several micro-batches: its gradient
accumulates in a `RowGradient`, and a step consumes it. The state is a pure function of learning rates and gradients, so
a resumed run has the same bits.

Shape suffixes: U distinct rows, N slots, V width of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType

import torch
from torch import Tensor

from memscale.config.checks import positive
from memscale.kernels import backends
from memscale.kernels.lazy_decay import LazyDecay
from memscale.kernels.memory_table import MemoryTable
from memscale.kernels.row_gradient import RowGradient
from memscale.kernels.row_state import AdamWStep, RowState, zero_state

_FLUSH_BLOCK_ROWS = 1 << 20
"""Rows flushed at a time; a list of all rows would be as long as the table."""


class RowAdamW:
    """AdamW (Loshchilov and Hutter 2019) on whole tables, given by name; a table knows its optimizer from then on.

    Args:
        tables: Name -> table. The names are part of the keys of `state`.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment; at least beta1.
        eps: Added to the root of the second moment; above zero.
        weight_decay: Decoupled weight decay, multiplied by the learning rate.
        second_moments: "element" for AdamW; "row" for one second moment per row, the running mean of the row's mean
            squared gradient: another optimizer, with about half the memory for moments.
        master: Keep a float32 copy of narrower tables, update that, and round the rows that changed to nearest. Without
            it narrower tables are rounded stochastically (`memscale.kernels.rounding`).
        backend: "torch", "numba" or "triton"; by default chosen by device and type.

    Raises:
        ConfigError: beta1 > beta2, eps is not positive, or the back end does not run these tables.

    Example:
        Row 1 is looked up in the first step alone. The lazy table is behind dense AdamW until it is flushed:

        >>> from memscale.kernels.embedding_bag import embedding_bag
        >>> from memscale.kernels.memory_table import MemoryTable
        >>> table = MemoryTable(torch.ones(2, 3))
        >>> dense = torch.ones(2, 3, requires_grad=True)
        >>> lazy = RowAdamW({"values": table}, weight_decay=0.1)
        >>> adamw = torch.optim.AdamW([dense], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
        >>> for slots in ([[0, 1]], [[0, 0]], [[0, 0]]):
        ...     indices_TK, weights_TK = torch.tensor(slots), torch.ones(1, 2)
        ...     embedding_bag(table, indices_TK, weights_TK).sum().backward()
        ...     lazy.step(0.01)
        ...     dense.grad = torch.zeros(2, 3).index_add_(0, indices_TK.flatten(), torch.ones(2, 3))
        ...     adamw.step()
        >>> torch.allclose(table, dense, atol=1e-6)
        False
        >>> lazy.flush()
        >>> torch.allclose(table, dense, atol=1e-6)
        True
    """

    def __init__(
        self,
        tables: Mapping[str, MemoryTable],
        *,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        second_moments: str = "element",
        master: bool = False,
        backend: str | None = None,
    ) -> None:
        positive("eps", eps)
        self._beta1, self._beta2, self._eps, self._weight_decay = beta1, beta2, eps, weight_decay
        self._decay = LazyDecay(beta1=beta1, beta2=beta2, weight_decay=weight_decay)
        self._coefficients_on: dict[torch.device, tuple[Tensor, int]] = {}
        self.tables = {
            name: TableAdamW(self, table, second_moments=second_moments, master=master, backend=backend)
            for name, table in tables.items()
        }

    @property
    def num_steps(self) -> int:
        """Steps taken."""
        return self._decay.num_steps

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take one step with the accumulated gradients at this learning rate, and clear them.

        Raises:
            ConfigError: The learning rate times the weight decay is 1 or more; nothing has been changed then.
        """
        self._decay.check(learning_rate)
        adamw_step = AdamWStep(
            step=self.num_steps + 1,
            learning_rate=learning_rate,
            beta1=self._beta1,
            beta2=self._beta2,
            eps=self._eps,
            weight_decay=self._weight_decay,
        )
        for table in self.tables.values():
            table.update(adamw_step)
        self.clear_gradients()
        self.resume((learning_rate,))

    def resume(self, rates: Iterable[float]) -> None:
        """Count steps at these learning rates as taken; the caller loads the tensors of `state`.

        Raises:
            ConfigError: As `step`.
        """
        self._decay.advance(rates)

    def squared_norms(self) -> list[Tensor]:
        """Return the sum of squares of each table's gradient, float64 scalars."""
        return [table.gradient.squared_norm() for table in self.tables.values()]

    def scale_gradients(self, factor: Tensor) -> None:
        """Multiply all gradients by a scalar tensor; nothing can be added to them before the step."""
        for table in self.tables.values():
            table.gradient.scale = factor

    def clear_gradients(self) -> None:
        """Discard the accumulated gradients."""
        for table in self.tables.values():
            table.gradient.clear()

    @torch.no_grad()
    def flush(self) -> None:
        """Apply the pending updates of all rows of all tables."""
        for table in self.tables.values():
            table.flush()

    def detach(self) -> None:
        """Release the tables: they are plain parameters with sparse gradients again."""
        for table in self.tables.values():
            table.detach()

    def state(self) -> dict[str, Tensor]:
        """Return the state by `<what>.<table>`: the tensors themselves, not copies."""
        return {
            f"{name}.{key}": tensor for key, table in self.tables.items() for name, tensor in table.tensors().items()
        }

    def coefficients_on(self, device: torch.device) -> Tensor:
        """Return `LazyDecay.coefficients` on a device; only rows that a step changed are copied there."""
        coefficients = torch.from_numpy(self._decay.coefficients)
        if device.type == "cpu":
            return coefficients
        held, copied = self._coefficients_on.get(device, (coefficients[:0], 0))
        num_rows, num_columns = coefficients.shape
        if len(held) < num_rows:
            held, copied = torch.empty(2 * num_rows, num_columns, dtype=coefficients.dtype, device=device), 0
        if copied < num_rows:
            first = max(0, copied - self._decay.window - 1)
            # A separate copy: the host takes further steps before the GPU has read it, and nothing waits.
            new = coefficients[first:].clone()
            new = new.pin_memory() if device.type == "cuda" else new
            held[first:num_rows].copy_(new, non_blocking=True)
        self._coefficients_on[device] = held, num_rows
        return held[:num_rows]

    @property
    def eps(self) -> float:
        """The eps of AdamW."""
        return self._eps


class TableAdamW:
    """AdamW's state of one table's rows, and the table's gradient: the `RowOptimizer` of a `MemoryTable`."""

    def __init__(
        self, optimizer: RowAdamW, table: MemoryTable, *, second_moments: str, master: bool, backend: str | None
    ) -> None:
        self._optimizer, self._table, self._backend = optimizer, table, backend
        self._master = master and table.dtype != torch.promote_types(table.dtype, torch.float32)
        # `data`: updates of rows are not recorded by autograd.
        self.state: RowState = zero_state(self._weights_to_update(), second_moments, table.placement)
        self.gradient = RowGradient(len(table), device=table.device, backend=backend)
        self._flushed_step = 0
        table.row_optimizer = self

    def _weights_to_update(self) -> Tensor:
        """The rows that the optimizer updates: the table, or a float32 copy of it."""
        if not self._master:
            return self._table.data
        return self._table.placement.zeros(self._table.shape, torch.float32, self._table.device).copy_(self._table.data)

    @property
    def is_flushed(self) -> bool:
        """Whether no row is known to have a pending update."""
        return self._flushed_step == self._optimizer.num_steps

    def peek_rows(self, rows_U: Tensor) -> Tensor:
        """Return copies [U, V] of rows with their pending updates applied."""
        kept = self.state
        # Copies have the moments' type: rounding narrow weights stochastically would draw random bits a second time.
        tensors = (kept.weights_NV, kept.first_NV, kept.second_NV, kept.moments_step_N, kept.weights_step_N)
        copied = [tensor.index_select(0, rows_U) for tensor in tensors]
        copies = RowState(copied[0].to(kept.first_NV.dtype), *copied[1:])
        coefficients = self._optimizer.coefficients_on(self._table.device)
        indices_U = torch.arange(len(rows_U), device=rows_U.device)
        backends.rows(copies.weights_NV, self._backend).catch_up(copies, indices_U, coefficients, self._optimizer.eps)
        return copies.weights_NV.to(self._table.dtype)

    def catch_up(self, slots: Tensor) -> None:
        """Apply the pending updates of the rows `slots` (int64, any shape, repeats allowed)."""
        if not self.is_flushed and slots.numel():
            bags = backends.bags(self.state.first_NV, self._backend)
            self._catch_up(bags.unique_slots(slots.flatten().to(self._table.device), len(self._table)))

    def flush(self) -> None:
        """Apply the pending updates of all rows."""
        if not self.is_flushed:
            device = self._table.device
            for first in range(0, len(self._table), _FLUSH_BLOCK_ROWS):
                last = min(first + _FLUSH_BLOCK_ROWS, len(self._table))
                self._catch_up(torch.arange(first, last, device=device))
            self._flushed_step = self._optimizer.num_steps

    def detach(self) -> None:
        """Release the table."""
        self._table.row_optimizer = None

    def update(self, adamw_step: AdamWStep) -> None:
        """Take a step on the rows that got a gradient."""
        lookups = self.gradient.lookups()
        if lookups is None:
            return
        self._catch_up(lookups.rows_U)
        coefficients = self._optimizer.coefficients_on(self._table.device)
        self._kernels.update(self.state, lookups, self.gradient.scale, coefficients, adamw_step)
        self._round_master(lookups.rows_U)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name."""
        state = self.state
        kept = {
            "first_moments": state.first_NV,
            "second_moments": state.second_NV,
            "moments_steps": state.moments_step_N,
            "weights_steps": state.weights_step_N,
        }
        return {**kept, "master": state.weights_NV} if self._master else kept

    def _catch_up(self, rows_U: Tensor) -> None:
        coefficients = self._optimizer.coefficients_on(self._table.device)
        self._kernels.catch_up(self.state, rows_U, coefficients, self._optimizer.eps)
        self._round_master(rows_U)

    def _round_master(self, rows_U: Tensor) -> None:
        if self._master:
            self._table.data[rows_U] = self.state.weights_NV[rows_U].to(self._table.dtype)

    @property
    def _kernels(self) -> ModuleType:
        return backends.rows(self.state.weights_NV, self._backend)
