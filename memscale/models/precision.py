"""Which parts of a model are done in float32 at least, whatever runs around them: small differences decide there."""

from __future__ import annotations

import torch
from torch import Tensor


def promoted(x: Tensor) -> Tensor:
    """Return `x` as float32 where its type is narrower, else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
