"""Checkpoints: folders `step-<n>` of safetensors and JSON, whole or absent, each file with its SHA-256.

A folder is written under a temporary name, fsynced and renamed; the last two are kept. When one is loaded, everything
is verified (checksums, run, names, shapes, types) before the first value is copied. A checkpoint that fails is renamed
to `damaged-step-<n>` with a warning, and the one before it is loaded. Checkpoints none of which is good, and those of
another run, are a CheckpointError. Nothing is unpickled, and no random state is needed: the data are a pure function of
(seed, step).
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from memscale.config.codec import from_plain, to_plain
from memscale.config.run import Run
from memscale.errors import CheckpointError, ConfigError
from memscale.models.transformer import Transformer
from memscale.records.atomic import fsync_directory, write_json
from memscale.training.buffers import persistent_buffers
from memscale.training.checkpoint_files import (
    FORMAT,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    checked_state,
    discard,
    numbered,
    set_aside,
)
from memscale.training.disk import explain_full_disk
from memscale.training.metrics import WindowSums
from memscale.training.optimizers import AdamW, build_optimizer
from memscale.training.schedules import table_factor
from memscale.training.tensor_file import write_tensors
from memscale.training.weight_average import PREFIX, WeightAverage

KEPT = 2
"""Checkpoints kept: the newest, and the one to fall back to."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class State:
    """What a run needs besides its tensors to continue as if it had never stopped."""

    step: int
    """Optimizer steps done."""
    micro_batch_sequences: int
    hardware: str
    """What decides rounding, as `execution.describe_hardware` returns it."""
    train_seconds: float = 0.0
    """Seconds in the steps so far; work lost to a crash is not included."""
    peak_memory_bytes: int = 0
    window: WindowSums = field(default_factory=WindowSums)
    metrics_lines: int | None = None
    """Lines of the metrics up to this step; None: an earlier version did not count them."""


