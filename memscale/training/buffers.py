"""A model's state that no gradient moves: running statistics, and biases that are moved after a step.

Persistent buffers are saved with the weights. Every buffer, persistent or not, is what the steps so far made it, so a
forward pass that is no part of a step has to leave all of them as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class AfterStepHook(Protocol):
    """A module with something to do after every optimizer step, such as moving a bias against the experts' load."""

    def after_step(self) -> None: ...


def after_step_hooks(model: nn.Module) -> list[Callable[[], None]]:
    """Return what is to be called after every optimizer step, in the order of the model's modules."""
    return [module.after_step for module in model.modules() if isinstance(module, AfterStepHook)]


def persistent_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that belong to the trained model, by name: the tensors themselves, not copies."""
    kept = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


def clone_buffers(model: nn.Module) -> list[Tensor]:
    """Return copies of all buffers, for `put_back`."""
    return [buffer.clone() for buffer in model.buffers()]


@torch.no_grad()
def restore_buffers(model: nn.Module, copies: list[Tensor]) -> None:
    """Set all buffers to what they were when `copied_buffers` copied them."""
    for buffer, copy in zip(model.buffers(), copies, strict=True):
        buffer.copy_(copy)


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Leave all buffers as they are, whatever forward passes are run inside."""
    copies = clone_buffers(model)
    try:
        yield
    finally:
        restore_buffers(model, copies)
