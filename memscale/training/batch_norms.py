"""Batch norms of queries over all processes that share a batch, where each takes its sequences in one micro-batch.

Mean, variance and their gradients are then those of the whole batch, as they are in one process. Over several
micro-batches they cannot be: a layer's moments would need all of them to be at that layer at once, forward and
backward. There a micro-batch is normalised by itself, and the result depends on its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from memscale.models.queries import QueryBatchNorm


def batch_norms(model: nn.Module) -> list[QueryBatchNorm]:
    """Return the model's batch norms of queries."""
    return [module for module in model.modules() if isinstance(module, QueryBatchNorm)]


@contextmanager
def norms_over_processes(
    model: nn.Module, num_parts: int, sum_over: Callable[[Sequence[Tensor]], None] | None
) -> Iterator[None]:
    """Inside the block the batch norms are those of all processes, if each process has one part of its sequences.

    Args:
        model: In training mode.
        num_parts: Micro-batches of this process.
        sum_over: Replaces tensors by their sums over all processes; None: there is one.
    """
    norms = batch_norms(model)
    if not norms or sum_over is None:
        yield
        return
    further_parts = torch.tensor([num_parts - 1], device=norms[0].running_mean.device)
    sum_over([further_parts])
    try:
        for norm in norms:
            norm.sum_over = sum_over if further_parts.item() == 0 else None
        yield
    finally:
        for norm in norms:
            norm.sum_over = None
