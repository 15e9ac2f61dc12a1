"""`memscale evaluate RUN_DIRECTORY`: put a trained run's last weights to its tasks again, or to others.

Prints the scores; the run's result stays as it is.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from memscale.cli import arguments
from memscale.cli.train import planned_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="RUN_DIRECTORY", type=Path, help="runs/<sweep>/<run>-<run_id>")
    parser.add_argument("--task", action="append", help="a task's name, as often as wanted; without it, all by default")
    parser.add_argument("--device", default="cpu")
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    paths, plan = planned_run(given.directory)
    from memscale.data.prepared import Prepared
    from memscale.evaluation.measure import evaluate
    from memscale.records.run_file import read_run_file
    from memscale.training.building import build_model
    from memscale.training.checkpoint import load_weights

    file = read_run_file(paths.run)
    model = build_model(file.run)
    step = load_weights(paths.checkpoints, file.run, model)
    scores = evaluate(
        model,
        Prepared.open(Path(plan.data_folder)),
        given.task,
        sequence_length=file.run.sequence_length,
        batch_sequences=file.run.batch_sequences,
        device=given.device,
    )
    if given.json:
        plain = {task: {name: asdict(score) for name, score in metrics.items()} for task, metrics in scores.items()}
        print(json.dumps({"format": 1, "run_id": file.run_id, "step": step, "scores": plain}, indent=1))
        return 0
    print(f"{file.name} after {step} of {file.run.num_steps} steps")
    for task, metrics in scores.items():
        for name, score in metrics.items():
            error = f" ± {score.stderr:.3g}" if score.stderr is not None else ""
            print(f"  {task} {name}: {score.value:.4g}{error} ({score.num_samples} samples)")
    return 0
