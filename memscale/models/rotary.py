"""Rotary position embedding (Su et al. 2021): pairs of values are rotated by an angle proportional to position.

Values 2i and 2i + 1 at position p are rotated by p * theta**(-2i / W) (the pairing of the paper). Angles are computed
in float64, so that far positions are exact; the rotation itself in float32 (float64 for float64 values).

Shape suffixes: B batch, S positions, H heads, W width of a head, P = W / 2 pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memscale.models.precision import promoted


class Rotary:
    """The rotations of all positions so far; constants, so neither parameters nor buffers of the model."""

    def __init__(self, head_width: int, theta: float) -> None:
        self._head_width, self._theta = head_width, theta
        self._rotations: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def rotations(self, num_positions: int, like: Tensor) -> Tensor:
        """Return complex [num_positions, 1, P]: what the pairs of each position of `like` are multiplied by."""
        dtype = torch.complex128 if like.dtype == torch.float64 else torch.complex64
        known = self._rotations.get((like.device, dtype))
        if known is None or len(known) < num_positions:
            pairs = torch.arange(0, self._head_width, 2, dtype=torch.float64)
            speeds = self._theta ** (-pairs / self._head_width)
            angles = torch.outer(torch.arange(num_positions, dtype=torch.float64), speeds)
            known = torch.polar(torch.ones_like(angles), angles).to(dtype)[:, None].to(like.device)
            self._rotations[like.device, dtype] = known
        return known[:num_positions]


def rotate(values_BSHW: Tensor, rotations: Tensor) -> Tensor:
    """Return `values_BSHW` rotated, in their own type; `rotations` is [S, 1, P], or [B, S, 1, P] per sequence."""
    pairs_BSHP = torch.view_as_complex(promoted(values_BSHW).view(*values_BSHW.shape[:-1], -1, 2))
    return torch.view_as_real(pairs_BSHP * rotations).flatten(-2).to(values_BSHW.dtype)
