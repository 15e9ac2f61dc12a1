"""Trains one run to its end, or until it has to stop; it can be killed at any moment.

Each step is one batch, one gradient, one clipping and one update; at intervals follow a line of metrics, a validation,
a report and a checkpoint; where weights are averaged, the mean replaces them after the last step. Metrics up to a step
are on the disk before its checkpoint is; a resumed run truncates them to the checkpoint it starts from, so no step is
in them twice, and notes how many lines it lost where the file was damaged. On the CPU a resumed run computes, bit for
bit, what an undisturbed one does. Prepared data other than the run's are a DataError.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing

import torch

from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.errors import DataError
from memscale.kernels.table_placement import TablePlacement
from memscale.planning.identity import run_id
from memscale.records.layout import RunPaths
from memscale.records.metrics import MetricsLog, cut_back
from memscale.training import checkpoint, micro_batch
from memscale.training.batch_balance import BatchBalance
from memscale.training.batch_norms import batch_norms
from memscale.training.buffers import after_step_hooks, clone_buffers, restore_buffers
from memscale.training.building import build_model
from memscale.training.checkpoint import State
from memscale.training.disk import explain_full_disk
from memscale.training.distributed import SINGLE_PROCESS, ProcessGroup
from memscale.training.execution import (
    Execution,
    describe_hardware,
    free_memory_bytes,
    peak_memory_bytes,
    prepare_device,
)
from memscale.training.metrics import MetricsWindow, Validation, Validator
from memscale.training.micro_batch import BatchLoss
from memscale.training.optimizers import build_optimizer
from memscale.training.progress import Progress, Reporter
from memscale.training.result import TrainResult
from memscale.training.schedules import lr_factor, table_factor
from memscale.training.weight_average import WeightAverage

__all__ = ["Execution", "Progress", "TrainResult", "train", "validation_steps"]

TRAIN_LINES = 200
"""Training lines of a run, at most: each is the mean over the steps since the one before it."""

log = logging.getLogger(__name__)


def train(
    run: Run,
    paths: RunPaths,
    prepared: Prepared,
    execution: Execution,
    *,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> TrainResult:
    """Train `run` in the folder `paths` from its newest checkpoint, or from its start. Needs the run's lease.

    Args:
        run: What to train.
        paths: The run's folder.
        prepared: The run's data.
        execution: Device, threads, micro-batch, checkpoint interval.
        on_progress: Called with a report about once a second.
        should_stop: Called before every step, in the main process.
        process_group: The processes that share each batch; the main one writes.

    Raises:
        DataError: `prepared` is not the run's data.
        ConfigError: The device does not exist, or there are more processes than sequences.
        CheckpointError: There are checkpoints and none is good.
        DiskFullError: There is no space for metrics or a checkpoint.
        OutOfMemoryError: Not even one sequence fits into memory.
        PeerLostError: Another process is gone.
    """
    _check_data(run, prepared)
    training = _Training(run, paths, prepared, execution, process_group)
    return training.result(training.loop(on_progress, should_stop))


def validation_steps(num_steps: int, validations: int) -> frozenset[int]:
    """Return the steps after which to validate: evenly spaced, the last one the end; at least the end.

    Example:
        >>> sorted(validation_steps(100, 3))
        [34, 67, 100]
    """
    count = max(1, validations)
    return frozenset(-(-num_steps * (i + 1) // count) for i in range(count))


class _Training:
    """The state of one attempt."""

    def __init__(
        self, run: Run, paths: RunPaths, prepared: Prepared, execution: Execution, process_group: ProcessGroup
    ) -> None:
        self._run, self._paths, self._execution, self._process_group = run, paths, execution, process_group
        self._device = prepare_device(execution)
        folder = paths.root / ("tables" if process_group.is_main else f"tables-{process_group.rank}")
        tables = TablePlacement(kind=execution.table_memory, folder=folder)
        self._model = build_model(run, device=self._device, table_placement=tables)
        self._optimizer = build_optimizer(self._model, run.optimizer)
        self._after_step = after_step_hooks(self._model)
        self._average = WeightAverage(self._model, self._optimizer, run.average, run.num_steps)
        self._sampler = prepared.sampler(
            seed=run.seed, sequence_length=run.sequence_length, batch_sequences=run.batch_sequences
        )
        self._validator = Validator(prepared, run.sequence_length, self._device)
        self._validation: Validation | None = None
        self._validation_steps = validation_steps(run.num_steps, run.validations)
        self._line_every = math.ceil(run.num_steps / TRAIN_LINES)
        self._resume()

    def _resume(self) -> None:
        """Load the newest checkpoint, or start; truncate the metrics to the same step."""
        with self._process_group.main_process_first():
            state = checkpoint.restore(self._paths.checkpoints, self._run, self._model, self._optimizer, self._average)
        hardware = describe_hardware(self._device, self._process_group.size)
        if state is None:
            state = State(step=0, micro_batch_sequences=self._first_micro_batch(), hardware=hardware)
        elif state.hardware != hardware:
            log.warning(
                "started on %s and resumed on %s: the same run, but sums may round differently",
                state.hardware,
                hardware,
            )
        self._process_group.check_equal("the checkpoint of step", state.step)
        self._step, self._saved_step = state.step, state.step
        self._micro_batch = state.micro_batch_sequences
        self._train_seconds, self._peak_memory = state.train_seconds, state.peak_memory_bytes
        self._window = MetricsWindow(self._device, state.window)
        self._loss: float | None = None
        self._lost_lines = 0
        if self._process_group.is_main:
            # A line of step 0 would belong to a start, not to a checkpoint.
            kept = cut_back(self._paths.metrics, state.step if state.step > 0 else -1, run_id(self._run))
            self._lost_lines = max(0, (state.metrics_lines or 0) - kept)

    def _first_micro_batch(self) -> int:
        return micro_batch.max_micro_batch(
            self._model,
            self._run.sequence_length,
            self._process_group.max_local_batch(self._run.batch_sequences),
            free_bytes=free_memory_bytes(self._device),
            most=self._execution.micro_batch_sequences,
        )

    def loop(self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> str:
        """Train until the end, a stop or a divergence; return which."""
        run = self._run
        reporter = Reporter(on_progress, run.num_steps, run.batch_tokens, self._step)
        reporter.report(self._step, None, at_once=True)
        saved_at = time.monotonic()
        lines = MetricsLog(self._paths.metrics if self._process_group.is_main else None, run_id(run))
        with explain_full_disk(self._paths.root, "metrics"), closing(lines) as self._lines:
            if self._lost_lines:
                log.warning("%s has lost %d lines to damage; the run goes on", self._paths.metrics, self._lost_lines)
                self._lines.add(self._step, self._tokens, "record", lines_lost=self._lost_lines)
            while self._step < run.num_steps:
                late = time.monotonic() - saved_at > self._execution.checkpoint_seconds
                stop, save = self._process_group.broadcast_flags(should_stop(), late)
                if save and not self._window.read().finite:
                    return "diverged"
                if stop:
                    return self._save("stopped")
                if save:
                    self._save("running")
                    saved_at = time.monotonic()
                if not (self._train_step() and self._validate()):
                    return "diverged"
                reporter.report(self._step, self._loss)
            if self._validation is None:  # resumed from the very end, where it was measured and logged before
                self._validation = self._validator.measure(self._model, self._micro_batch)
            status = self._save("done")
        reporter.report(self._step, self._loss, at_once=True)
        return status

    def _train_step(self) -> bool:
        """Take one optimizer step; return whether it was finite, as far as that was checked."""
        run, started = self._run, time.perf_counter()
        tokens_BT = self._process_group.shard(torch.from_numpy(self._sampler.batch(self._step))).to(self._device)
        loss = self._process_group.all_reduce_gradients(self._model, self._optimizer, self._gradients(tokens_BT))
        norm = self._optimizer.clip(run.optimizer.clip_norm)
        self._optimizer.step(lr_factor(run.schedule, self._step, run.num_steps), table_factor(run, self._step))
        for move in self._after_step:
            move()
        self._optimizer.clear_gradients()
        self._step += 1
        self._average.after_step(self._step)
        self._window.add(loss, norm)
        finite = True
        if self._step % self._line_every == 0 or self._step in self._validation_steps:
            finite = self._write_line()
        self._train_seconds += time.perf_counter() - started
        return finite

    def _gradients(self, tokens_BT: torch.Tensor) -> BatchLoss:
        """Compute the gradient of these sequences, in smaller parts whenever a GPU runs out of memory."""
        whole = self._run.batch_sequences
        before, balance = clone_buffers(self._model), BatchBalance(self._model, self._process_group.sum_counts)
        alone = self._process_group.size == 1 or not batch_norms(self._model)
        while True:
            try:
                return micro_batch.accumulate_gradients(self._model, tokens_BT, self._micro_batch, whole, balance)
            except torch.OutOfMemoryError as error:
                self._micro_batch = micro_batch.halved(self._micro_batch, error, alone=alone)
            micro_batch.release(self._optimizer)
            restore_buffers(self._model, before)  # parts that went through will go through again

    def _write_line(self) -> bool:
        """Write the means since the last line; return whether they are finite."""
        sums = self._window.read()
        run, step = self._run, self._step - 1
        rates = {"learning_rate": run.optimizer.learning_rate * lr_factor(run.schedule, step, run.num_steps)}
        if run.table_schedule is not None:
            assert run.optimizer.table_learning_rate is not None, "Run refuses a table's schedule without a table"
            rates["table_learning_rate"] = run.optimizer.table_learning_rate * table_factor(run, step)
        self._loss = sums.means()["loss"]
        self._lines.add(self._step, self._tokens, "train", **sums.means(), **rates)
        self._lines.flush()
        self._window.clear()
        return sums.finite

    def _validate(self) -> bool:
        """Validate if it is due; return whether the losses are finite."""
        if self._step not in self._validation_steps:
            return True
        self._validation = self._validator.measure(self._model, self._micro_batch)
        self._lines.add(self._step, self._tokens, "validation", **self._validation.figures())
        for part in (*self._run.architecture.parts, "loop"):
            usage = {name: value for name, value in self._validation.usage.items() if name.startswith(f"{part}_")}
            if usage:
                self._lines.add(self._step, self._tokens, part, **usage)
        return self._validation.finite

    def _save(self, status: str) -> str:
        """Write a checkpoint of this step, its metrics first, unless there is one; return `status`.

        Before the run's last checkpoint all pending updates of table rows are applied.
        """
        if self._step == self._run.num_steps:
            self._optimizer.flush()
        self._peak_memory = max(self._peak_memory, peak_memory_bytes(self._device))
        if self._step > self._saved_step:
            self._lines.flush(durable=True)
            state = State(
                step=self._step,
                micro_batch_sequences=self._micro_batch,
                hardware=describe_hardware(self._device, self._process_group.size),
                train_seconds=self._train_seconds,
                peak_memory_bytes=self._peak_memory,
                window=self._window.read(),
                metrics_lines=self._lines.num_lines,
            )
            if self._process_group.is_main:
                checkpoint.save(self._paths.checkpoints, self._run, self._model, self._optimizer, state, self._average)
            self._saved_step = self._step
        return status

    @property
    def _tokens(self) -> int:
        return self._step * self._run.batch_tokens

    def result(self, status: str) -> TrainResult:
        return TrainResult(
            status=status,
            model=self._model,
            device=self._device,
            step=self._step,
            tokens=self._tokens,
            validation=self._validation if status == "done" else None,
            train_seconds=self._train_seconds,
            tokens_per_second=self._tokens / self._train_seconds if self._train_seconds > 0 else 0.0,
            micro_batch_sequences=self._micro_batch,
            peak_memory_bytes=max(self._peak_memory, peak_memory_bytes(self._device)),
        )


def _check_data(run: Run, prepared: Prepared) -> None:
    held = prepared.manifest.digests
    if held != run.digests:
        raise DataError(
            f"the run was planned for data {run.digests.data[:12]}, but {prepared.folder} holds {held.data[:12]} (or "
            "another tokenizer or evaluation set). Prepare the run's own data"
        )
    if prepared.vocab_size != run.architecture.vocab_size:
        raise DataError(
            f"the model has {run.architecture.vocab_size} tokens in its vocabulary, {prepared.folder} has "
            f"{prepared.vocab_size}. Give data.tokenizer.vocab_size and the model's vocabulary the same number"
        )
