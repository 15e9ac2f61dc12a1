"""One attempt at a run as a process of its own, to be killed."""

from __future__ import annotations

from pathlib import Path

from conftest import tiny_run

from memscale.data.prepared import Prepared
from memscale.records.layout import RunPaths
from memscale.training.trainer import Execution, train


def attempt(data_folder: Path, root: Path, family: str, num_steps: int) -> None:
    """Train on one thread with a checkpoint after every step, until done or killed."""
    prepared = Prepared.open(data_folder)
    execution = Execution(device="cpu", threads=1, checkpoint_seconds=1e-9)
    run = tiny_run(prepared, family, num_steps=num_steps)
    train(run, RunPaths(root), prepared, execution, on_progress=lambda _: None, should_stop=lambda: False)
