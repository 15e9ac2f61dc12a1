"""Micro-batches: how many sequences go through the model at once, and the gradient of a batch taken in such parts.

The token batch never changes: each part's loss is weighted by its share of the batch, so the gradient is the whole
batch's up to rounding. The experts' balance loss needs the loads of all parts (`memscale.training.batch_balance`). What
is left is a batch norm of queries, which compares the tokens of one part (`memscale.training.batch_norms`). A machine
that cannot hold one sequence is an OutOfMemoryError.
"""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from memscale.errors import MemscaleError
from memscale.models.transformer import Transformer
from memscale.training.batch_balance import BatchBalance
from memscale.training.batch_norms import norms_over_processes
from memscale.training.buffers import preserve_buffers
from memscale.training.optimizers import AdamW
from memscale.training.precision import autocast

_WORKING_MEMORY = 2.0
"""Peak memory of a backward pass over what its forward pass saved; measured 1.3 to 1.5 on the CPU, with room."""
_SHARE_OF_FREE = 0.5
"""Share of the free memory that activations may take: the rest is for gradients, evaluation and others."""

log = logging.getLogger(__name__)


class OutOfMemoryError(MemscaleError):
    """Not even one sequence fits into memory."""


@dataclass(frozen=True)
class BatchLoss:
    """Losses of one batch, scalars on the model's device."""

    nats_per_token: torch.Tensor
    auxiliary: torch.Tensor
    """The experts' balance and router and the cores' losses, weighted; trained on, never reported as the loss."""


def token_nats(logits_BSV: torch.Tensor, targets_BS: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Return the cross-entropy in nats, float32 whatever the logits' type: its mean, or [B, S] with "none"."""
    nats = F.cross_entropy(logits_BSV.flatten(0, 1).float(), targets_BS.flatten(), reduction=reduction)
    return nats.view_as(targets_BS) if reduction == "none" else nats


def accumulate_gradients(
    model: Transformer,
    tokens_BT: torch.Tensor,
    micro_batch_sequences: int,
    batch_sequences: int | None = None,
    balance: BatchBalance | None = None,
) -> BatchLoss:
    """Add the gradient of the mean loss over `tokens_BT` to the model's gradients.

    Args:
        model: In training mode.
        tokens_BT: int64 [sequences, sequence_length + 1].
        micro_batch_sequences: Sequences per forward and backward pass.
        batch_sequences: Sequences of the whole batch, if these are a shard of it: gradient and loss are then their part
            of the batch's mean.
        balance: Knows the other processes, if the batch is shared among several.

    Returns:
        The mean losses, detached.
    """
    whole = batch_sequences or tokens_BT.shape[0]
    nats = torch.zeros((), device=tokens_BT.device)
    auxiliary = torch.zeros((), device=tokens_BT.device)
    balance, parts = balance or BatchBalance(model), torch.split(tokens_BT, micro_batch_sequences)
    with norms_over_processes(model, len(parts), balance.sum_counts), balance.parts(parts):
        for part_BT in parts:
            share = part_BT.shape[0] / whole
            with autocast(tokens_BT.device):
                output = model(part_BT[:, :-1])
            part_nats = token_nats(output.logits_BSV, part_BT[:, 1:])
            part_auxiliary = output.auxiliary_loss + balance.loss()
            ((part_nats + part_auxiliary) * share).backward()
            nats += part_nats.detach() * share
            auxiliary += part_auxiliary.detach() * share
    return BatchLoss(nats, auxiliary)


def max_micro_batch(
    model: Transformer, sequence_length: int, batch_sequences: int, *, free_bytes: int, most: int | None = None
) -> int:
    """Return how many sequences to take at once: at most `most`, and what fits into `free_bytes`.

    The fewest parts, of the most equal sizes.

    Raises:
        OutOfMemoryError: One sequence does not fit.
    """
    per_sequence = _WORKING_MEMORY * activation_bytes(model, sequence_length)
    room = int(_SHARE_OF_FREE * free_bytes / per_sequence)
    if room < 1:
        raise OutOfMemoryError(
            f"one sequence of {sequence_length} tokens needs about {per_sequence / 1e9:.3g} GB of activations, and "
            f"{_SHARE_OF_FREE * free_bytes / 1e9:.3g} GB may be used. Run fewer slots at a time, or take a machine "
            "with more memory"
        )
    num_parts = -(-batch_sequences // min(room, most or batch_sequences))
    return -(-batch_sequences // num_parts)


def activation_bytes(model: Transformer, sequence_length: int) -> int:
    """Return the bytes that a forward pass saves for the backward pass of one sequence, by running one."""
    device = next(model.parameters()).device
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    def same(tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    tokens_BT = torch.zeros(1, sequence_length + 1, dtype=torch.int64, device=device)
    with preserve_buffers(model), torch.autograd.graph.saved_tensors_hooks(note, same), autocast(device):
        output = model(tokens_BT[:, :-1])
        loss = token_nats(output.logits_BSV, tokens_BT[:, 1:]) + output.auxiliary_loss
    del loss
    return sum(saved.values())


def halved(micro_batch_sequences: int, error: torch.OutOfMemoryError, *, alone: bool = True) -> int:
    """Return the next smaller micro-batch after a GPU ran out of memory.

    `alone` is False where other processes wait in the middle of this forward or backward pass, for a batch norm.

    Raises:
        OutOfMemoryError: It was one sequence already, or the process is not alone.
    """
    if not alone:
        raise OutOfMemoryError(
            f"the GPU's memory does not hold {micro_batch_sequences} sequences ({error}), and a batch norm of queries "
            "over several processes cannot start again with fewer. Take more GPUs or a smaller micro-batch from the "
            "start, or query_norm: layer"
        ) from error
    if micro_batch_sequences == 1:
        raise OutOfMemoryError(
            f"the GPU's memory does not hold one sequence ({error}). Take a GPU with more memory, or a smaller model"
        ) from error
    smaller = -(-micro_batch_sequences // 2)
    log.warning("out of GPU memory with %d sequences at once; going on with %d", micro_batch_sequences, smaller)
    return smaller


def release(optimizer: AdamW) -> None:
    """Free what a failed step holds: its gradients, its graph and the GPU allocator's cache."""
    optimizer.clear_gradients()
    gc.collect()
    torch.cuda.empty_cache()
