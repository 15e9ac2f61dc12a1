"""Forecasts the wall time and the disk of a plan from measured speeds, or from default speeds before any measurement.

1. seconds of a run = training FLOPs / speed + number of checkpoints x seconds per checkpoint + start + evaluation.
2. The speed is that of the run's series at its batch size, else of its family at that batch size, else of its family.
3. Between two measured models the logarithm of the speed is interpolated linearly in log FLOPs per token; beyond them
   it is that of the nearest. Small models run slower per FLOP, by how much depends on machine and family.
4. The wall time simulates the pool: stage after stage, each free worker takes the longest waiting run.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

GUESSED_FLOPS_PER_SECOND = {"cpu": 2.0e10, "cuda": 5.0e13}
"""Assumed training FLOPs per second of one core and of one GPU for a dense model, before anything was measured."""
GUESSED_SPARSE_SPEED = 0.45
"""Speed of a sparse family as a share of the dense model's: .39 to .64 at laptop scale."""
_AS_FAST_AS_DENSE = ("dense", "looped")
GUESSED_START_SECONDS = 2.0
GUESSED_EVALUATION_SECONDS = 2.0
NEAR = 4.0
"""A forecast counts as measured up to this factor in FLOPs per token from a measured model."""
BYTES_PER_PARAMETER = 12
"""A checkpoint holds each weight and the two moments of AdamW in float32."""
BYTES_OF_A_MOMENT = 4
"""For each parameter of which Muon keeps one moment instead of two."""
BYTES_OF_A_MEAN = 4
"""For each parameter of a checkpoint of the window in which weights are averaged; the last checkpoint has none."""
KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """The measured speed of one model."""

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
    """Seconds of a run outside training: start, validations and the last checkpoint."""
    save_seconds: float = 0.0
    """Seconds of each checkpoint before the last."""
    evaluation_seconds: float | None = None
    """Seconds of the evaluation at the end; None where the run had none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What the forecast needs to know of one run."""

    family: str
    series: str
    batch_tokens: int
    sequence_length: int
    flops_per_token: float
    """Forward."""
    flops_train: float
    params_total: int
    evaluated: bool
    """Whether tasks are evaluated at the end."""
    done: bool
    processes: int = 1
    """GPUs that the run uses; where there are none, workers."""
    averaged: bool = False
    """Whether checkpoints may hold a running mean of the weights."""
    single_moments: int = 0
    """Parameters of which the optimizer keeps one moment instead of two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """The estimated speed of one run."""

    flops_per_second: float
    start_seconds: float
    save_seconds: float
    evaluation_seconds: float
    measured: bool


class Speeds:
    """The measured speeds of one machine, and the estimates that follow from them."""

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
        """Return the estimated pace of a run.

        It counts as measured only at the batch size of the run and within a factor NEAR of a measured model.
        """
        key = (
            cost.family, cost.series, cost.batch_tokens, cost.sequence_length, cost.flops_per_token, cost.processes,
        )  # fmt: skip
        if key not in self._known:
            group = next((group for group in _groups(cost) if group in self._groups), None)
            points = self._groups[group] if group is not None else []
            same_batch = group is not None and cost.batch_tokens in group
            speed = cost.processes * (1.0 if cost.family in _AS_FAST_AS_DENSE else GUESSED_SPARSE_SPEED)
            guess = replace(self._guess, flops_per_second=self._guess.flops_per_second * speed)
            self._known[key] = self._between(points, cost.flops_per_token, same_batch) if points else guess
        return self._known[key]

    def run_seconds(self, cost: Cost) -> float:
        """Return the estimated seconds of a run: training, checkpoints, start and evaluation."""
        pace = self.of(cost)
        training = cost.flops_train / pace.flops_per_second
        saves = training // self.checkpoint_seconds * pace.save_seconds
        return training + saves + pace.start_seconds + (pace.evaluation_seconds if cost.evaluated else 0.0)

    def _between(self, points: Sequence[Speed], flops_per_token: float, same_batch: bool) -> Pace:
        """Interpolate linearly in log FLOPs per token, the speed in its logarithm; constant beyond the ends."""
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
    """Return the groups of a speed or a run, the narrowest first.

    The batch size is part of a group because the optimizer's pass over all parameters costs the same for any batch.
    """
    return (
        (one.family, one.series, one.batch_tokens, one.sequence_length),
        (one.family, one.batch_tokens, one.sequence_length),
        (one.family,),
    )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The estimated time and disk of a plan."""

    seconds: float
    """Wall time of the runs that are left, on `workers`."""
    run_seconds: tuple[float, ...]
    """Seconds of each run, in the given order."""
    gpu_hours: float
    """Total GPU hours of the runs that are left; where there are no GPUs, total hours of workers."""
    disk_bytes: int
    """Disk for the checkpoints of all runs, done or not."""
    disk_left_bytes: int
    """Disk for the checkpoints of the runs that are left."""
    runs_left: int
    workers: int
    measured: bool
    """Whether every run that is left is near a model measured on this machine."""
    guessed_families: tuple[str, ...]
    """Families with runs left that are not near any measured model."""


def forecast(
    stages: Sequence[Sequence[Cost]],
    speeds: Speeds,
    *,
    workers: int,
) -> Forecast:
    """Estimate wall time, GPU hours and disk of a plan.

    Args:
        stages: The runs of each stage; a stage starts when the one before has ended.
        speeds: Measured speeds of the machine.
        workers: Number of runs trained at once.

    Example:
        >>> run = Cost(family="dense", series="dense", batch_tokens=512, sequence_length=128, flops_per_token=6e5,
        ...            flops_train=4e11, params_total=332_352, evaluated=True, done=False)
        >>> found = forecast([[run, run, run]], Speeds(checkpoint_seconds=30, device="cpu", threads=1), workers=2)
        >>> found.seconds, found.runs_left, found.measured  # (4e11 / 2e10 + 2 + 2) seconds a run, two rounds
        (48.0, 3, False)
    """
    wall, gpu_seconds, disk, disk_left, runs_left = 0.0, 0.0, 0.0, 0.0, 0
    per_run: list[float] = []
    guessed: dict[str, None] = {}
    for stage in stages:
        left = []
        for cost in stage:
            seconds = speeds.run_seconds(cost)
            written = 1 + seconds // speeds.checkpoint_seconds
            kept = checkpoint_bytes(cost.params_total, cost.single_moments) * min(KEPT_CHECKPOINTS, written)
            kept += BYTES_OF_A_MEAN * cost.params_total if cost.averaged and written > 1 else 0
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


def checkpoint_bytes(params_total: int, single_moments: int) -> int:
    """Return the bytes of a checkpoint without running means of the weights.

    Args:
        params_total: All parameters.
        single_moments: Those of which the optimizer keeps one moment instead of two.
    """
    return BYTES_PER_PARAMETER * params_total - BYTES_OF_A_MOMENT * single_moments


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last run ends if each free worker takes the longest waiting one (LPT scheduling)."""
    busy = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)
