"""One attempt at a run: in this process, or as a process of its own, to be killed."""

from __future__ import annotations

import itertools
from pathlib import Path

from conftest import tiny_run

from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.records.layout import RunPaths
from memscale.training.trainer import Execution, TrainResult, train


def attempt(data_folder: Path, root: Path, family: str, num_steps: int) -> None:
    """Train on one thread with a checkpoint after every step, until done or killed."""
    prepared = Prepared.open(data_folder)
    execution = Execution(device="cpu", threads=1, checkpoint_seconds=1e-9)
    run = tiny_run(prepared, family, num_steps=num_steps)
    train(run, RunPaths(root), prepared, execution, on_progress=lambda _: None, should_stop=lambda: False)


def do(
    run: Run, root: Path, prepared: Prepared, stop_after: int | None = None, **how: int | float | str
) -> TrainResult:
    """Train in this process until done, or stop before the step that follows `stop_after` of them."""
    calls = itertools.count()
    return train(
        run,
        RunPaths(root),
        prepared,
        Execution(device="cpu", **how),
        on_progress=lambda _: None,
        should_stop=lambda: next(calls) == stop_after,
    )
