"""The precision of training: which products are taken in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Return the precision to compute in: bfloat16 products on GPUs, float32 on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
