"""How long a plan will take and how much disk it will fill, from measured speeds; before any, from a guess.

A run's seconds are its FLOPs over the speed measured for its series, and what it costs beside training. Between two
measured models the speed is interpolated in the logarithm of their FLOPs per token; outside them it is the nearest
one's: small models run slower per FLOP, and how much so is a property of machine and family that no formula knows.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

GUESSED_FLOPS_PER_SECOND = {"cpu": 2.0e10, "cuda": 5.0e13}
"""Training FLOPs of one core, and of one GPU, before anything was measured."""
GUESSED_START_SECONDS = 5.0
GUESSED_EVALUATION_SECONDS = 2.0
NEAR = 4.0
"""A model with up to this many times the FLOPs per token of a measured one, or as many times fewer, is near it."""
BYTES_PER_PARAMETER = 12
"""A checkpoint holds the weight and AdamW's two moments in fp32."""
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What was measured of one model."""

    family: str
    """Kind of family: dense, moe, ..."""
    series: str
    batch_tokens: int
    sequence_length: int
    flops_per_token: float
    """Forward."""
    flops_per_second: float
    """Training FLOPs of one worker."""
    start_seconds: float
    """What a run costs beside training and what stands below: starting, validating, writing its last checkpoint."""
    save_seconds: float = 0.0
    """Of each checkpoint before the last."""
    evaluation_seconds: float | None = None
    """Of the evaluation at its end; None where it had none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What is needed to forecast one run."""

    family: str
    series: str
    batch_tokens: int
    sequence_length: int
    flops_per_token: float
    """Forward."""
    flops_train: float
    params_total: int
    evaluated: bool
    """Whether tasks are evaluated at its end."""
    done: bool
    processes: int = 1
    """GPUs, or workers where there are none, that it takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast a run is thought to go."""

    flops_per_second: float
    start_seconds: float
    save_seconds: float
    evaluation_seconds: float
    measured: bool


class Speeds:
    """Speeds of one machine, and what to believe of a run from them."""

    def __init__(
        self,
        measured: Iterable[Speed] = (),
        *,
        checkpoint_seconds: float,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        """`checkpoint_seconds` is the time between checkpoints; `device` and `threads` of a worker decide the guess."""
        self.checkpoint_seconds = checkpoint_seconds
        points = sorted(measured, key=lambda one: one.flops_per_token)
        self._groups: dict[tuple[object, ...], list[Speed]] = {}
        for one in points:
            for group in _groups(one):
                self._groups.setdefault(group, []).append(one)
        evaluations = [one.evaluation_seconds for one in points if one.evaluation_seconds is not None]
        self._evaluation_seconds = fmean(evaluations) if evaluations else GUESSED_EVALUATION_SECONDS
        self._guess = Pace(
            flops_per_second=GUESSED_FLOPS_PER_SECOND[device] * (threads if device == "cpu" else 1),
            start_seconds=GUESSED_START_SECONDS,
            save_seconds=0.0,
            evaluation_seconds=self._evaluation_seconds,
            measured=False,
        )
        self._known: dict[tuple[object, ...], Pace] = {}

    def of(self, cost: Cost) -> Pace:
        """The pace of a run: of its series at its batch, else of its family at its batch, else of its family.

        It counts as measured only at its own batch, and within NEAR of a measured model.
        """
        key = (
            cost.family, cost.series, cost.batch_tokens, cost.sequence_length, cost.flops_per_token, cost.processes,
        )  # fmt: skip
        if key not in self._known:
            group = next((group for group in _groups(cost) if group in self._groups), None)
            points = self._groups[group] if group is not None else []
            same_batch = group is not None and cost.batch_tokens in group
            guess = replace(self._guess, flops_per_second=self._guess.flops_per_second * cost.processes)
            self._known[key] = self._between(points, cost.flops_per_token, same_batch) if points else guess
        return self._known[key]

    def run_seconds(self, cost: Cost) -> float:
        pace = self.of(cost)
        training = cost.flops_train / pace.flops_per_second
        saves = training // self.checkpoint_seconds * pace.save_seconds
        return training + saves + pace.start_seconds + (pace.evaluation_seconds if cost.evaluated else 0.0)

    def _between(self, points: Sequence[Speed], flops_per_token: float, same_batch: bool) -> Pace:
        """Interpolate linearly in log(FLOPs per token), the speed itself in its logarithm; nearest at the ends."""
        place = bisect_left(points, flops_per_token, key=lambda one: one.flops_per_token)
        low, high = points[max(place - 1, 0)], points[min(place, len(points) - 1)]
        share = 1.0 if place else 0.0
        if low.flops_per_token < flops_per_token < high.flops_per_token:
            width = math.log(high.flops_per_token / low.flops_per_token)
            share = math.log(flops_per_token / low.flops_per_token) / width
        evaluations = [self._evaluation_of(one) for one in (low, high)]
        return Pace(
            flops_per_second=low.flops_per_second ** (1 - share) * high.flops_per_second**share,
            start_seconds=low.start_seconds * (1 - share) + high.start_seconds * share,
            save_seconds=low.save_seconds * (1 - share) + high.save_seconds * share,
            evaluation_seconds=evaluations[0] * (1 - share) + evaluations[1] * share,
            measured=same_batch and low.flops_per_token / NEAR <= flops_per_token <= high.flops_per_token * NEAR,
        )

    def _evaluation_of(self, one: Speed) -> float:
        return one.evaluation_seconds if one.evaluation_seconds is not None else self._evaluation_seconds


def _groups(one: Speed | Cost) -> tuple[tuple[object, ...], ...]:
    """The groups that a point belongs to and a run looks in, the narrowest first.

    The batch belongs to a speed: the optimizer's pass over all parameters is paid once a batch.
    """
    return (
        (one.family, one.series, one.batch_tokens, one.sequence_length),
        (one.family, one.batch_tokens, one.sequence_length),
        (one.family,),
    )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    seconds: float
    """Wall time of what is left, on `workers`."""
    run_seconds: tuple[float, ...]
    """Of each run, in the given order."""
    gpu_hours: float
    """Of what is left: hours of all GPUs together, or of all workers where they have none."""
    disk_bytes: int
    """Checkpoints of all runs together, done or not."""
    disk_left_bytes: int
    """Checkpoints of the runs that are left."""
    runs_left: int
    workers: int
    measured: bool
    """From speeds measured on this machine, for every run that is left on a model near its own; otherwise guessed."""
    guessed_families: tuple[str, ...]
    """Families with runs left that are far from all that was measured."""


def forecast(
    stages: Sequence[Sequence[Cost]],
    speeds: Speeds,
    *,
    workers: int,
) -> Forecast:
    """Simulate the pool: stage after stage, the longest run first, on `workers`."""
    wall, gpu_seconds, disk, disk_left, runs_left = 0.0, 0.0, 0.0, 0.0, 0
    per_run: list[float] = []
    guessed: dict[str, None] = {}
    for stage in stages:
        left = []
        for cost in stage:
            seconds = speeds.run_seconds(cost)
            written = 1 + seconds // speeds.checkpoint_seconds
            kept = BYTES_PER_PARAMETER * cost.params_total * min(KEPT_CHECKPOINTS, written)
            per_run.append(seconds)
            disk += kept
            if not cost.done:
                left.append(seconds)
                gpu_seconds += seconds * cost.processes
                disk_left += kept
                if not speeds.of(cost).measured:
                    guessed[cost.family] = None
        wall += makespan(left, workers)
        runs_left += len(left)
    return Forecast(
        seconds=wall,
        run_seconds=tuple(per_run),
        gpu_hours=gpu_seconds / 3600,
        disk_bytes=round(disk),
        disk_left_bytes=round(disk_left),
        runs_left=runs_left,
        workers=workers,
        measured=not guessed,
        guessed_families=tuple(guessed),
    )


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last run ends if each free worker takes the longest that waits."""
    busy = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)
