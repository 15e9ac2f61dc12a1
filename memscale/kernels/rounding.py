"""Stochastic rounding to bfloat16: up or down, with probabilities that make the mean exact.

bfloat16 keeps 8 significant bits, so rounding to nearest loses every update below 1/512 of a weight; at usual learning
rates that is most of them. The random bits are a hash of step, row and column: the same on every device, for any order
of the rows, and when a step is repeated, so that a resumed run rounds alike.

Shape suffixes: U rows, V width of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_HALF = 0xFFFF
_MIXERS = (0x85EBCA6B, 0xC2B2AE35)
"""The multipliers of MurmurHash3's 32-bit finaliser (Appleby 2011)."""


def to_bfloat16(values_UV: Tensor, rows_U: Tensor, step: int) -> Tensor:
    """Return float32 `values_UV` of the table rows `rows_U` as bfloat16, rounded with the random bits of `step`.

    Infinities and NaN are cast as they are.
    """
    bits_UV = values_UV.view(torch.int32).long()
    noise_UV = random_bits(rows_U, values_UV.shape[1], step) & _HALF
    rounded_UV = ((bits_UV + noise_UV) & ~_HALF).int().view(torch.float32)
    return torch.where(values_UV.isfinite(), rounded_UV, values_UV).bfloat16()


def random_bits(rows_U: Tensor, width: int, step: int) -> Tensor:
    """Return int64 [U, V] holding 32 random bits each, for the elements (row, column) of `rows_U` and `width` columns.

    The bits are hash(hash(hash(step) ^ row) ^ column) with MurmurHash3's 32-bit finaliser; a row number above 32 bits
    is mixed in by its two halves, the upper first.
    """
    seed_U = _mixed(_mixed(torch.full_like(rows_U, step)) ^ (rows_U >> 32))
    columns_V = torch.arange(width, device=rows_U.device)
    return _mixed(_mixed(seed_U ^ (rows_U & _WORD))[:, None] ^ columns_V)


def _mixed(x: Tensor) -> Tensor:
    for shift, mixer in ((16, _MIXERS[0]), (13, _MIXERS[1])):
        x = ((x ^ (x >> shift)) * mixer) & _WORD
    return x ^ (x >> 16)
