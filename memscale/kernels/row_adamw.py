"""AdamW on tables at the cost of the rows that were read: what dense AdamW computes, for a small part of its work.

A step updates the rows that got a gradient. All others owe the step: their moments decay, and their weights decay and
move on by them. A row pays what it owes just before it is read, in closed form (`memscale.kernels.lazy_decay`); reading
without gradients brings copies of rows up to date; and all rows pay when the table itself is to be read (`settle`):
before the last checkpoint, and where weights are loaded for evaluation or export. So the result is that of dense AdamW
up to rounding and the closed form's error, and no step looks at all rows.

A table belongs to one optimizer and may be read by several layers, in several micro-batches: its gradient collects in
a `RowGradient`, and one step uses it up. The state is a pure function of rates and gradients, so that it can be taken
up half-way. Refuses what `LazyDecay` refuses.

N slots, V width of a row.
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

_FLUSHED_AT_ONCE = 1 << 20
"""Rows; a list of all would be as long as the table."""


class RowAdamW:
    """AdamW on whole tables, by name. `second_moments`: one an 'element', or one a 'row' (the running mean square of
    the row's gradient: another optimizer, with about half of these moments). `master`: move a float32 copy of narrower
    tables, and round the rows that moved; without it, narrower tables are rounded stochastically."""

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
    def step(self, rate: float) -> None:
        """Take one step at `rate` with the gradients that collected, and clear them. Raises ConfigError, and has then
        changed nothing."""
        self._decay.check(rate)
        numbers = AdamWStep(
            step=self.num_steps + 1,
            rate=rate,
            beta1=self._beta1,
            beta2=self._beta2,
            eps=self._eps,
            weight_decay=self._weight_decay,
        )
        for table in self.tables.values():
            table.update(numbers)
        self.clear_gradients()
        self.resume((rate,))

    def resume(self, rates: Iterable[float]) -> None:
        """Count steps at these rates as taken; the state is to be filled in by the caller. Raises ConfigError."""
        self._decay.advance(rates)

    def squared_norms(self) -> list[Tensor]:
        """Return the sum of squares of each table's gradient, float64 scalars."""
        return [table.gradient.squared_norm() for table in self.tables.values()]

    def scale_gradients(self, factor: Tensor) -> None:
        """Multiply all gradients by a scalar; nothing can be added to them before the step."""
        for table in self.tables.values():
            table.gradient.scale = factor

    def clear_gradients(self) -> None:
        """Forget the gradients that collected."""
        for table in self.tables.values():
            table.gradient.clear()

    @torch.no_grad()
    def flush(self) -> None:
        """Bring all rows of all tables up to date."""
        for table in self.tables.values():
            table.flush()

    def detach(self) -> None:
        """Keep the tables no longer."""
        for table in self.tables.values():
            table.detach()

    def state(self) -> dict[str, Tensor]:
        """Return all that is kept, by `<what>.<table>`: the tensors themselves, not copies."""
        return {
            f"{name}.{key}": tensor for key, table in self.tables.items() for name, tensor in table.tensors().items()
        }

    def coefficients_on(self, device: torch.device) -> Tensor:
        """Return what rows owe (`LazyDecay.table`) on a device; only what a step changed is copied there."""
        table = torch.from_numpy(self._decay.table)
        if device.type == "cpu":
            return table
        held, copied = self._coefficients_on.get(device, (table[:0], 0))
        if len(held) < len(table):
            held, copied = torch.empty(2 * len(table), table.shape[1], dtype=table.dtype, device=device), 0
        if copied < len(table):
            first = max(0, copied - self._decay.window - 1)
            # A copy of its own: steps go on while the GPU has yet to fetch it, and nothing waits.
            new = table[first:].clone()
            new = new.pin_memory() if device.type == "cuda" else new
            held[first : len(table)].copy_(new, non_blocking=True)
        self._coefficients_on[device] = held, len(table)
        return held[: len(table)]

    @property
    def eps(self) -> float:
        return self._eps


class TableAdamW:
    """One table, its gradient, and AdamW's state of its rows."""

    def __init__(
        self, optimizer: RowAdamW, table: MemoryTable, *, second_moments: str, master: bool, backend: str | None
    ) -> None:
        self._optimizer, self._table, self._backend = optimizer, table, backend
        self._master = master and table.dtype != torch.promote_types(table.dtype, torch.float32)
        # `data`: what moves rows is no part of what autograd has seen of the table.
        self.state: RowState = zero_state(self._moved(), second_moments, table.memory)
        self.gradient = RowGradient(len(table), device=table.device, backend=backend)
        self._flushed_step = 0
        table.row_optimizer = self

    def _moved(self) -> Tensor:
        """The rows that the optimizer moves: the table, or its float32 copy."""
        if not self._master:
            return self._table.data
        return self._table.memory.zeros(self._table.shape, torch.float32, self._table.device).copy_(self._table.data)

    @property
    def is_flushed(self) -> bool:
        """Whether all rows are known to be up to date."""
        return self._flushed_step == self._optimizer.num_steps

    def peek_rows(self, rows_U: Tensor) -> Tensor:
        """Return copies [U, V] of rows, brought up to date."""
        kept = self.state
        # Copies of narrow weights are as wide as the moments: rounding them stochastically would be a second draw.
        tensors = (kept.weights_NV, kept.first_NV, kept.second_NV, kept.moments_step_N, kept.weights_step_N)
        copied = [tensor.index_select(0, rows_U) for tensor in tensors]
        copies = RowState(copied[0].to(kept.first_NV.dtype), *copied[1:])
        coefficients = self._optimizer.coefficients_on(self._table.device)
        indices_U = torch.arange(len(rows_U), device=rows_U.device)
        backends.rows(copies.weights_NV, self._backend).catch_up(copies, indices_U, coefficients, self._optimizer.eps)
        return copies.weights_NV.to(self._table.dtype)

    def catch_up(self, slots: Tensor) -> None:
        """Bring the rows `slots` (int64, any shape, repeats allowed) up to date."""
        if not self.is_flushed and slots.numel():
            bags = backends.bags(self.state.first_NV, self._backend)
            self._catch_up(bags.unique_slots(slots.flatten().to(self._table.device), len(self._table)))

    def flush(self) -> None:
        """Bring all rows up to date."""
        if not self.is_flushed:
            device = self._table.device
            for first in range(0, len(self._table), _FLUSHED_AT_ONCE):
                last = min(first + _FLUSHED_AT_ONCE, len(self._table))
                self._catch_up(torch.arange(first, last, device=device))
            self._flushed_step = self._optimizer.num_steps

    def detach(self) -> None:
        """Keep the table no longer."""
        self._table.row_optimizer = None

    def update(self, numbers: AdamWStep) -> None:
        """Take a step with the gradient, on the rows that have one."""
        lookups = self.gradient.lookups()
        if lookups is None:
            return
        self._catch_up(lookups.rows_U)
        coefficients = self._optimizer.coefficients_on(self._table.device)
        self._kernels.update(self.state, lookups, self.gradient.scale, coefficients, numbers)
        self._round(lookups.rows_U)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is kept by name."""
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
        self._round(rows_U)

    def _round(self, rows_U: Tensor) -> None:
        if self._master:
            self._table.data[rows_U] = self.state.weights_NV[rows_U].to(self._table.dtype)

    @property
    def _kernels(self) -> ModuleType:
        return backends.rows(self.state.weights_NV, self._backend)
