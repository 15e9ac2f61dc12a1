"""Batch normalisation over tokens that several processes hold, each a part (Ioffe and Szegedy 2015).

Mean and variance are those of all tokens, and so is the gradient: with y = (x - mean) / sigma, and means over all
tokens, dx = (dy - mean(dy) - y mean(dy y)) / sigma. Sums over the processes: two in the forward pass (the variance is
that of centred values, so that nothing cancels), one in the backward pass. A single process has the same from torch's
own batch norm.

Shape suffixes: T tokens of this process, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SumOver = Callable[[Sequence[Tensor]], None]
"""Replaces tensors by their sums over all processes; every process calls it at the same points."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and biased variance of each channel over the tokens of all processes, and how many tokens these are."""

    mean_C: Tensor  # noqa: N815
    variance_C: Tensor  # noqa: N815
    num_tokens: Tensor

    @property
    def unbiased_variance_C(self) -> Tensor:  # noqa: N802
        """The variance that a sample of so many tokens estimates, as running statistics hold it."""
        return self.variance_C * (self.num_tokens / (self.num_tokens - 1))


@torch.no_grad()
def moments(x_TC: Tensor, sum_over: SumOver) -> Moments:
    """Return the moments over all processes, of which this one holds x_TC."""
    sums = torch.cat((x_TC.sum(dim=0), x_TC.new_tensor([len(x_TC)])))
    sum_over([sums])
    num_tokens = sums[-1]
    mean_C = sums[:-1] / num_tokens
    squares_C = (x_TC - mean_C).square().sum(dim=0)
    sum_over([squares_C])
    return Moments(mean_C=mean_C, variance_C=squares_C / num_tokens, num_tokens=num_tokens)


def normalised(x_TC: Tensor, found: Moments, eps: float, sum_over: SumOver) -> Tensor:
    """Return [T, C] with mean zero and variance one over all processes; differentiable once, through the moments too.

    The gradients handed in are those of one loss, of which every process holds a term.
    """
    return _normalised(x_TC, found, eps, sum_over)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TC: Tensor, found: Moments, eps: float, sum_over: SumOver) -> Tensor:
        inverse_C = (found.variance_C + eps).rsqrt()
        y_TC = (x_TC - found.mean_C) * inverse_C
        ctx.save_for_backward(y_TC, inverse_C, found.num_tokens)
        ctx.sum_over = sum_over
        return y_TC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TC: Tensor) -> tuple[Tensor, None, None, None]:
        y_TC, inverse_C, num_tokens = ctx.saved_tensors
        sums_2C = torch.stack((gradient_TC.sum(dim=0), (gradient_TC * y_TC).sum(dim=0)))
        ctx.sum_over([sums_2C])
        mean_C, along_C = sums_2C / num_tokens
        return (gradient_TC - mean_C - y_TC * along_C) * inverse_C, None, None, None


_normalised: Callable[[Tensor, Moments, float, SumOver], Tensor] = _Normalised.apply
