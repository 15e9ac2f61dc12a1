"""Data-parallel training: each process computes its shard of every batch, and all take the step of the whole batch.

1. Every process holds the whole model and is given a shard of each batch.
2. After its backward passes the gradients are summed over all processes: dense ones by all-reduce, a table's as the
   rows that were looked up, by all-gather, so that traffic grows with those rows and not with the slots.
3. Every process takes the same step on the same numbers; the copies stay equal, bit for bit.

What must be done once (writing files, deciding when to stop and to save) is done by the main process, rank 0.

Shape suffixes: B sequences of a batch, T tokens of each, U distinct rows, V width of a row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
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
"""Long, because the others wait while the main process evaluates and writes; a process that died is noticed by its
closed connection."""
_AT_ONCE_BYTES = 64 << 20
"""Bytes of gradients summed in one message."""


class PeerLostError(MemscaleError):
    """Another process of the run is gone."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes of a run, as seen by the one of rank `rank` among `size`.

    Example:
        >>> group = ProcessGroup(rank=1, size=2)
        >>> group.is_main, group.max_local_batch(5)
        (False, 3)
        >>> group.shard(torch.arange(5)[:, None]).flatten().tolist()
        [3, 4]
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and decides."""
        return self.rank == 0

    def shard(self, batch_BT: Tensor) -> Tensor:
        """Return this process's sequences of a batch: equal parts, up to one sequence."""
        return torch.tensor_split(batch_BT, self.size)[self.rank]

    def max_local_batch(self, batch_sequences: int) -> int:
        """Return the sequences of the largest shard.

        Raises:
            ConfigError: A process would have none.
        """
        if batch_sequences < self.size:
            raise ConfigError(
                f"a batch has {batch_sequences} sequences, too few for {self.size} processes. Take fewer GPUs a run "
                "(launcher.gpus_per_run, launcher.nodes_per_run), or more scale.batch_tokens"
            )
        return -(-batch_sequences // self.size)

    @property
    def sum_counts(self) -> Callable[[Sequence[Tensor]], None] | None:
        """Replaces tensors by their sums over all processes, or raises PeerLostError; None for a single process."""
        return _sum if self.size > 1 else None

    @torch.no_grad()
    def all_reduce_gradients(self, model: Transformer, optimizer: AdamW, loss: BatchLoss) -> BatchLoss:
        """Sum gradients, and buffers that forward passes changed, over all processes; return the whole batch's loss.

        Each process passes those of its shard, weighted by its share of the batch.

        Raises:
            PeerLostError: Another process is gone.
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
        """Return the main process's flags in every process.

        Raises:
            PeerLostError: Another process is gone.
        """
        if self.size == 1:
            return words
        from_main = torch.tensor(words, dtype=torch.uint8)
        with _peers():
            dist.broadcast(from_main, src=0)
        return tuple(bool(word) for word in from_main.tolist())

    def check_equal(self, what: str, value: int) -> None:
        """Check that all processes have the main process's value: a shared file system may show some an older state.

        Raises:
            RecordError: They differ.
            PeerLostError: Another process is gone.
        """
        if self.size == 1:
            return
        from_main = torch.tensor([value])
        with _peers():
            dist.broadcast(from_main, src=0)
        if from_main.item() != value:
            raise RecordError(
                f"process {self.rank} found {what} {value}, the first one {from_main.item()}; start again"
            )

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the main process, and then in the others."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def barrier(self) -> None:
        """Wait until all processes are here.

        Raises:
            PeerLostError: Another process is gone.
        """
        if self.size > 1:
            _sum([torch.zeros(1)])

    def _exchange(self, gradient: RowGradient) -> None:
        """Make every process sum the rows of all processes, in the order of their ranks."""
        rows_U, sums_UV = gradient.coalesce()
        rows, sums = self.all_gather_ragged(rows_U), self.all_gather_ragged(sums_UV)
        gradient.clear()
        for theirs_U, theirs_UV in zip(rows, sums, strict=True):
            gradient.add(theirs_U[:, None], theirs_UV.new_ones(len(theirs_U), 1), theirs_UV)

    def all_gather_ragged(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, in the order of their ranks; they may differ in length.

        Raises:
            PeerLostError: Another process is gone.
        """
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
        """Sum the counts of a step over the processes; average running means. Integers that are saved are constants."""
        kept = persistent_buffers(model)
        means = [buffer for buffer in kept.values() if buffer.is_floating_point()]
        _sum(means)
        for mean in means:
            mean.div_(self.size)
        buffers = [buffer for name, buffer in model.named_buffers() if name not in kept]
        _sum([buffer for buffer in buffers if not buffer.is_floating_point()])


SINGLE_PROCESS = ProcessGroup()


def init_process_group(device: str) -> tuple[ProcessGroup, str]:
    """Join the run's other processes, if torch's environment variables name some; return the group and the device.

    The variables are RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Waits until all have joined.

    Raises:
        PeerLostError: Another process is gone.
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
    """Divide tensors into runs of one type, of up to _AT_ONCE_BYTES together."""
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
    """Raise PeerLostError for torch's RuntimeError when another process is gone: torch has no error of its own."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise PeerLostError(f"another process of this run is gone: {error}") from error
