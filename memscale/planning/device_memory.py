"""Whether a run fits into the memory of its device, at which micro-batch, and what would make it fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from memscale.config.architecture import Architecture
from memscale.planning.training_memory import SHARDINGS, Parallelism, TrainingMemory, saved_bytes, training_memory

MOST_GPUS = 1024
SHARE_FOR_ACTIVATIONS = 0.25
"""Of the memory that weights and optimizer leave free, the trainer lets the tensors saved for the backward pass take
this share (`memscale.training.micro_batch`): half is for gradients and others, and half of the rest is working memory
of the backward pass."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """The smallest number of devices that holds the run."""

    parallelism: Parallelism
    micro_batch_sequences: int
    """Per device: all of its share of the batch that fits."""
    peak_bytes: float
    """Of each device."""


@dataclass(frozen=True, kw_only=True)
class DeviceFit:
    """The memory of one run on one device."""

    micro_batch_sequences: int
    peak_bytes: float
    fits: bool | None
    """At one sequence at a time, if need be; None where the device's memory is not known."""
    remedy: Remedy | None
    """None where it fits, and where no number of devices makes it fit."""


def fit_on_device(
    architecture: Architecture,
    sequence_length: int,
    batch_sequences: int,
    *,
    device_bytes: float | None,
    precision: str,
) -> DeviceFit:
    """The memory of `architecture` trained with `batch_sequences` a batch on a device with `device_bytes`.

    With None the whole batch goes through at once. Without sharding a device holds all of the model however many
    there are; what becomes less is the reads that its tables' gradients are made of.
    """

    def memory(micro_batch: int, parallelism: Parallelism) -> TrainingMemory:
        return training_memory(
            architecture,
            sequence_length,
            micro_batch_sequences=micro_batch,
            batch_sequences=batch_sequences,
            parallelism=parallelism,
            precision=precision,
        )

    alone = Parallelism()
    one = memory(1, alone)
    if device_bytes is None:
        whole = memory(batch_sequences, alone).total
        return DeviceFit(micro_batch_sequences=batch_sequences, peak_bytes=whole, fits=None, remedy=None)
    room = SHARE_FOR_ACTIVATIONS * (device_bytes - one.weights - one.optimizer)
    saved = saved_bytes(architecture, sequence_length, 1, precision)
    micro_batch = equal_parts(batch_sequences, int(room / saved) if room > saved else 1)
    while micro_batch > 1 and memory(micro_batch, alone).total > device_bytes:
        micro_batch = -(-micro_batch // 2)  # as the trainer does where it meets the end of the memory
    peak = memory(micro_batch, alone).total
    fits = one.total <= device_bytes
    remedy = None if fits else _remedy(memory, batch_sequences, device_bytes)
    return DeviceFit(micro_batch_sequences=micro_batch, peak_bytes=peak, fits=fits, remedy=remedy)


def equal_parts(batch_sequences: int, most: int) -> int:
    """Sequences at once: as few parts of the batch as possible, of sizes as equal as possible, each at most `most`."""
    num_parts = -(-batch_sequences // max(1, min(most, batch_sequences)))
    return -(-batch_sequences // num_parts)


def _remedy(
    memory: Callable[[int, Parallelism], TrainingMemory], batch_sequences: int, device_bytes: float
) -> Remedy | None:
    """The least number of devices over the ways of sharding, the lesser sharding on a tie.

    Each device needs a sequence of its own, so a batch bounds their number.
    """
    most = min(MOST_GPUS, batch_sequences)
    found: Parallelism | None = None
    for sharding in SHARDINGS:
        ways = [Parallelism(num_gpus=number, sharding=sharding) for number in range(2, most + 1)]
        if found is not None:
            ways = ways[: found.num_gpus - 2]
        # What holds of a number of devices holds of every greater one.
        first = bisect_left(ways, True, key=lambda way: memory(1, way).total <= device_bytes)
        if first < len(ways):
            found = ways[first]
    if found is None:
        return None
    held = found
    share = -(-batch_sequences // held.num_gpus)
    too_many = bisect_left(range(1, share + 1), True, key=lambda number: memory(number, held).total > device_bytes)
    micro_batch = equal_parts(share, too_many)
    return Remedy(
        parallelism=held, micro_batch_sequences=micro_batch, peak_bytes=memory(micro_batch, held).total
    )  # fmt: skip
