"""Many SwiGLU experts over rows sorted by expert: one op with a gradient of its own, dropless and without padding.

An expert's rows are one slice, so its share is one matrix product per weight; all else is done for all rows at once.
Plain autograd over the same products costs several times as many calls, and padding to the fullest expert costs its
imbalance in work. torch's grouped_mm is up to a quarter faster on the CPU, but refuses widths whose rows are not whole
multiples of 16 bytes, and matched experts have any width. Refuses nothing.

A rows (token and expert pairs, sorted by expert), E experts, D model width, F hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def run_experts(x_AD: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, loads: list[int]) -> Tensor:
    """Return [A, D]: rows 0..loads[0]-1 through expert 0, the next loads[1] through expert 1, and so on.

    `gate_up_EGD` is [E, 2F, D], gate first; `down_EDF` is [E, D, F]; sum(loads) = A. Differentiable once. All of one
    type, as under autocast after the caller's casts.
    """
    return _experts(x_AD, gate_up_EGD, down_EDF, loads)


def _products(rows_AX: Tensor, weights_EXY: Tensor, loads: list[int]) -> Tensor:
    """Return [A, Y]: each expert's rows times its matrix."""
    out_AY = rows_AX.new_empty(rows_AX.shape[0], weights_EXY.shape[2])
    for rows, weights, out in zip(
        torch.split(rows_AX, loads), weights_EXY.unbind(), torch.split(out_AY, loads), strict=True
    ):
        torch.mm(rows, weights, out=out)
    return out_AY


def _weight_gradients(left_AX: Tensor, right_AY: Tensor, loads: list[int]) -> Tensor:
    """Return [E, X, Y]: for each expert the sum over its rows of left times right; zero for one without rows."""
    out_EXY = left_AX.new_empty(len(loads), left_AX.shape[1], right_AY.shape[1])
    for left, right, out in zip(
        torch.split(left_AX, loads), torch.split(right_AY, loads), out_EXY.unbind(), strict=True
    ):
        torch.mm(left.t(), right, out=out)
    return out_EXY


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, loads: list[int]) -> Tensor:
        both_AG = _products(x_AD, gate_up_EGD.mT, loads)
        gate_AF, up_AF = both_AG.chunk(2, dim=1)
        active_AF = F.silu(gate_AF)
        ctx.save_for_backward(x_AD, gate_up_EGD, down_EDF, both_AG, active_AF)
        ctx.loads = loads
        return _products(active_AF * up_AF, down_EDF.mT, loads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_AD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_AD, gate_up_EGD, down_EDF, both_AG, active_AF = ctx.saved_tensors
        gate_AF, up_AF = both_AG.chunk(2, dim=1)
        gradient_AD = gradient_AD.contiguous()
        for_down = _weight_gradients(gradient_AD, active_AF * up_AF, ctx.loads)
        for_hidden_AF = _products(gradient_AD, down_EDF, ctx.loads)
        for_both_AG = torch.empty_like(both_AG)
        for_gate_AF, for_up_AF = for_both_AG.chunk(2, dim=1)
        torch.ops.aten.silu_backward.grad_input(for_hidden_AF * up_AF, gate_AF, grad_input=for_gate_AF)
        torch.mul(for_hidden_AF, active_AF, out=for_up_AF)
        for_gate_up = _weight_gradients(for_both_AG, x_AD, ctx.loads)
        return _products(for_both_AG, gate_up_EGD, ctx.loads), for_gate_up, for_down, None


_experts: Callable[[Tensor, Tensor, Tensor, list[int]], Tensor] = _Experts.apply
