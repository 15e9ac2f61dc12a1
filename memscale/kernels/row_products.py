"""The dot products of each token with the memory table rows it selects, differentiable in table and tokens.

The op is the transpose of `embedding_bag`, and shares its kernels. With w the gradient of the products:

- the products themselves are the gradient of `embedding_bag` in its weights (`per_sample_weight_grad`);
- the gradient in the tokens is `embedding_bag` with weights w;
- the gradient in the table is that of `embedding_bag` with weights w and output gradient x, and is routed likewise.

Raises ConfigError for shapes and types that do not match, for an unknown back end, and for slots outside the table (on
the CPU only).

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
from memscale.kernels.embedding_bag import bag_offsets, check_slots, route_gradient
from memscale.kernels.memory_table import gather_rows


def row_products(table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor, *, backend: str | None = None) -> Tensor:
    """Return [T, K]: for every token t and k the dot product of table_NV[slots_TK[t, k]] and x_TV[t].

    Args:
        table_NV: The table, floating point [N, V]; a `MemoryTable` or any tensor.
        slots_TK: Rows to look up, int64 [T, K]; repeats are allowed.
        x_TV: One vector per token [T, V]; cast to the table's type.
        backend: "torch", "numba" or "triton"; by default chosen by device and type.

    Returns:
        The products, of the table's type. Differentiable once in table and x.

    Raises:
        ConfigError: Shapes or types do not match, a slot lies outside the table, or the back end cannot run this type.

    Example:
        >>> table_NV = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> row_products(table_NV, torch.tensor([[2, 1]]), torch.tensor([[3.0, 4.0]])).tolist()
        [[7.0, 4.0]]
    """
    fits = table_NV.ndim == slots_TK.ndim == x_TV.ndim == 2 and x_TV.shape == (len(slots_TK), table_NV.shape[1])
    if not fits:
        raise ConfigError(
            f"row_products needs a table [N, V], slots [T, K] and x [T, V]; given were {list(table_NV.shape)}, "
            f"{list(slots_TK.shape)} and {list(x_TV.shape)}"
        )
    check_slots("row_products", table_NV, slots_TK)
    backends.choose_backend(table_NV, backend)
    rows_NV, indices_TK = gather_rows(table_NV, slots_TK, read_only=not torch.is_grad_enabled())
    return _products(table_NV, rows_NV, indices_TK, slots_TK, x_TV.to(table_NV.dtype), backend)


class _Products(torch.autograd.Function):
    """The op over bags: a token's slots are its bag of rows.

    As in `embedding_bag`, `table_NV` is an argument for its gradient and the values are read from `rows_NV`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        table_NV: Tensor,
        rows_NV: Tensor,
        indices_TK: Tensor,
        slots_TK: Tensor,
        x_TV: Tensor,
        backend: str | None,
    ) -> Tensor:
        ctx.table, ctx.backend = table_NV, backend
        ctx.save_for_backward(rows_NV, indices_TK, slots_TK, x_TV)
        products_A: Tensor = backends.bags(rows_NV, backend).per_sample_weight_grad(
            rows_NV, indices_TK.flatten(), bag_offsets(indices_TK), x_TV
        )
        return products_A.view(slots_TK.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TK: Tensor) -> tuple[Tensor | None, None, None, None, Tensor | None, None]:
        rows_NV, indices_TK, slots_TK, x_TV = ctx.saved_tensors
        for_table = for_x = None
        if ctx.needs_input_grad[4]:
            for_x = backends.bags(rows_NV, ctx.backend).embedding_bag(
                rows_NV,
                indices_TK.flatten(),
                bag_offsets(indices_TK),
                gradient_TK.flatten(),
                max_bag_size=indices_TK.shape[1],
            )
        if ctx.needs_input_grad[0]:
            for_table = route_gradient(ctx.table, slots_TK, gradient_TK, x_TV, ctx.backend)
        return for_table, None, None, None, for_x, None


_products: Callable[..., Tensor] = _Products.apply
