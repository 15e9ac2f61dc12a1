"""Evaluates the newest weights of a trained run again, on its own tasks or on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memscale.launch.planned import planned_run
from memscale.records.inspection import read_whole_run

if TYPE_CHECKING:
    from memscale.evaluation.scores import Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a run's weights."""

    name: str
    run_id: str
    step: int
    """Optimizer steps after which these weights were saved."""
    num_steps: int
    """Optimizer steps of the whole run."""
    scores: Mapping[str, Mapping[str, Score]]
    """Task -> metric -> score."""


def evaluate_run(directory: Path, tasks: Sequence[str] | None, device: str) -> Evaluation:
    """Evaluate the newest checkpoint of the run in `directory`; the run's result stays as it is.

    Args:
        directory: The run's folder.
        tasks: Names of tasks; None: all that its data offers by default.
        device: `cpu` or `cuda`.

    Raises:
        RecordError: `directory` is no run's folder, or has no checkpoint that can be read.
        ConfigError: A task is not known.

    """
    paths, _ = planned_run(directory)
    from memscale.data.prepared import Prepared
    from memscale.evaluation.measure import evaluate
    from memscale.launch.budget_data import data_of_run
    from memscale.training.building import build_model
    from memscale.training.checkpoint import load_weights

    file, _ = read_whole_run(paths)
    prepared = Prepared.open(data_of_run(paths, file.run.digests))
    prepared.verify_once()
    model = build_model(file.run)
    step = load_weights(paths.checkpoints, file.run, model)
    scores = evaluate(
        model,
        prepared,
        list(tasks) if tasks is not None else None,
        sequence_length=file.run.sequence_length,
        batch_sequences=file.run.batch_sequences,
        device=device,
    )
    return Evaluation(name=file.name, run_id=file.run_id, step=step, num_steps=file.run.num_steps, scores=scores)