def save(
    folder: Path,
    run: Run,
    model: Transformer,
    optimizer: AdamW,
    state: State,
    average: WeightAverage | None = None,
) -> Path:
    """Write the checkpoint of `state.step` into `folder`, remove all but the last two, and return its path.

    `average` is the run's running mean of weights, where it has one.

    Raises:
        DiskFullError: There is no space; earlier checkpoints are unchanged.
    """
    with explain_full_disk(_existing(folder), f"the checkpoint of step {state.step}"):
        clear_leftovers(folder)
        aside = folder / f".step-{state.step}.tmp"
        aside.mkdir()
        try:
            _write(aside, run, model, {**optimizer.state(), **_means(average, state)}, state)
            final = folder / f"step-{state.step}"
            discard(final)
            os.rename(aside, final)
            fsync_directory(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    for _, old in numbered(folder)[:-KEPT]:
        discard(old)
    return final


def restore(
    folder: Path, run: Run, model: Transformer, optimizer: AdamW, average: WeightAverage | None = None
) -> State | None:
    """Load the newest good checkpoint into model and optimizer; return its state, or None if there is no checkpoint.

    `average` is the run's running mean of weights, where it has one; it is loaded too.

    Raises:
        CheckpointError: There are checkpoints and none is good.
    """
    clear_leftovers(folder)
    faults: list[str] = []
    for _, path in reversed(numbered(folder)):
        try:
            state = _load(path, run, model, optimizer, average)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        for fault, (_, newer) in zip(faults, reversed(numbered(folder)), strict=False):
            log.warning("%s; set aside, resuming from step %d", fault, state.step)
            set_aside(newer)
        return state
    if faults:
        raise CheckpointError(
            f"none of the {len(faults)} checkpoints in {folder} is good: {'; '.join(faults)}. "
            "Put a good copy back, or remove that folder to train this run from its start"
        )
    return None


def load_weights(folder: Path, run: Run, model: Transformer) -> int:
    """Load the newest checkpoint's weights into `model`, for evaluation or export, and return its step.

    Tables get all pending updates of their rows.

    Args:
        folder: The run's folder of checkpoints.
        run: The run that the checkpoint must be of.
        model: A model of the run's architecture; its weights are overwritten.

    Raises:
        CheckpointError: There is no checkpoint, or the newest one is damaged or of another run.

    Example:
        >>> import tempfile
        >>> from memscale.config.architecture import Architecture
        >>> from memscale.config.optimizer import Optimizer, Schedule
        >>> from memscale.config.run import Digests
        >>> from memscale.models.transformer import build
        >>> run = Run(
        ...     architecture=Architecture(
        ...         family="dense", d_model=8, num_layers=1, num_heads=2, num_kv_heads=2, head_width=4, ffn_hidden=16,
        ...         vocab_size=50,
        ...     ),
        ...     optimizer=Optimizer(learning_rate=0.01), schedule=Schedule(), tokens=64, batch_tokens=32,
        ...     sequence_length=8, seed=0, validations=1, digests=Digests(data="d", tokenizer="t", evaluation="e"),
        ... )
        >>> trained = build(run.architecture, seed=0)
        >>> state = State(step=2, micro_batch_sequences=4, hardware="cpu, threads 1")
        >>> model = build(run.architecture, seed=9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(Path(folder), run, trained, build_optimizer(trained, run.optimizer), state)
        ...     step = load_weights(Path(folder), run, model)
        >>> step, torch.equal(model.embedding.weight, trained.embedding.weight)
        (2, True)
    """
    found = numbered(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint; train the run first")
    path = found[-1][1]
    state, weights, kept = _verified(path, run)
    if run.architecture.has_table:
        optimizer = build_optimizer(model, run.optimizer)
        kept = {name: tensor for name, tensor in kept.items() if not name.startswith(PREFIX)}
        _fill(path, state, run, (weights, kept), model, optimizer, {})
        optimizer.flush()
        optimizer.detach()
    else:
        _check_tensors(path / MODEL, weights, _weights(model))
        _copy(weights, _weights(model))
    return state.step


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers left: checkpoints half written or half removed. Needs the run's lease."""
    for path in folder.glob(".*step-*"):
        shutil.rmtree(path)


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(aside: Path, run: Run, model: Transformer, kept: Mapping[str, torch.Tensor], state: State) -> None:
    sums = {
        MODEL: write_tensors(aside / MODEL, _weights(model)),
        OPTIMIZER: write_tensors(aside / OPTIMIZER, kept),
    }
    write_json(aside / STATE, {"state": to_plain(state), "run": to_plain(run)}, format=FORMAT)
    sums[STATE] = hashlib.sha256((aside / STATE).read_bytes()).hexdigest()
    write_json(aside / MANIFEST, {"sha256": sums}, format=FORMAT)
    fsync_directory(aside)


def _load(path: Path, run: Run, model: Transformer, optimizer: AdamW, average: WeightAverage | None) -> State:
    state, weights, kept = _verified(path, run)
    _fill(path, state, run, (weights, kept), model, optimizer, _means(average, state))
    return state


def _means(average: WeightAverage | None, state: State) -> dict[str, torch.Tensor]:
    return average.state(state.step) if average is not None else {}


def _fill(
    path: Path,
    state: State,
    run: Run,
    saved: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]],
    model: Transformer,
    optimizer: AdamW,
    means: Mapping[str, torch.Tensor],
) -> None:
    """Check saved weights and optimizer state, with running means of weights, against the model's, then copy them."""
    weights, kept = saved
    needed = {**optimizer.state(), **means}
    _check_tensors(path / MODEL, weights, _weights(model))
    _check_tensors(path / OPTIMIZER, kept, needed)
    _copy(weights, _weights(model))
    _copy(kept, needed)
    optimizer.resume([table_factor(run, step) for step in range(state.step)])


def _verified(path: Path, run: Run) -> tuple[State, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return state, weights and optimizer state of a checkpoint whose every file is as it was written."""
    named = checked_state(path, run)
    try:
        return from_plain(State, named), load_file(path / MODEL), load_file(path / OPTIMIZER)
    except (ConfigError, SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error})") from error


def _check_tensors(path: Path, saved: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor]) -> None:
    if missing := sorted(needed.keys() ^ saved.keys()):
        raise CheckpointError(f"{path} and the model do not have the same tensors: {', '.join(missing[:5])}")
    for name, tensor in needed.items():
        have, need = _form(saved[name]), _form(tensor)
        if have != need:
            raise CheckpointError(f"{path}: {name} is {have}, the model needs {need}")


def _form(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _copy(saved: Mapping[str, torch.Tensor], into: Mapping[str, torch.Tensor]) -> None:
    # Copied into tensors that torch allocated, because matrix libraries may round differently at another alignment.
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(saved[name])


def _weights(model: Transformer) -> dict[str, torch.Tensor]:
    """Return the trained tensors by name: parameters, tied ones once, and persistent buffers."""
    return {**dict(model.named_parameters()), **persistent_buffers(model)}
