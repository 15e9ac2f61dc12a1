"""Whether a run fits into device memory, with which micro-batch, and how many devices would hold it otherwise."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from memscale.config.architecture import Architecture
from memscale.planning.training_memory import SHARDINGS, Parallelism, TrainingMemory, saved_bytes, training_memory

MOST_GPUS = 1024
SHARE_FOR_ACTIVATIONS = 0.25
"""Fraction of the memory left by weights and optimizer state that the trainer gives to activations
(`memscale.training.micro_batch`): half is for gradients and other tensors, and half of the rest is working memory of
the backward pass."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """The smallest number of devices that can train the run."""

    parallelism: Parallelism
    micro_batch_sequences: int
    """Sequences per device and forward pass."""
    peak_bytes: float
    """Peak memory of each device."""


@dataclass(frozen=True, kw_only=True)
class DeviceFit:
    """The memory of one run on one device."""

    micro_batch_sequences: int
    peak_bytes: float
    fits: bool | None
    """Whether it fits with one sequence at a time; None where the device memory is not known."""
    remedy: Remedy | None
    """None where the run fits, and where no number of devices is enough."""


def fit_on_device(
    architecture: Architecture,
    sequence_length: int,
    batch_sequences: int,
    *,
    device_bytes: float | None,
    precision: str,
    averaged: bool = False,
    matrix_optimizer: str = "adamw",
) -> DeviceFit:
    """Choose the micro-batch for one device and compare the peak memory with the device's.

    Args:
        architecture: The model.
        sequence_length: Tokens per sequence.
        batch_sequences: Sequences per optimizer step.
        device_bytes: Memory of the device; None: not known, and the micro-batch is then the whole batch.
        precision: `bfloat16` or `float32`, as in `training_memory`.
        averaged: Whether a running mean of the weights is held beside them.
        matrix_optimizer: `adamw` or `muon`, as in `training_memory`.

    Returns:
        The micro-batch, its peak memory by `training_memory`, and where it does not fit the smallest number of devices
        and the sharding that would hold the run.
    """

    def memory(micro_batch: int, parallelism: Parallelism) -> TrainingMemory:
        return training_memory(
            architecture,
            sequence_length,
            micro_batch_sequences=micro_batch,
            batch_sequences=batch_sequences,
            parallelism=parallelism,
            precision=precision,
            averaged=averaged,
            matrix_optimizer=matrix_optimizer,
        )

    alone = Parallelism()
    one = memory(1, alone)
    if device_bytes is None:
        whole = memory(batch_sequences, alone).total
        return DeviceFit(micro_batch_sequences=batch_sequences, peak_bytes=whole, fits=None, remedy=None)
    for_activations = SHARE_FOR_ACTIVATIONS * (device_bytes - one.weights - one.optimizer)
    saved = saved_bytes(architecture, sequence_length, 1, precision)
    micro_batch = equal_parts(batch_sequences, int(for_activations / saved) if for_activations > saved else 1)
    while micro_batch > 1 and memory(micro_batch, alone).total > device_bytes:
        micro_batch = -(-micro_batch // 2)  # as the trainer does when it runs out of memory
    peak = memory(micro_batch, alone).total
    fits = one.total <= device_bytes
    remedy = None if fits else _remedy(memory, batch_sequences, device_bytes)
    return DeviceFit(micro_batch_sequences=micro_batch, peak_bytes=peak, fits=fits, remedy=remedy)


def equal_parts(batch_sequences: int, most: int) -> int:
    """Return the micro-batch that splits a batch into the fewest, most equal parts of at most `most` sequences.

    Example:
        >>> equal_parts(batch_sequences=10, most=4)  # 4 + 4 + 2, against 4 + 3 + 3: 3 parts either way
        4
    """
    num_parts = -(-batch_sequences // max(1, min(most, batch_sequences)))
    return -(-batch_sequences // num_parts)


def _remedy(
    memory: Callable[[int, Parallelism], TrainingMemory], batch_sequences: int, device_bytes: float
) -> Remedy | None:
    """Return the fewest devices over all ways of sharding, with the least sharding on a tie.

    Each device needs at least one sequence, so the batch bounds their number.
    """
    most = min(MOST_GPUS, batch_sequences)
    found: Parallelism | None = None
    for sharding in SHARDINGS:
        ways = [Parallelism(num_gpus=number, sharding=sharding) for number in range(2, most + 1)]
        if found is not None:
            ways = ways[: found.num_gpus - 2]
        # If a number of devices is enough, so is every larger one: bisect.
        first = bisect_left(ways, True, key=lambda way: memory(1, way).total <= device_bytes)
        if first < len(ways):
            found = ways[first]
    if found is None:
        return None
    remedy = found
    share = -(-batch_sequences // remedy.num_gpus)
    too_many = bisect_left(range(1, share + 1), True, key=lambda number: memory(number, remedy).total > device_bytes)
    micro_batch = equal_parts(share, too_many)
    return Remedy(
        parallelism=remedy, micro_batch_sequences=micro_batch, peak_bytes=memory(micro_batch, remedy).total
    )  # fmt: skip
