"""The gradient of a memory table in factored form: slots, weights and token gradients instead of rows.

A lookup of slot n by token t with weight w adds w * x_t to row n of the gradient, where x_t is the gradient of the
token's output. What is stored are the slots, the weights and the x_t of every layer and micro-batch: a few megabytes,
where the rows looked up are hundreds and the table gigabytes. The optimizer sums a row's lookups while it updates the
row. If the factored form would take more memory than the table itself, it is replaced by the summed rows at once.

Shape suffixes: T tokens, K slots per token, A lookups (T x K over all parts), U distinct rows, V width of a row, N
slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memscale.kernels import backends

_FEW_LOOKUPS = 2
"""Lookups per distinct row up to which summing them twice is cheaper than storing the sums."""


@dataclass(frozen=True)
class GroupedLookups:
    """Lookups grouped by the row they read.

    Row u of the gradient is the sum over a in starts_U1[u]..starts_U1[u + 1] of weights_A[a] * x_TV[tokens_A[a]].

    All tensors are on one device; `weights_A` and `x_TV` are float32 or wider.
    """

    rows_U: Tensor  # noqa: N815
    """int64, rising."""
    starts_U1: Tensor  # noqa: N815
    """int64."""
    tokens_A: Tensor  # noqa: N815
    """int64."""
    weights_A: Tensor  # noqa: N815
    x_TV: Tensor  # noqa: N815

    def sums(self, backend: str | None) -> Tensor:
        """Return [U, V]: the rows of the gradient."""
        kernels = backends.bags(self.x_TV, backend)
        sums_UV: Tensor = kernels.embedding_bag(self.x_TV, self.tokens_A, self.starts_U1, self.weights_A)
        return sums_UV


@dataclass(frozen=True)
class _Part:
    """The lookups of one layer and micro-batch, ungrouped."""

    slots_TK: Tensor  # noqa: N815
    weights_TK: Tensor  # noqa: N815
    x_TV: Tensor  # noqa: N815


class RowGradient:
    """The gradient of a table of `num_slots` rows since it was last cleared.

    Sums are taken in the order in which parts were added, so equal histories give equal bits.

    Args:
        num_slots: Rows of the table.
        device: Where the gradient is used, and therefore stored; by default where it comes from.
        backend: "torch", "numba" or "triton"; by default chosen by device and type.

    Example:
        >>> gradient = RowGradient(4)
        >>> gradient.add(torch.tensor([[0, 3]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 10.0]]))
        >>> gradient.add(torch.tensor([[3]]), torch.tensor([[1.0]]), torch.tensor([[0.5, 0.5]]))
        >>> gradient.to_dense().tolist()
        [[1.0, 10.0], [0.0, 0.0], [0.0, 0.0], [2.5, 20.5]]
        >>> gradient.squared_norm().item()
        527.5
    """

    def __init__(self, num_slots: int, *, device: torch.device | None = None, backend: str | None = None) -> None:
        """Start with a gradient of zero."""
        self._num_slots, self._device, self._backend = num_slots, device, backend
        self._parts: list[_Part] = []
        self._num_bytes = 0
        self._lookups: GroupedLookups | None = None
        self.scale: Tensor | float = 1.0
        """Factor on the whole gradient, from clipping; a number or a scalar tensor."""

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, slots_TK: Tensor, weights_TK: Tensor, x_TV: Tensor) -> None:
        """Add weights_TK[t, k] * x_TV[t] to row slots_TK[t, k] for every t and k.

        Args:
            slots_TK: int64; not checked against the table.
            weights_TK: Any floating-point type; stored as float32 or wider.
            x_TV: Token gradients, stored likewise. The tensors are kept, not copied, unless their type or device
                differs.
        """
        assert not isinstance(self.scale, Tensor), "a gradient was added to after it was clipped"
        assert self.scale == 1.0, "a gradient was added to after it was scaled"
        kind = torch.promote_types(x_TV.dtype, torch.float32)  # sums of many small terms
        device = self._device or x_TV.device
        slots_TK = slots_TK.to(device)
        weights_TK, x_TV = weights_TK.detach().to(device, kind), x_TV.detach().to(device, kind)
        self._lookups = None
        self._parts.append(_Part(slots_TK, weights_TK, x_TV))
        self._num_bytes += slots_TK.nbytes + weights_TK.nbytes + x_TV.nbytes
        if len(self._parts) > 1 and self._num_bytes > self._num_slots * x_TV.shape[1] * x_TV.element_size():
            self._coalesce()

    def clear(self) -> None:
        """Reset to zero, and the scale to one."""
        self._parts, self._num_bytes, self._lookups, self.scale = [], 0, None, 1.0

    def lookups(self) -> GroupedLookups | None:
        """Return all lookups grouped by row, without `scale`; None if there are none."""
        if self._lookups is None and self._parts:
            self._lookups = self._group()
        return self._lookups

    def tensors(self) -> list[Tensor]:
        """Return the stored slots, weights and token gradients of every part."""
        return [tensor for part in self._parts for tensor in (part.slots_TK, part.weights_TK, part.x_TV)]

    def coalesce(self) -> tuple[Tensor, Tensor]:
        """Sum the lookups of every row, and return the rows, rising int64 [U], and their sums [U, V], without `scale`.

        The gradient must not be empty.
        """
        lookups = self._coalesce()
        return lookups.rows_U, lookups.x_TV

    def squared_norm(self) -> Tensor:
        """Return the sum of squares of the gradient without `scale`, a float64 scalar on the table's device."""
        lookups = self.lookups()
        if lookups is None:
            return torch.zeros((), dtype=torch.float64, device=self._device)
        kernels = backends.bags(lookups.x_TV, self._backend)
        if len(lookups.tokens_A) > _FEW_LOOKUPS * len(lookups.rows_U):
            norm: Tensor = kernels.squared_norm(self._coalesce().x_TV)
        else:
            norm = kernels.bag_squared_norm(lookups.x_TV, lookups.tokens_A, lookups.starts_U1, lookups.weights_A)
        return norm

    def to_sparse(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the gradient as a coalesced sparse tensor [N, V], including `scale`.

        The gradient must not be empty. `dtype` defaults to the type of the sums.
        """
        lookups = self.lookups()
        assert lookups is not None, "the gradient is empty: its width is not known"
        shape = (self._num_slots, lookups.x_TV.shape[1])
        values_UV = (lookups.sums(self._backend) * self.scale).to(dtype or lookups.x_TV.dtype)
        return torch.sparse_coo_tensor(
            lookups.rows_U[None], values_UV, shape, is_coalesced=True, check_invariants=False
        )

    def to_dense(self) -> Tensor:
        """Return [N, V], including `scale`; the gradient must not be empty."""
        return self.to_sparse().to_dense()

    def _group(self) -> GroupedLookups:
        """Group the lookups of all parts by row."""
        parts = self._parts
        kernels = backends.bags(parts[0].x_TV, self._backend)
        slots, weights = [part.slots_TK for part in parts], [part.weights_TK for part in parts]
        rows_U, starts_U1, tokens_A, weights_A = kernels.group_lookups(slots, weights, self._num_slots)
        return GroupedLookups(rows_U, starts_U1, tokens_A, weights_A, self._stacked())

    def _stacked(self) -> Tensor:
        parts = [part.x_TV for part in self._parts]
        return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)

    def _coalesce(self) -> GroupedLookups:
        """Replace all parts by one that holds the summed rows, each looked up once by a token of its own."""
        lookups = self.lookups()
        assert lookups is not None
        sums_UV = lookups.sums(self._backend)
        num_rows = len(lookups.rows_U)
        ones_U = torch.ones(num_rows, dtype=sums_UV.dtype, device=sums_UV.device)
        self._parts = [_Part(lookups.rows_U[:, None], ones_U[:, None], sums_UV)]
        self._num_bytes = sums_UV.nbytes
        tokens_U1 = torch.arange(num_rows + 1, device=sums_UV.device)
        self._lookups = GroupedLookups(lookups.rows_U, tokens_U1, tokens_U1[:-1], ones_U, sums_UV)
        return self._lookups
