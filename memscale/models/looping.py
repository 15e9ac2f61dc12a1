"""How a looped model starts each of its recurrences, and how far they move its state.

s_0 = e and s_i = R(W [s_(i-1); e]), with e the prelude's output, W the injection and R the recurrent layers (Geiping et
al. 2025); `memscale.config.loop.Loop` says which of the published choices these are.

Shape suffixes: B batch, S positions, D model width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memscale.config.loop import Loop


class Injection(nn.Module):
    """W, [2 D, D] without a bias: the residual stream that a recurrence starts from."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model, 2 * d_model))

    def forward(self, state_BSD: Tensor, entered_BSD: Tensor) -> Tensor:
        """Return [B, S, D] in the type of the state, which a residual stream keeps under autocast.

        Args:
            state_BSD: The state s_(i-1).
            entered_BSD: The prelude's output e.
        """
        return F.linear(torch.cat((state_BSD, entered_BSD), dim=-1), self.weight).to(state_BSD.dtype)


class StateChanges:
    """How far each recurrence moves the state: |s_i - s_(i-1)| / |s_i|, as a mean over tokens.

    Small changes of the last recurrences say that fewer would do.
    """

    def __init__(self, recurrences: int) -> None:
        self._sums: list[Tensor | None] = [None] * recurrences
        self._num_tokens = [0] * recurrences

    def add(self, recurrence: int, before_BSD: Tensor, after_BSD: Tensor) -> None:
        """Add the tokens of one batch, before and after recurrence number `recurrence`, counted from 0."""
        before, after = before_BSD.detach().double(), after_BSD.detach().double()
        change = ((after - before).norm(dim=-1) / after.norm(dim=-1)).sum()
        known = self._sums[recurrence]
        self._sums[recurrence] = change if known is None else known + change
        self._num_tokens[recurrence] += after[..., 0].numel()

    def values(self) -> dict[str, float]:
        """Return `loop_change_<i>` for i = 1 ... recurrences; NaN before anything was added."""
        return {
            f"loop_change_{i + 1}": math.nan if total is None else float(total) / self._num_tokens[i]
            for i, total in enumerate(self._sums)
        }


class Recurrences:
    """What one forward pass does around the recurrent layers of a looped model; nothing where `loop` is None."""

    def __init__(self, loop: Loop | None, injection: Injection | None, changes: StateChanges | None) -> None:
        self._loop, self._injection, self._changes = loop, injection, changes
        self._started = 0
        self._entered_BSD: Tensor | None = None
        """The prelude's output."""
        self._state_BSD: Tensor | None = None
        """The state before the present recurrence; held only to count how far it moves."""

    def before(self, layer: int, x_BSD: Tensor) -> Tensor:
        """Return what stored layer `layer` is applied to, given the residual stream so far."""
        loop = self._loop
        if loop is None or layer != loop.prelude:  # the first recurrent layer starts a recurrence
            return x_BSD
        self._started += 1
        self._state_BSD = x_BSD if self._changes is not None else None
        if self._injection is None:
            return x_BSD
        self._entered_BSD = x_BSD if self._entered_BSD is None else self._entered_BSD
        injected_BSD: Tensor = self._injection(x_BSD, self._entered_BSD)
        return injected_BSD

    def after(self, layer: int, x_BSD: Tensor) -> None:
        """Note the residual stream after stored layer `layer`."""
        loop, changes = self._loop, self._changes
        if loop is not None and changes is not None and layer == loop.prelude + loop.recurrent - 1:
            assert self._state_BSD is not None
            changes.add(self._started - 1, self._state_BSD, x_BSD)
