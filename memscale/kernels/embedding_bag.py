"""The weighted sum of table rows, with its gradients, by the back end that suits the device.

The table's gradient is never dense: it goes to the table's keeper, a row optimizer, as it is made of, or else comes out
as a sparse tensor of the touched rows. Refuses slots outside the table (on the CPU; a GPU would have to be waited for),
shapes and types that do not fit, and an unknown back end.

T tokens, K slots read per token, V width of a row, N slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memscale.errors import ConfigError
from memscale.kernels import backends
from memscale.kernels.memory_table import gather_rows, row_optimizer_of
from memscale.kernels.row_gradient import RowGradient


def embedding_bag(table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor, *, backend: str | None = None) -> Tensor:
    """Return [T, V]: for every token the sum over k of weights_TK[t, k] * table_NV[slots_TK[t, k]].

    `slots_TK` is int64. The result has the table's type; weights are brought to it. Differentiable once in table and
    weights. `backend` overrides the choice by device. Raises ConfigError.
    """
    if table_NV.ndim != 2 or slots_TK.ndim != 2 or slots_TK.shape != weights_TK.shape:
        raise ConfigError(
            f"embedding_bag needs a table [N, V] and slots and weights [T, K]; given were {list(table_NV.shape)}, "
            f"{list(slots_TK.shape)} and {list(weights_TK.shape)}"
        )
    check_slots("embedding_bag", table_NV, slots_TK)
    backends.choose_backend(table_NV, backend)
    rows_NV, indices_TK = gather_rows(table_NV, slots_TK, read_only=not torch.is_grad_enabled())
    return _lookup(table_NV, rows_NV, indices_TK, slots_TK, weights_TK.to(table_NV.dtype), backend)


def check_slots(op: str, table_NV: Tensor, slots_TK: Tensor) -> None:
    """Raise ConfigError where slots are not int64, or on the CPU none of the table's: compiled code would read and
    write anywhere."""
    if slots_TK.dtype != torch.int64:
        raise ConfigError(f"{op} needs slots of type int64; given was {slots_TK.dtype}")
    if slots_TK.device.type == "cpu" and slots_TK.numel():
        lowest, highest = (int(slot) for slot in torch.aminmax(slots_TK))
        if lowest < 0 or highest >= len(table_NV):
            raise ConfigError(f"slots run from {lowest} to {highest}, but the table has {len(table_NV)} rows")


def bag_offsets(slots_TK: Tensor) -> Tensor:
    """Return int64 [T + 1]: where each token's slots begin among all, and the end."""
    num_tokens, num_slots = slots_TK.shape
    if not num_slots:
        return torch.zeros(num_tokens + 1, dtype=torch.int64, device=slots_TK.device)
    return torch.arange(0, num_tokens * num_slots + 1, num_slots, device=slots_TK.device)


def route_gradient(
    table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor, x_TV: Tensor, backend: str | None
) -> Tensor | None:
    """Give the table's gradient, weights_TK[t, k] * x_TV[t] in row slots_TK[t, k], to its keeper and return None;
    without a keeper return it as a coalesced sparse tensor [N, V]."""
    row_optimizer = row_optimizer_of(table_NV)
    if row_optimizer is not None:
        row_optimizer.gradient.add(slots_TK, weights_TK, x_TV)
        return None
    gradient = RowGradient(len(table_NV), device=table_NV.device, backend=backend)
    gradient.add(slots_TK, weights_TK, x_TV)
    return gradient.sparse(table_NV.dtype)


class _Lookup(torch.autograd.Function):
    """The op over bags: a token's slots are its bag of rows. The table itself stands here for its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        table_NV: Tensor,
        rows_NV: Tensor,
        indices_TK: Tensor,
        slots_TK: Tensor,
        weights_TK: Tensor,
        backend: str | None,
    ) -> Tensor:
        ctx.table, ctx.backend = table_NV, backend
        ctx.save_for_backward(rows_NV, indices_TK, slots_TK, weights_TK)
        sums_TV: Tensor = backends.bags(rows_NV, backend).embedding_bag(
            rows_NV,
            indices_TK.flatten(),
            bag_offsets(indices_TK),
            weights_TK.flatten(),
            max_bag_size=indices_TK.shape[1],
        )
        return sums_TV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TV: Tensor) -> tuple[Tensor | None, None, None, None, Tensor | None, None]:
        rows_NV, indices_TK, slots_TK, weights_TK = ctx.saved_tensors
        for_table = for_weights = None
        if ctx.needs_input_grad[4]:
            for_weights = (
                backends.bags(rows_NV, ctx.backend)
                .per_sample_weight_grad(rows_NV, indices_TK.flatten(), bag_offsets(indices_TK), gradient_TV)
                .view(slots_TK.shape)
            )
        if ctx.needs_input_grad[0]:
            for_table = route_gradient(ctx.table, slots_TK, weights_TK, gradient_TV, ctx.backend)
        return for_table, None, None, None, for_weights, None


_lookup: Callable[..., Tensor] = _Lookup.apply
