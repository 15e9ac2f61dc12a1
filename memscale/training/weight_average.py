"""The mean of the weights over the last part of a run, which then is the run's result.

1. At evenly spaced steps of the window (`average_steps`; the last step is one) the weights enter a running mean in
   float32. Buffers of floating point that are saved with the weights (running statistics, balancing biases) do too.
2. Before that all table rows are brought up to date, so that a row that was not read counts as dense AdamW would have
   left it. This happens at steps fixed by the run's configuration, so a resumed run has the same bits.
3. After the last step the mean replaces the weights: the final validation, the last checkpoint, evaluation and export
   use it. Validations and checkpoints before that have the weights of their step.

A uniform mean over the tail, and not an exponential one: see `memscale.config.optimizer.Average`. Holds 4 bytes a
parameter from the first step of the window on; checkpoints of the window hold them too. Every process of a run has the
same weights, and so computes the same mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from memscale.config.optimizer import Average
from memscale.kernels.memory_table import MemoryTable
from memscale.models.transformer import Transformer
from memscale.training.buffers import persistent_buffers
from memscale.training.optimizers import AdamW

PREFIX = "average."
"""Of the names of the running means in a checkpoint."""
_BLOCK_ROWS = 1 << 20
"""Rows added at a time, so that a narrow table is widened in parts."""


def average_steps(average: Average | None, num_steps: int) -> tuple[int, ...]:
    """Return the steps whose weights enter the mean, in order; none without averaging.

    Example:
        >>> average_steps(Average(fraction=0.1, every=4), num_steps=100)
        (92, 96, 100)
    """
    if average is None:
        return ()
    before = num_steps - max(1, int(average.fraction * num_steps))
    return tuple(reversed(range(num_steps, before, -average.every)))


class WeightAverage:
    """The running mean of a model's weights.

    Args:
        model: The model in training.
        optimizer: Its optimizer, which knows the rows of the tables.
        average: What is averaged; None: nothing, and every method does nothing.
        num_steps: Steps of the run.
    """

    def __init__(self, model: Transformer, optimizer: AdamW, average: Average | None, num_steps: int) -> None:
        self._model, self._optimizer = model, optimizer
        self._steps = average_steps(average, num_steps)
        self._means: dict[str, Tensor] = {}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Add the weights of `step`, if it is one that counts; after the last one put the mean in their place."""
        if step not in self._steps:
            return
        self._optimizer.flush()
        weight = 1.0 / (self._steps.index(step) + 1)
        for name, tensor in self._averaged():
            mean = self._running()[PREFIX + name]
            for part, now in zip(torch.split(mean, _BLOCK_ROWS), torch.split(tensor, _BLOCK_ROWS), strict=True):
                part.lerp_(now.to(part.dtype), weight)
        if step == self._steps[-1]:
            self._finish()

    def state(self, step: int) -> dict[str, Tensor]:
        """Return what a checkpoint of `step` needs beside weights and optimizer state: the tensors themselves.

        Nothing before the window, and nothing after the last step, whose weights are the mean.
        """
        return self._running() if self._steps and self._steps[0] <= step < self._steps[-1] else {}

    def _running(self) -> dict[str, Tensor]:
        """The running means by their names in a checkpoint; allocated when they are first asked for."""
        if not self._means:
            self._means = {PREFIX + name: self._zeros(name, tensor) for name, tensor in self._averaged()}
        return self._means

    def _averaged(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what is averaged: of a table with a float32 master copy, that copy."""
        rows = self._optimizer.rows.tables if self._optimizer.rows is not None else {}
        for name, parameter in self._model.named_parameters():
            yield name, rows[name].state.weights_NV if name in rows else parameter.data
        for name, buffer in persistent_buffers(self._model).items():
            if buffer.is_floating_point():
                yield name, buffer

    def _zeros(self, name: str, tensor: Tensor) -> Tensor:
        dtype = torch.promote_types(tensor.dtype, torch.float32)
        table = dict(self._model.named_parameters()).get(name)
        if isinstance(table, MemoryTable):
            return table.placement.zeros(tensor.shape, dtype, tensor.device)
        return torch.zeros_like(tensor, dtype=dtype)

    def _finish(self) -> None:
        """Put the mean into the weights; of a table with a master copy, into both."""
        parameters = dict(self._model.named_parameters())
        for name, tensor in self._averaged():
            tensor.copy_(self._means[PREFIX + name])
            if name in parameters and parameters[name].dtype != tensor.dtype:
                parameters[name].data.copy_(tensor)
        self._means = {}
