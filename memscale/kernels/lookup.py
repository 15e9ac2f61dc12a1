"""The weighted sum of table rows, with its gradients, by the back end that suits the device.

`torch` is the reference and runs anywhere; `numba` runs float32 on the CPU. No back end makes a tensor [T, K, V].
The table's gradient is dense. Refuses slots outside the table, shapes and types that do not fit, and an unknown back
end.

T tokens, K slots read per token, V width of a row, N slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from memscale.errors import ConfigError, nearest

BACKENDS = ("torch", "numba")


def lookup(table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor, *, backend: str | None = None) -> Tensor:
    """Return [T, V]: for every token the sum over k of weights_TK[t, k] * table_NV[slots_TK[t, k]].

    `slots_TK` is int64. The result has the table's type; weights are brought to it. Differentiable once in table and
    weights. `backend` overrides the choice by device. Raises ConfigError.
    """
    _check(table_NV, slots_TK, weights_TK)
    weights_TK = weights_TK.to(table_NV.dtype)
    if choose_backend(table_NV, backend) == "numba":
        return _numba_lookup(table_NV, slots_TK, weights_TK)
    return F.embedding_bag(slots_TK, table_NV, per_sample_weights=weights_TK, mode="sum")


def choose_backend(like: Tensor, backend: str | None = None) -> str:
    """Return the back end for tensors such as `like`: the one asked for where it can run, else by device and type."""
    compiled = like.device.type == "cpu" and like.dtype == torch.float32
    if backend is None:
        return "numba" if compiled else "torch"
    if backend not in BACKENDS:
        raise ConfigError(f"backend is '{backend}'; valid: {', '.join(BACKENDS)}.{nearest(backend, BACKENDS)}")
    if backend == "numba" and not compiled:
        raise ConfigError(f"the numba back end runs float32 on the CPU, not {like.dtype} on {like.device}; use torch")
    return backend


def check_inside(table_NV: Tensor, slots: Tensor) -> None:
    """Raise ConfigError where a slot is none of the table's: compiled code would read and write anywhere."""
    if slots.numel():
        lowest, highest = (int(slot) for slot in torch.aminmax(slots))
        if lowest < 0 or highest >= len(table_NV):
            raise ConfigError(f"slots run from {lowest} to {highest}, but the table has {len(table_NV)} rows")


def _check(table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor) -> None:
    if table_NV.ndim != 2 or slots_TK.ndim != 2 or slots_TK.shape != weights_TK.shape:
        raise ConfigError(
            f"lookup needs a table [N, V] and slots and weights [T, K]; given were {list(table_NV.shape)}, "
            f"{list(slots_TK.shape)} and {list(weights_TK.shape)}"
        )
    if slots_TK.dtype != torch.int64:
        raise ConfigError(f"lookup needs slots of type int64; given was {slots_TK.dtype}")


class _NumbaLookup(torch.autograd.Function):
    """The op on CPU arrays."""

    @staticmethod
    def forward(ctx: Any, table_NV: Tensor, slots_TK: Tensor, weights_TK: Tensor) -> Tensor:
        from memscale.kernels import lookup_numba  # importing Numba takes half a second: only where it is used

        check_inside(table_NV, slots_TK)
        table_NV, slots_TK, weights_TK = table_NV.contiguous(), slots_TK.contiguous(), weights_TK.contiguous()
        ctx.save_for_backward(table_NV, slots_TK, weights_TK)
        sums_TV = lookup_numba.weighted_sum(table_NV.detach().numpy(), slots_TK.numpy(), weights_TK.detach().numpy())
        return torch.from_numpy(sums_TV)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TV: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        from memscale.kernels import lookup_numba

        table_NV, slots_TK, weights_TK = (saved.detach().numpy() for saved in ctx.saved_tensors)
        gradient = gradient_TV.contiguous().numpy()
        for_table = for_weights = None
        if ctx.needs_input_grad[0]:
            for_table = torch.from_numpy(lookup_numba.table_gradient(len(table_NV), slots_TK, weights_TK, gradient))
        if ctx.needs_input_grad[2]:
            for_weights = torch.from_numpy(lookup_numba.weights_gradient(table_NV, slots_TK, gradient))
        return for_table, None, for_weights


_numba_lookup: Callable[[Tensor, Tensor, Tensor], Tensor] = _NumbaLookup.apply
