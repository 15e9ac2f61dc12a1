"""Muon: momentum whose singular values are all set to about one, for the matrices of the blocks (Jordan et al. 2024).

For a matrix w with gradient g, momentum m and mu = .95:

1. m <- mu m + (1 - mu) g, and u = (1 - mu) g + mu m (Nesterov). Jordan's m is this one divided by 1 - mu; only its
   direction matters.
2. o is u with its singular values mapped to about one (`orthogonalised`).
3. w <- (1 - lr wd) w - lr .2 sqrt(max(rows, columns)) o (Liu et al. 2025, arXiv 2502.16982, section 2.2). An orthogonal
   o has a root mean square of 1 / sqrt(max(rows, columns)), so a step's is .2 lr, about AdamW's: one learning rate and
   one weight decay serve these matrices and what AdamW optimises beside them. (Jordan's own factor, sqrt(max(1, rows /
   columns)), needs a rate of its own.)

Which parameters these are, and why not the others: `memscale.planning.matrices`. A parameter that holds several
matrices one above the other is taken apart: queries, keys and values, gate and up, an n-gram memory's keys and values,
and each expert's; and one that holds them side by side: the projections of a memory's virtual tables (`expansion`). The
state is one moment, against two of AdamW. An expert that no token chose keeps going in the direction of its momentum,
at full size.

torch.optim.Muon (2.13) takes no tensors of experts, computes in bfloat16 on CPUs too, works matrix by matrix, and costs
every worker the import of the compiler (see `memscale.training.optimizers`). A test holds this one to it.

Shape suffixes: N matrices of one shape, R rows, C columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memscale.config.architecture import Architecture
from memscale.planning.matrices import NEWTON_SCHULZ_STEPS

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial (Jordan 2024): steep at zero, so that five steps bring singular values from .01 of the
largest and up to between .7 and 1.2. More steps do not bring them nearer to one."""
UPDATE_RMS = 0.2
_EPS = 1e-7
"""Least Frobenius norm that a momentum is divided by: that of an expert without gradients stays zero."""
_AT_ONCE = 1 << 24
"""Values orthogonalised at a time, so that little more than the momentum is held besides the weights."""


@dataclass(frozen=True, kw_only=True)
class MuonGroup:
    """Matrices with one peak learning rate and one weight decay, and the momentum of each."""

    parameters: dict[str, nn.Parameter]
    peak_rate: float
    weight_decay: float
    heights: Mapping[str, tuple[int, ...]]
    """Rows of each of the matrices that a parameter holds one above the other (`heights`)."""
    side_by_side: Mapping[str, int] = field(default_factory=dict)
    """Matrices that a parameter holds side by side (`side_by_side`); one where it is not named."""
    momenta: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "momenta", [torch.zeros_like(parameter) for parameter in self.parameters.values()])

    def state(self) -> dict[str, Tensor]:
        """Return the momenta by `momenta.<parameter name>`: the tensors themselves, not copies."""
        return {f"momenta.{name}": momentum for name, momentum in zip(self.parameters, self.momenta, strict=True)}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Take one step at `lr_factor` of the peak rate; every parameter needs a gradient."""
        rate = self.peak_rate * lr_factor
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "a matrix is not used by the model"
        torch._foreach_lerp_(self.momenta, gradients, 1 - MOMENTUM)
        weights: list[Tensor] = list(self.parameters.values())
        if self.weight_decay > 0:
            torch._foreach_mul_(weights, 1 - rate * self.weight_decay)
        for (rows, columns), group in self._of_one_shape(weights, gradients):
            update_NRC = torch.stack([torch.lerp(gradient, momentum, MOMENTUM) for _, gradient, momentum in group])
            moves = orthogonalised(update_NRC).to(weights[0].dtype).unbind()
            scale = UPDATE_RMS * math.sqrt(max(rows, columns))
            torch._foreach_add_([weight for weight, _, _ in group], moves, alpha=-rate * scale)

    def _of_one_shape(
        self, weights: list[Tensor], gradients: list[Tensor]
    ) -> Iterator[tuple[tuple[int, int], list[tuple[Tensor, Tensor, Tensor]]]]:
        """Yield shapes [R, C], each with matrices of it: views of weight, gradient and momentum, never too many."""
        found: dict[tuple[int, int], list[tuple[Tensor, Tensor, Tensor]]] = {}
        for name, *tensors in zip(self.parameters, weights, gradients, self.momenta, strict=True):
            shape = self.heights[name], self.side_by_side.get(name, 1)
            for views in zip(*(_matrices(tensor, *shape) for tensor in tensors), strict=True):
                weight, gradient, momentum = views
                found.setdefault((weight.shape[0], weight.shape[1]), []).append((weight, gradient, momentum))
        for (rows, columns), matrices in found.items():
            at_once = max(1, _AT_ONCE // (rows * columns))
            for start in range(0, len(matrices), at_once):
                yield (rows, columns), matrices[start : start + at_once]


def orthogonalised(update_NRC: Tensor) -> Tensor:
    """Return matrices with the singular vectors of these, and singular values of about one: between .7 and 1.2.

    Newton and Schulz's iteration with Jordan's coefficients (a, b, c): x <- a x + (b s + c s s) x with s = x x^T, five
    times from x = u / |u|, where |u| is the Frobenius norm; singular values s go to a s + b s^3 + c s^5. Those below
    about .003 of |u| stay below .7, and zero stays zero. On a GPU in bfloat16, as published; elsewhere in the type of
    the matrices.

    Example:
        >>> orthogonalised(torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])).shape
        torch.Size([1, 2, 2])
    """
    tall = update_NRC.shape[-2] > update_NRC.shape[-1]
    x_NRC = update_NRC.mT if tall else update_NRC
    x_NRC = x_NRC / torch.linalg.matrix_norm(x_NRC, keepdim=True).clamp(min=_EPS)
    if x_NRC.device.type == "cuda":
        x_NRC = x_NRC.bfloat16()
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        s_NRR = x_NRC @ x_NRC.mT
        polynomial_NRR = torch.baddbmm(s_NRR, s_NRR, s_NRR, beta=b, alpha=c)
        x_NRC = torch.baddbmm(x_NRC, polynomial_NRR, x_NRC, beta=a)
    return x_NRC.mT if tall else x_NRC


def heights(name: str, parameter: Tensor, architecture: Architecture) -> tuple[int, ...]:
    """Return the rows of each of the matrices that the parameter `name` of a Transformer holds one above the other."""
    a = architecture
    if name.endswith("attention.qkv.weight"):
        return a.num_heads * a.head_width, a.num_kv_heads * a.head_width, a.num_kv_heads * a.head_width
    rows = parameter.shape[-2]
    if name.endswith(("gate_up", "gate_up.weight", "ngram.key_value.weight")):
        return rows // 2, rows // 2
    return (rows,)


def side_by_side(name: str, architecture: Architecture) -> int:
    """Return how many matrices of equal width the parameter `name` holds side by side: one for each virtual table."""
    memory = architecture.memory
    found = re.fullmatch(r"blocks\.(\d+)\.(slot|beside)\.out\.weight", name)
    return memory.num_virtual_tables if found is not None and memory is not None else 1


def _matrices(tensor: Tensor, rows: tuple[int, ...], side_by_side: int) -> Iterator[Tensor]:
    """Yield views of the matrices in a tensor [R, C] or, of experts, [E, R, C]."""
    whole = tensor if tensor.ndim == 3 else tensor[None]
    for part in torch.split(whole, list(rows), dim=1):
        for column in part.chunk(side_by_side, dim=2):
            yield from column.unbind()
