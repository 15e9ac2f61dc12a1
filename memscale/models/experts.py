"""SwiGLU experts over rows sorted by expert: one op with its own gradient, dropless and without padding.

An expert's rows are one slice, so its part is one matrix product per weight; everything else is done for all rows at
once. Plain autograd over the same products launches several times as many operators, and padding to the fullest expert
costs its imbalance in work. The products are torch's grouped_mm where it takes the tensors: on the CPU it takes 1 to
45 % less time than a product per expert (most with many narrow experts); on a GPU it is one kernel, and no row count
has to be waited for. It takes neither float64 nor widths whose rows are not multiples of 16 bytes; matched experts have
any width, so those run expert by expert.

Shape suffixes: A rows (token and expert pairs, sorted by expert), E experts, D model width, F hidden width, G = 2F.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROW_BYTES = 16
"""grouped_mm takes matrices whose rows are multiples of this many bytes."""
_GROUPED_TYPES = {"cpu": (torch.float32, torch.bfloat16, torch.float16), "cuda": (torch.bfloat16,)}
"""Types for which grouped_mm is used, by device type; on a GPU it has a kernel for one type only."""

_Groups = Tensor | list[int]
"""Where each expert's rows end (for grouped_mm), or how many rows each has."""


def run_experts(x_AD: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, load_E: Tensor) -> Tensor:
    """Return [A, D]: the first load_E[0] rows through expert 0, the next load_E[1] through expert 1, and so on.

    Args:
        x_AD: Rows sorted by expert.
        gate_up_EGD: First matrices [E, 2F, D], the gate's rows first.
        down_EDF: Second matrices [E, D, F]. All three are of one type.
        load_E: Rows of each expert, integers that sum to A.

    Returns:
        silu(x gate) * (x up), through down. Differentiable once.
    """
    return _experts(x_AD, gate_up_EGD, down_EDF, load_E)


def takes_grouped(rows: Tensor, *widths: int) -> bool:
    """Whether grouped_mm is used for matrices of these widths, of the type and on the device of `rows`.

    torch has it since 2.10.
    """
    kind = rows.device.type
    if not hasattr(F, "grouped_mm") or rows.dtype not in _GROUPED_TYPES.get(kind, ()):
        return False
    if kind == "cuda" and torch.cuda.get_device_capability(rows.device) < (8, 0):
        return False
    return all(width * rows.element_size() % _ROW_BYTES == 0 for width in widths)


def _groups(x_AD: Tensor, hidden: int, load_E: Tensor) -> _Groups:
    if takes_grouped(x_AD, x_AD.shape[1], hidden):
        return load_E.cumsum(0, dtype=torch.int32)
    loads: list[int] = load_E.tolist()
    return loads


def _products(rows_AX: Tensor, weights_EXY: Tensor, groups: _Groups) -> Tensor:
    """Return [A, Y]: each expert's rows times its matrix."""
    if isinstance(groups, Tensor):
        return F.grouped_mm(rows_AX, weights_EXY, offs=groups)
    return _products_in_turn(rows_AX, weights_EXY, groups)


def _weight_gradients(left_AX: Tensor, right_AY: Tensor, groups: _Groups) -> Tensor:
    """Return [E, X, Y]: for each expert the sum over its rows of left times right; zero for one without rows."""
    if not isinstance(groups, Tensor):
        return _weight_gradients_in_turn(left_AX, right_AY, groups)
    out_EXY = F.grouped_mm(left_AX.t(), right_AY, offs=groups)
    if out_EXY.device.type == "cuda":
        # Some GPUs' kernels leave the output uninitialised if an expert has no rows (pytorch/pytorch issue 172439).
        empty_E = groups.diff(prepend=groups.new_zeros(1)) == 0
        out_EXY.masked_fill_(empty_E[:, None, None], 0.0)
    return out_EXY


def _products_in_turn(rows_AX: Tensor, weights_EXY: Tensor, loads: list[int]) -> Tensor:
    out_AY = rows_AX.new_empty(rows_AX.shape[0], weights_EXY.shape[2])
    for rows, weights, out in zip(
        torch.split(rows_AX, loads), weights_EXY.unbind(), torch.split(out_AY, loads), strict=True
    ):
        torch.mm(rows, weights, out=out)
    return out_AY


def _weight_gradients_in_turn(left_AX: Tensor, right_AY: Tensor, loads: list[int]) -> Tensor:
    out_EXY = left_AX.new_empty(len(loads), left_AX.shape[1], right_AY.shape[1])
    for left, right, out in zip(
        torch.split(left_AX, loads), torch.split(right_AY, loads), out_EXY.unbind(), strict=True
    ):
        torch.mm(left.t(), right, out=out)
    return out_EXY


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, load_E: Tensor) -> Tensor:
        groups = _groups(x_AD, down_EDF.shape[2], load_E)
        both_AG = _products(x_AD, gate_up_EGD.mT, groups)
        gate_AF, up_AF = both_AG.chunk(2, dim=1)
        active_AF = F.silu(gate_AF)
        ctx.save_for_backward(x_AD, gate_up_EGD, down_EDF, both_AG, active_AF)
        ctx.groups = groups
        return _products(active_AF * up_AF, down_EDF.mT, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_AD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_AD, gate_up_EGD, down_EDF, both_AG, active_AF = ctx.saved_tensors
        gate_AF, up_AF = both_AG.chunk(2, dim=1)
        gradient_AD = gradient_AD.contiguous()
        for_down = _weight_gradients(gradient_AD, active_AF * up_AF, ctx.groups)
        for_hidden_AF = _products(gradient_AD, down_EDF, ctx.groups)
        for_both_AG = torch.empty_like(both_AG)
        for_gate_AF, for_up_AF = for_both_AG.chunk(2, dim=1)
        torch.ops.aten.silu_backward.grad_input(for_hidden_AF * up_AF, gate_AF, grad_input=for_gate_AF)
        torch.mul(for_hidden_AF, active_AF, out=for_up_AF)
        for_gate_up = _weight_gradients(for_both_AG, x_AD, ctx.groups)
        return _products(for_both_AG, gate_up_EGD, ctx.groups), for_gate_up, for_down, None


_experts: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _Experts.apply


def _grouped_flops(left_shape: torch.Size, right_shape: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of a grouped product: a multiply-add per row, input and output; all experts' rows together."""
    return 2 * left_shape[0] * left_shape[1] * right_shape[-1]


FLOP_FORMULAS: dict[Any, Callable[..., int]] = (
    {torch.ops.aten._grouped_mm: _grouped_flops} if hasattr(torch.ops.aten, "_grouped_mm") else {}
)
"""For `FlopCounterMode(custom_mapping=...)`, which would count an expert layer as nearly free: torch has no formula for
this product. (Registering it here would import Triton with every model.)"""
