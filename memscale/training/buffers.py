"""A model's buffers: running statistics, and biases that are moved after a step.

Persistent buffers are saved with the weights. Every buffer, persistent or not, is a result of the steps so far, so a
forward pass that is not part of a step has to leave all of them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class AfterStepHook(Protocol):
    """A module that does something after every optimizer step, such as moving a load-balancing bias."""

    def after_step(self) -> None:
        """Called after every optimizer step."""


def after_step_hooks(model: nn.Module) -> list[Callable[[], None]]:
    """Return what is to be called after every optimizer step, in the order of the model's modules."""
    return [module.after_step for module in model.modules() if isinstance(module, AfterStepHook)]


def persistent_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that belong to the trained model, by name: the tensors themselves, not copies."""
    kept = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


def clone_buffers(model: nn.Module) -> list[Tensor]:
    """Return copies of all buffers, for `restore_buffers`."""
    return [buffer.clone() for buffer in model.buffers()]


@torch.no_grad()
def restore_buffers(model: nn.Module, copies: list[Tensor]) -> None:
    """Set all buffers to the values that `clone_buffers` copied."""
    for buffer, copy in zip(model.buffers(), copies, strict=True):
        buffer.copy_(copy)


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Leave all buffers unchanged by the forward passes inside the block."""
    copies = clone_buffers(model)
    try:
        yield
    finally:
        restore_buffers(model, copies)
