"""Measures how long a training step of a run takes on this machine, in the trainer itself, on random tokens.

Large batches are not run whole: a step's time is linear in its sequences, with gradient clipping and the optimizer's
pass over all parameters as its constant part, so two sizes give the third. Tokens are drawn uniformly, which spreads
lookups and routing more widely than text does. Nothing is left on the disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from memscale.config.run import Run
from memscale.data.manifest import Manifest
from memscale.data.philox import Integers
from memscale.data.prepared import Prepared
from memscale.data.sampling import Sampler
from memscale.records.layout import RunPaths
from memscale.training.execution import Execution
from memscale.training.trainer import Progress, train

_MOST_STEPS = 60
_FEWEST_STEPS = 3
_GROWTH = 4
_NEVER = 1e9


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The measured times of a run."""

    seconds: float
    """Of one optimizer step over the whole batch."""
    build_seconds: float
    """From the start of the attempt to its first step."""
    checkpoint_seconds: float | None
    """Of one checkpoint; None where none was written."""
    measured_sequences: int
    """The largest part of a batch that was taken; all of it, unless that would have taken too long."""
    num_steps: int


def measure_step(run: Run, execution: Execution, *, seconds: float, folder: Path, save: bool) -> StepTime:
    """Train `run` for about `seconds` in a temporary folder inside `folder`.

    Args:
        run: Must have many more steps than are measured, and a single validation.
        execution: Device, threads and micro-batch.
        seconds: About how long to measure.
        folder: Where the temporary folder is made, and removed again.
        save: Whether to write a checkpoint at the end, to time it.

    Raises:
        MemscaleError: As `memscale.training.trainer.train`.
    """
    watch = _Stopwatch(run, seconds, save=save, on_gpu=execution.device != "cpu" and torch.cuda.is_available())
    quiet = Execution(
        device=execution.device,
        threads=execution.threads,
        micro_batch_sequences=execution.micro_batch_sequences,
        checkpoint_seconds=_NEVER,
    )
    saved_from: float | None = None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".calibration-", dir=folder) as aside:
        paths = RunPaths(Path(aside) / "run")
        try:
            train(run, paths, watch.prepared, quiet, on_progress=_ignored, should_stop=watch)
            saved_from = watch.ended
        except _MeasuredError:
            pass
        checkpoint = time.perf_counter() - saved_from if saved_from is not None else None
    return watch.result(checkpoint)


def _ignored(progress: Progress) -> None:
    del progress


class _MeasuredError(Exception):
    """Ends the training without the checkpoint of a stop."""


class _RandomTokens(Sampler):
    """Batches of as many sequences as the stopwatch asks for."""

    def __init__(self, run: Run) -> None:
        generator = np.random.default_rng(0)
        shape = (run.batch_sequences, run.sequence_length + 1)
        self._tokens: Integers = generator.integers(run.architecture.vocab_size, size=shape, dtype=np.int64)
        self.num_sequences = 1

    def batch(self, k: int) -> Integers:
        del k
        return self._tokens[: self.num_sequences]


class _SyntheticData(Prepared):
    """Prepared data without sources: there is nothing to validate on."""

    def __init__(self, run: Run, tokens: _RandomTokens) -> None:
        manifest = Manifest(
            digests=run.digests,
            vocab_size=run.architecture.vocab_size,
            dtype="int64",
            knowledge_bits=None,
            validation_tokens=0,
            sources=(),
            evaluation_sets=(),
            files=(),
            versions=(),
            seconds=0.0,
        )
        super().__init__(Path("synthetic"), manifest)
        self._tokens_sampler = tokens

    def sampler(self, *, seed: int, sequence_length: int, batch_sequences: int) -> Sampler:
        del seed, sequence_length, batch_sequences
        return self._tokens_sampler


class _Stopwatch:
    """The trainer's `should_stop`, called before every step: it reads the clock, and sets the size of the next batch.

    It begins with one sequence and takes more as long as that is quick: the whole batch if it can.
    """

    def __init__(self, run: Run, seconds: float, *, save: bool, on_gpu: bool) -> None:
        self._run, self._seconds, self._save, self._on_gpu = run, seconds, save, on_gpu
        self._tokens = _RandomTokens(run)
        self.prepared = _SyntheticData(run, self._tokens)
        self._created = time.perf_counter()
        self._build_seconds = 0.0
        self._step_from: float | None = None
        self._times: dict[int, list[float]] = {}
        """Seconds of each step by its number of sequences, the first of them a warm-up."""
        self.ended = 0.0

    def __call__(self) -> bool:
        if self._on_gpu:  # its steps are only queued by then
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._step_from is None:
            self._build_seconds = now - self._created
        else:
            self._times.setdefault(self._tokens.num_sequences, []).append(now - self._step_from)
            following = self._next()
            if following is None:
                self.ended = time.perf_counter()
                if self._save:
                    return True
                raise _MeasuredError
            self._tokens.num_sequences = following
        self._step_from = time.perf_counter()
        return False

    def _next(self) -> int | None:
        """Sequences of the next step; None when enough has been measured."""
        number, batch = self._tokens.num_sequences, self._run.batch_sequences
        times = self._times[number]
        spent = time.perf_counter() - self._created - self._build_seconds
        typical = median(times[1:] or times)
        if number < batch and (len(times) > _FEWEST_STEPS or spent > self._seconds / 2):
            larger = min(batch, number * _GROWTH) if typical * batch / number > self._seconds else batch
            # A larger part costs at most in proportion; a warm-up and a step of it must be affordable.
            if len(self._times) == 1 or spent + 2 * typical * larger / number < 2 * self._seconds:
                return larger
        enough = len(times) > _FEWEST_STEPS and spent > self._seconds
        too_slow = len(times) > 1 and spent > 2 * self._seconds
        return None if enough or too_slow or len(times) > _MOST_STEPS else number

    def result(self, checkpoint_seconds: float | None) -> StepTime:
        return StepTime(
            seconds=whole_batch_seconds(self._times, self._run.batch_sequences),
            build_seconds=self._build_seconds,
            checkpoint_seconds=checkpoint_seconds,
            measured_sequences=max(self._times),
            num_steps=sum(len(times) for times in self._times.values()),
        )


def whole_batch_seconds(times: Mapping[int, Sequence[float]], batch_sequences: int) -> float:
    """Return the seconds of a step over the whole batch, from steps over some of its sequences.

    Args:
        times: Number of sequences -> seconds of each step, the first of which is a warm-up and is left out unless it is
            the only one; the median of the others counts.
        batch_sequences: Sequences of the whole batch.

    Returns:
        The extrapolation of the line through the two largest numbers of sequences; of one alone, in proportion.

    Example:
        >>> whole_batch_seconds({1: [9.0, 2.0], 4: [9.0, 5.0]}, batch_sequences=10)
        11.0
    """
    typical = {number: median(seconds[1:] or seconds) for number, seconds in times.items()}
    largest = max(typical)
    before = max((number for number in typical if number < largest), default=0)
    rise = (typical[largest] - typical.get(before, 0.0)) / (largest - before)
    return typical[largest] + max(0.0, rise) * (batch_sequences - largest)
