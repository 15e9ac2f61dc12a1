"""The balance loss of experts over a whole batch, however it is divided into micro-batches and among processes.

The loss needs the load of every expert over the whole batch (`memscale.models.balance`), and the first backward pass
comes before the last forward pass. So the loads are counted first:

1. The micro-batches but the first go through the model without gradients, and their loads are added up.
2. The first one goes through with its gradients kept. Its loads are added, and the sums over all processes taken.
3. Every backward pass then has the whole batch's loads.

A batch in one micro-batch has nothing to count, and costs what it did; m micro-batches cost m - 1 forward passes more,
up to a third of a step, which plans do not count: they are the price of a small memory, not of the model. (Loads of the
step before would cost nothing, and define another loss; loads of each sequence ask for balance within every sequence.
`balance: bias` needs no loads before the step's end.) Loads that are known are kept, so a micro-batch that is repeated
because a GPU ran out of memory waits for no other process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from memscale.models.balance import BalanceTerm
from memscale.models.moe import MoEFeedForward
from memscale.models.transformer import Transformer
from memscale.training.buffers import preserve_buffers
from memscale.training.precision import autocast

SumCounts = Callable[[Sequence[Tensor]], None]
"""Replaces tensors by their sums over all processes."""


class BatchBalance:
    """The balance loss of one batch.

    Args:
        model: In training mode.
        sum_counts: Sums over the processes that share the batch, called once; None if there is one process.
    """

    def __init__(self, model: Transformer, sum_counts: SumCounts | None = None) -> None:
        self._model, self.sum_counts = model, sum_counts
        self._layers = [
            layer for layer in model.modules() if isinstance(layer, MoEFeedForward) and layer.has_balance_loss
        ]
        self._terms: list[BalanceTerm] = []
        """Of the last forward pass, a layer each."""
        self._counted: list[Tensor] = []
        """Load of each layer's experts in the micro-batches counted so far."""
        self._whole: list[Tensor] | None = None
        """Load of each layer's experts in the whole batch, once it is known."""

    @contextmanager
    def parts(self, parts: Sequence[Tensor]) -> Iterator[None]:
        """Take in micro-batches of tokens [sequences, sequence_length + 1], this process's whole share of a batch.

        Inside the block they go through the model in this order. Layers leave their balance terms to `loss`, which is
        called after every forward pass.
        """
        if not self._layers or (len(parts) == 1 and self.sum_counts is None):
            yield  # the layers' own losses are the batch's
            return
        try:
            for layer in self._layers:
                layer.deferred = self._terms
            if self._whole is None:
                self._count(parts[1:])
            yield
        finally:
            self._terms.clear()
            for layer in self._layers:
                layer.deferred = None

    def loss(self) -> Tensor | float:
        """Return the balance loss of the last forward pass over a part, with gradients; 0 if the layers return it."""
        if not self._terms:
            return 0.0
        if self._whole is None:
            whole = self._with_counted()
            if self.sum_counts is not None:
                self.sum_counts(whole)
            self._whole = whole
        losses = [term.loss(load_E) for term, load_E in zip(self._terms, self._whole, strict=True)]
        self._terms.clear()
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _count(self, parts: Sequence[Tensor]) -> None:
        """Add up the loads of these micro-batches, and leave no other trace of them."""
        self._counted = []
        if not parts:
            return
        with preserve_buffers(self._model), autocast(parts[0].device):
            for part_BT in parts:
                self._model(part_BT[:, :-1])
                self._counted = self._with_counted()
                self._terms.clear()

    def _with_counted(self) -> list[Tensor]:
        """Return the loads counted so far and those of the last forward pass, summed."""
        counted = self._counted or [torch.zeros_like(term.load_E) for term in self._terms]
        return [term.load_E + load_E for term, load_E in zip(self._terms, counted, strict=True)]
