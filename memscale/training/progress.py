"""How far a run is and how long it will still take, reported to its launcher at intervals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_SECONDS = 1.0
"""Between two reports: each one may be a file written durably."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One report."""

    step: int
    num_steps: int
    tokens: int
    loss: float | None
    """Mean training loss (nats per token) over the latest steps; None before the first line."""
    tokens_per_second: float
    """Of this attempt, validations and checkpoints included; 0 before the first step."""
    seconds_left: float | None
    """At that speed; None before the first step."""


class Reporter:
    """Reports at most every INTERVAL_SECONDS, unless asked to at once."""

    def __init__(self, on_progress: Callable[[Progress], None], num_steps: int, batch_tokens: int, step: int) -> None:
        self._on_progress = on_progress
        self._num_steps, self._batch_tokens, self._first_step = num_steps, batch_tokens, step
        self._started = time.perf_counter()
        self._last = -float("inf")

    def report(self, step: int, loss: float | None, *, at_once: bool = False) -> None:
        """Report that `step` steps of the run are done."""
        now = time.perf_counter()
        if not at_once and now - self._last < INTERVAL_SECONDS:
            return
        self._last = now
        done = (step - self._first_step) * self._batch_tokens
        speed = done / (now - self._started) if done > 0 else 0.0
        left = (self._num_steps - step) * self._batch_tokens / speed if speed > 0 else None
        self._on_progress(
            Progress(
                step=step,
                num_steps=self._num_steps,
                tokens=step * self._batch_tokens,
                loss=loss,
                tokens_per_second=speed,
                seconds_left=left,
            )
        )
