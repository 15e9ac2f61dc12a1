"""One op: each token's products with the table rows it selects, with their gradients, by the back end of the device.

It is the lookup turned round. With w the gradient of the products, the lookup of w gives the tokens' gradient, and the
lookup's own gradient in the table, for x, gives the table's; the products themselves are the lookup's gradient in its
weights. So both back ends run the lookup's kernels, and neither makes a tensor [T, K, V].
Refuses slots outside the table (on the CPU; a GPU would have to be waited for), shapes and types that do not fit, and
an unknown back end.

T tokens, K slots per token, V width of a row, N slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memscale.errors import ConfigError
from memscale.kernels.lookup import check_inside, choose_backend

_SUM = 0
"""embedding_bag's mode, as its operators number it."""


def row_products(table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor, *, backend: str | None = None) -> Tensor:
    """Return [T, K]: for every token t and k the scalar product of table_NV[slots_TK[t, k]] and x_TV[t].

    `slots_TK` is int64. The result has the table's type; x is brought to it. Differentiable once in table and x.
    `backend` as in `memscale.kernels.lookup`. Raises ConfigError.
    """
    _check(table_NV, slots_TK, x_TV)
    x_TV = x_TV.to(table_NV.dtype)
    if choose_backend(table_NV, backend) == "numba":
        return _numba_products(table_NV, slots_TK, x_TV)
    return _torch_products(table_NV, slots_TK, x_TV)


def _check(table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor) -> None:
    fits = table_NV.ndim == slots_TK.ndim == x_TV.ndim == 2 and x_TV.shape == (len(slots_TK), table_NV.shape[1])
    if not fits:
        raise ConfigError(
            f"row_products needs a table [N, V], slots [T, K] and x [T, V]; given were {list(table_NV.shape)}, "
            f"{list(slots_TK.shape)} and {list(x_TV.shape)}"
        )
    if slots_TK.dtype != torch.int64:
        raise ConfigError(f"row_products needs slots of type int64; given was {slots_TK.dtype}")
    if slots_TK.device.type == "cpu":
        check_inside(table_NV, slots_TK)


class _TorchProducts(torch.autograd.Function):
    """The op through embedding_bag's operators, on any device."""

    @staticmethod
    def forward(ctx: Any, table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor) -> Tensor:
        ctx.save_for_backward(table_NV, slots_TK, x_TV)
        tokens_A = torch.arange(len(slots_TK), device=slots_TK.device).repeat_interleave(slots_TK.shape[1])
        products_A: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            x_TV.contiguous(), table_NV.contiguous(), slots_TK.flatten(), _offsets(slots_TK), tokens_A, _SUM
        )
        return products_A.view(slots_TK.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TK: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table_NV, slots_TK, x_TV = ctx.saved_tensors
        slots_A, offsets_T, weights_A = slots_TK.flatten(), _offsets(slots_TK), gradient_TK.flatten()
        for_x, *bags = torch.ops.aten._embedding_bag(
            table_NV, slots_A, offsets_T, mode=_SUM, per_sample_weights=weights_A
        )
        for_table = None
        if ctx.needs_input_grad[0]:
            for_table = torch.ops.aten._embedding_bag_backward(
                x_TV.contiguous(), slots_A, offsets_T, *bags, len(table_NV), False, _SUM, False, weights_A
            )
        return for_table, None, for_x


def _offsets(slots_TK: Tensor) -> Tensor:
    """Return int64 [T]: where each token's slots begin among all."""
    num_tokens, num_slots = slots_TK.shape
    return torch.arange(num_tokens, device=slots_TK.device) * num_slots


class _NumbaProducts(torch.autograd.Function):
    """The op on CPU arrays."""

    @staticmethod
    def forward(ctx: Any, table_NV: Tensor, slots_TK: Tensor, x_TV: Tensor) -> Tensor:
        from memscale.kernels import lookup_numba  # importing Numba takes half a second: only where it is used

        table_NV, slots_TK, x_TV = table_NV.contiguous(), slots_TK.contiguous(), x_TV.contiguous()
        ctx.save_for_backward(table_NV, slots_TK, x_TV)
        products_TK = lookup_numba.weights_gradient(table_NV.detach().numpy(), slots_TK.numpy(), x_TV.detach().numpy())
        return torch.from_numpy(products_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TK: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        from memscale.kernels import lookup_numba

        table_NV, slots_TK, x_TV = (saved.detach().numpy() for saved in ctx.saved_tensors)
        gradient = gradient_TK.contiguous().numpy()
        for_table = for_x = None
        if ctx.needs_input_grad[0]:
            for_table = torch.from_numpy(lookup_numba.table_gradient(len(table_NV), slots_TK, gradient, x_TV))
        if ctx.needs_input_grad[2]:
            for_x = torch.from_numpy(lookup_numba.weighted_sum(table_NV, slots_TK, gradient))
        return for_table, None, for_x


_torch_products: Callable[[Tensor, Tensor, Tensor], Tensor] = _TorchProducts.apply
_numba_products: Callable[[Tensor, Tensor, Tensor], Tensor] = _NumbaProducts.apply
