"""How evenly slots or experts are used: weights added up while a model is measured, and what they say."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Usage:
    """Adds up what each of `size` slots or experts got. Kept in float64 where the work is done."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._total: Tensor | None = None

    def add(self, amount: Tensor) -> None:
        """Add [size] amounts (counts, or sums of softmax weights)."""
        amount = amount.detach().double()
        self._total = amount if self._total is None else self._total + amount

    def add_at(self, positions: Tensor, amounts: Tensor) -> None:
        """Add an amount at each position; both of one shape."""
        self.add(torch.bincount(positions.flatten(), amounts.detach().flatten().double(), minlength=self._size))

    @property
    def used_share(self) -> float:
        """Share that got anything at all; NaN before anything was added."""
        return math.nan if self._total is None else float((self._total > 0).double().mean())

    @property
    def max_share(self) -> float:
        """The fullest one's share of everything; 1 / size when all are used alike."""
        return math.nan if self._total is None else float(self._total.max() / self._total.sum())

    @property
    def kl_from_uniform(self) -> float:
        """Kullback-Leibler divergence of the use from uniform, in nats: 0 even, ln(size) all in one."""
        if self._total is None:
            return math.nan
        share = self._total / self._total.sum()
        return math.log(self._size) + float(torch.xlogy(share, share).sum())
