"""Parts of a model that are computed in float32 at least, whatever the precision around them."""

from __future__ import annotations

import torch
from torch import Tensor


def promoted(x: Tensor) -> Tensor:
    """Return `x` as float32 if its type is narrower, else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
