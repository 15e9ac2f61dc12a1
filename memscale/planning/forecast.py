"""How long a plan will take and how much disk it will fill, from measured speeds; before any, from a guess."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GUESSED_FLOPS_PER_SECOND = 2.0e10
"""Training FLOPs of one core before anything was measured."""
GUESSED_OVERHEAD_SECONDS = 5.0
BYTES_PER_PARAMETER = 12
"""A checkpoint holds the weight and AdamW's two moments in fp32."""
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is needed to forecast one run."""

    family: str
    flops_train: float
    params_total: int
    done: bool


@dataclass(frozen=True, kw_only=True)
class Forecast:
    seconds: float
    """Wall time of what is left, on `slots`."""
    run_seconds: tuple[float, ...]
    """Of each run, in the given order."""
    disk_bytes: int
    """Checkpoints of all runs together, done or not."""
    slots: int
    measured: bool
    """From speeds measured on this machine; otherwise guessed."""


def run_seconds(cost: Cost, speeds: Mapping[str, tuple[float, float]]) -> float:
    """Seconds of one run; `speeds` maps a family to (FLOPs per second, seconds of overhead)."""
    flops_per_second, overhead = speeds.get(cost.family, (GUESSED_FLOPS_PER_SECOND, GUESSED_OVERHEAD_SECONDS))
    return cost.flops_train / flops_per_second + overhead


def forecast(
    stages: Sequence[Sequence[Cost]],
    speeds: Mapping[str, tuple[float, float]],
    *,
    slots: int,
    checkpoint_seconds: float,
) -> Forecast:
    """Simulate the pool: stage after stage, the longest run first, on `slots`."""
    wall, per_run, disk, measured = 0.0, [], 0.0, True
    for stage in stages:
        seconds = [run_seconds(cost, speeds) for cost in stage]
        wall += makespan([s for s, cost in zip(seconds, stage, strict=True) if not cost.done], slots)
        per_run += seconds
        for s, cost in zip(seconds, stage, strict=True):
            disk += BYTES_PER_PARAMETER * cost.params_total * min(KEPT_CHECKPOINTS, 1 + s // checkpoint_seconds)
            measured &= cost.done or cost.family in speeds
    return Forecast(seconds=wall, run_seconds=tuple(per_run), disk_bytes=round(disk), slots=slots, measured=measured)


def makespan(seconds: Sequence[float], slots: int) -> float:
    """When the last run ends if each free slot takes the longest that waits."""
    busy = [0.0] * slots
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)
