"""The weighted sum of memory table rows per token, differentiable in table and weights.

The op is torch's `embedding_bag` in mode "sum" with `per_sample_weights`, except that the table's gradient is never
dense. If the table has a row optimizer, the gradient is routed to it in factored form (slots, weights and the tokens'
output gradients); otherwise it is a coalesced sparse tensor of the rows that were looked up.

Raises ConfigError for shapes and types that do not match, for an unknown back end, and for slots outside the table (on
the CPU only: on a GPU the check would have to wait for the device).

Shape suffixes: T tokens, K slots per token, V width of a row, N slots of the table.
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
    """Return [T, V]: for every token t the sum over k of weights_TK[t, k] * table_NV[slots_TK[t, k]].

    Args:
        table_NV: The table, floating point [N, V]; a `MemoryTable` or any tensor.
        slots_TK: Rows to look up, int64 [T, K]; repeats are allowed.
        weights_TK: Their weights [T, K]; cast to the table's type.
        backend: "torch", "numba" or "triton"; by default chosen by device and type (`memscale.kernels.backends`).

    Returns:
        The sums, of the table's type. Differentiable once in table and weights. With gradients enabled, a table that
        has a row optimizer is brought up to date in the rows that are looked up; under `torch.no_grad` nothing is
        changed.

    Raises:
        ConfigError: Shapes or types do not match, a slot lies outside the table, or the back end cannot run this type.

    Example:
        >>> table_NV = torch.arange(6.0).view(3, 2).requires_grad_()
        >>> slots_TK, weights_TK = torch.tensor([[0, 2]]), torch.tensor([[1.0, 0.5]])
        >>> out_TV = embedding_bag(table_NV, slots_TK, weights_TK)
        >>> out_TV.tolist()
        [[2.0, 3.5]]
        >>> out_TV.sum().backward()
        >>> table_NV.grad.to_dense().tolist()
        [[1.0, 1.0], [0.0, 0.0], [0.5, 0.5]]
    """
    if table_NV.ndim != 2 or slots_TK.ndim != 2 or slots_TK.shape != weights_TK.shape:
        raise ConfigError(
            f"embedding_bag needs a table [N, V] and slots and weights [T, K]; given were {list(table_NV.shape)}, "
            f"{list(slots_TK.shape)} and {list(weights_TK.shape)}"
        )
    check_slots("embedding_bag", table_NV, slots_TK)
    backends.choose_backend(table_NV, backend)
    rows_NV, indices_TK = gather_rows(table_NV, slots_TK, read_only=not torch.is_grad_enabled())
    return _embedding_bag(table_NV, rows_NV, indices_TK, slots_TK, weights_TK.to(table_NV.dtype), backend)


def check_slots(op: str, table_NV: Tensor, slots_TK: Tensor) -> None:
    """Raise ConfigError unless slots are int64 and, on the CPU, inside the table.

    Compiled code does not check its indices: a slot outside the table would read and write unrelated memory.
    """
    if slots_TK.dtype != torch.int64:
        raise ConfigError(f"{op} needs slots of type int64; given was {slots_TK.dtype}")
    if slots_TK.device.type == "cpu" and slots_TK.numel():
        lowest, highest = (int(slot) for slot in torch.aminmax(slots_TK))
        if lowest < 0 or highest >= len(table_NV):
            raise ConfigError(f"slots run from {lowest} to {highest}, but the table has {len(table_NV)} rows")


def bag_offsets(slots_TK: Tensor) -> Tensor:
    """Return int64 [T + 1]: where each token's slots begin in the flattened slots, and the end."""
    num_tokens, num_slots = slots_TK.shape
    if not num_slots:
        return torch.zeros(num_tokens + 1, dtype=torch.int64, device=slots_TK.device)
    return torch.arange(0, num_tokens * num_slots + 1, num_slots, device=slots_TK.device)


def route_gradient(
    table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor, x_TV: Tensor, backend: str | None
) -> Tensor | None:
    """Deliver the table's gradient, weights_TK[t, k] * x_TV[t] added to row slots_TK[t, k].

    With a row optimizer it is added to that optimizer's `RowGradient` and None is returned, so that autograd stores no
    gradient; without one it is returned as a coalesced sparse tensor [N, V].
    """
    row_optimizer = row_optimizer_of(table_NV)
    if row_optimizer is not None:
        row_optimizer.gradient.add(slots_TK, weights_TK, x_TV)
        return None
    gradient = RowGradient(len(table_NV), device=table_NV.device, backend=backend)
    gradient.add(slots_TK, weights_TK, x_TV)
    return gradient.to_sparse(table_NV.dtype)


class _EmbeddingBag(torch.autograd.Function):
    """The op over bags: a token's slots are its bag of rows.

    `table_NV` is an argument so that autograd asks for its gradient; the values are read from `rows_NV` at `indices_TK`
    (`gather_rows`), which are the table and the slots themselves unless rows had to be copied.
    """

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


_embedding_bag: Callable[..., Tensor] = _EmbeddingBag.apply
