"""Several processes train one run: each takes its share of every batch, and all take the step of the whole batch.

Every process holds the whole model. After its backward passes the gradients are summed over all of them: dense ones as
they are, a table's as the rows that somebody read, so that what is sent grows with the rows, not with the slots. Then
each takes the same step on the same numbers, and the copies stay equal, bit for bit. What must be done once (writing
files, deciding when to stop and when to save) the first process does.

B sequences of a batch, T tokens of each, U rows touched, V width of a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from memscale.errors import ConfigError, MemscaleError, RecordError
from memscale.kernels.row_gradient import RowGradient
from memscale.models.transformer import Transformer
from memscale.training.buffers import persistent_buffers
from memscale.training.micro_batch import BatchLoss
from memscale.training.optimizers import AdamW

TIMEOUT = timedelta(days=7)
"""The others wait while the first evaluates and writes; who is gone is noticed by its closed connection."""
_AT_ONCE_BYTES = 64 << 20
"""Gradients summed in one message."""


class PeerLostError(MemscaleError):
    """Another process of the run is gone."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes of a run, as one of them sees them."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def shard(self, batch_BT: Tensor) -> Tensor:
        """Return the sequences of a batch that are this process's: equal parts, to one sequence."""
        return torch.tensor_split(batch_BT, self.size)[self.rank]

    def max_local_batch(self, batch_sequences: int) -> int:
        """Return the largest share of a batch. Raises ConfigError where somebody would have none."""
        if batch_sequences < self.size:
            raise ConfigError(
                f"a batch has {batch_sequences} sequences, too few for {self.size} processes. Take fewer GPUs a run "
                "(launcher.gpus_per_run, launcher.nodes_per_run), or more scale.batch_tokens"
            )
        return -(-batch_sequences // self.size)

    @torch.no_grad()
    def all_reduce_gradients(self, model: Transformer, optimizer: AdamW, loss: BatchLoss) -> BatchLoss:
        """Make the gradients, and what the forward passes noted in buffers, those of the whole batch; return its loss.

        Each process comes with its share of both. Raises PeerLostError.
        """
        if self.size == 1:
            return loss
        _sum(optimizer.gradients())
        for gradient in optimizer.row_gradients():
            self._exchange(gradient)
        self._share_buffers(model)
        losses_2 = torch.stack((loss.nats_per_token, loss.auxiliary))
        _sum([losses_2])
        return BatchLoss(losses_2[0], losses_2[1])

    def broadcast_flags(self, *words: bool) -> tuple[bool, ...]:
        """Return the first process's words, which all others take for theirs. Raises PeerLostError."""
        if self.size == 1:
            return words
        told = torch.tensor(words, dtype=torch.uint8)
        with _peers():
            dist.broadcast(told, src=0)
        return tuple(bool(word) for word in told.tolist())

    def check_equal(self, what: str, value: int) -> None:
        """Raise RecordError unless all have the first's value: a shared file system may show some an older state."""
        if self.size == 1:
            return
        told = torch.tensor([value])
        with _peers():
            dist.broadcast(told, src=0)
        if told.item() != value:
            raise RecordError(f"process {self.rank} found {what} {value}, the first one {told.item()}; start again")

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The first process goes through the block alone, before the others do."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def barrier(self) -> None:
        """Wait until all are here. Raises PeerLostError."""
        if self.size > 1:
            _sum([torch.zeros(1)])

    def _exchange(self, gradient: RowGradient) -> None:
        """Have every process add up the rows of all, in the order of their ranks."""
        rows_U, sums_UV = gradient.summed()
        rows, sums = self.all_gather_ragged(rows_U), self.all_gather_ragged(sums_UV)
        gradient.clear()
        for theirs_U, theirs_UV in zip(rows, sums, strict=True):
            gradient.add(theirs_U[:, None], theirs_UV.new_ones(len(theirs_U), 1), theirs_UV)

    def all_gather_ragged(self, tensor: Tensor) -> list[Tensor]:
        """Return what every process has given, which may differ in length."""
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _peers():
            dist.all_gather(lengths, torch.tensor([len(tensor)]))
        counts = [int(length.item()) for length in lengths]
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        gathered = [torch.empty_like(padded) for _ in counts]
        with _peers():
            dist.all_gather(gathered, padded)
        return [theirs[:count] for theirs, count in zip(gathered, counts, strict=True)]

    def _share_buffers(self, model: Transformer) -> None:
        """Counts of a step are added up; running means are means over the processes."""
        kept = persistent_buffers(model).values()
        means = [buffer for buffer in kept if buffer.is_floating_point()]
        _sum(means)
        for mean in means:
            mean.div_(self.size)
        _sum([buffer for buffer in model.buffers() if not buffer.is_floating_point()])


SINGLE_PROCESS = ProcessGroup()


def init_process_group(device: str) -> tuple[ProcessGroup, str]:
    """Meet the other processes of the run, if the environment names some in torch's way; return them and the device.

    RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Waits until all are there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return SINGLE_PROCESS, device
    rank = int(os.environ["RANK"])
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    with _peers():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
    return ProcessGroup(rank=rank, size=size), device


def _sum(tensors: Sequence[Tensor]) -> None:
    """Replace the tensors by their sums over all processes."""
    works = []
    for chunk in _chunks(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in chunk])
        with _peers():
            works.append((dist.all_reduce(flat, async_op=True), flat, chunk))
    for work, flat, chunk in works:
        with _peers():
            work.wait()
        parts = torch.split(flat, [tensor.numel() for tensor in chunk])
        for tensor, part in zip(chunk, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def _chunks(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Divide tensors into neighbours of one type, of up to _AT_ONCE_BYTES together."""
    chunk: list[Tensor] = []
    for tensor in tensors:
        num_bytes = sum(one.nbytes for one in chunk) + tensor.nbytes
        if chunk and (tensor.dtype != chunk[0].dtype or num_bytes > _AT_ONCE_BYTES):
            yield chunk
            chunk = []
        chunk.append(tensor)
    if chunk:
        yield chunk


@contextmanager
def _peers() -> Iterator[None]:
    """Say by an error of its own that another process is gone: torch has none for it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerLostError(f"another process of this run is gone: {error}") from error
