"""`memscale evaluate RUN_DIRECTORY`: evaluate a trained run's last weights on its tasks again, or on others.

Prints the scores; the run's result stays as it is.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from memscale import api
from memscale.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("directory", metavar="RUN_DIRECTORY", type=Path, help="runs/<sweep>/<run>-<run_id>")
    parser.add_argument("--task", action="append", help="a task's name, as often as wanted; without it, all by default")
    parser.add_argument("--device", default="cpu")
    arguments.add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Run the verb; return its exit status."""
    found = api.evaluate(given.directory, given.task, device=given.device)
    if given.json:
        scores = {task: {name: asdict(score) for name, score in one.items()} for task, one in found.scores.items()}
        print(json.dumps({"format": 1, "run_id": found.run_id, "step": found.step, "scores": scores}, indent=1))
        return 0
    print(f"{found.name} after {found.step} of {found.num_steps} steps")
    for task, metrics in found.scores.items():
        for name, score in metrics.items():
            error = f" ± {score.stderr:.3g}" if score.stderr is not None else ""
            print(f"  {task} {name}: {score.value:.4g}{error} ({score.num_samples} samples)")
    return 0
