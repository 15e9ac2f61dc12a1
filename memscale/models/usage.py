"""How evenly slots or experts are used: weights accumulated during an evaluation, and statistics of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Usage:
    """Accumulates what each of `size` slots or experts got, in float64 on the device of the amounts.

    Statistics are NaN before anything was added.

    Example:
        >>> usage = Usage(4)
        >>> usage.add(torch.tensor([1.0, 1.0, 2.0, 0.0]))
        >>> usage.used_share, usage.max_share, usage.gini
        (0.75, 0.5, 0.375)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._total: Tensor | None = None

    def add(self, amount: Tensor) -> None:
        """Add [size] amounts: counts, or sums of softmax weights."""
        amount = amount.detach().double()
        self._total = amount if self._total is None else self._total + amount

    def add_at(self, positions: Tensor, amounts: Tensor) -> None:
        """Add an amount at each position; both of one shape."""
        self.add(torch.bincount(positions.flatten(), amounts.detach().flatten().double(), minlength=self._size))

    @property
    def used_share(self) -> float:
        """Share of the slots or experts that got anything."""
        return math.nan if self._total is None else float((self._total > 0).double().mean())

    @property
    def max_share(self) -> float:
        """The fullest one's share of the total; 1 / size if all are used equally."""
        return math.nan if self._total is None else float(self._total.max() / self._total.sum())

    @property
    def top_percent_share(self) -> float:
        """Share of the total that the fullest 1 % got: size // 100 of them, at least one."""
        if self._total is None:
            return math.nan
        return float(self._total.topk(max(1, self._size // 100)).values.sum() / self._total.sum())

    @property
    def gini(self) -> float:
        """Gini coefficient: 0 if all are used equally, 1 - 1 / size if one gets everything.

        It is half the relative mean difference, sum_ij |x_i - x_j| / (2 n sum_i x_i); with x sorted ascending and i
        from 1 that is sum_i (2 i - n - 1) x_i / (n sum_i x_i).
        """
        if self._total is None:
            return math.nan
        rising = self._total.sort().values
        ranks = torch.arange(1, self._size + 1, dtype=torch.float64, device=rising.device)
        return float(((2 * ranks - self._size - 1) * rising).sum() / (self._size * rising.sum()))

    @property
    def kl_from_uniform(self) -> float:
        """Kullback-Leibler divergence of the use p from uniform, ln n + sum_i p_i ln p_i, in nats; 0..ln n."""
        if self._total is None:
            return math.nan
        share = self._total / self._total.sum()
        return math.log(self._size) + float(torch.xlogy(share, share).sum())
