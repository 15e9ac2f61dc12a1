"""What a sweep has used so far, from the files of its runs: finished attempts whole, others up to now."""

from __future__ import annotations

from collections.abc import Iterable

from memscale.records.attempts import attempt_numbers, read_outcome, started_at
from memscale.records.layout import RunPaths
from memscale.records.lease import is_held


def gpu_hours(runs: Iterable[tuple[RunPaths, int]], *, now: float) -> float:
    """Return hours of all GPUs of all attempts (of jobs, where they have none) of runs, each with its number of GPUs.
    `now` is Unix seconds."""
    seconds = 0.0
    for paths, gpus in runs:
        for number in attempt_numbers(paths):
            outcome = read_outcome(paths, number)
            if outcome is not None:
                seconds += gpus * max(0.0, outcome.ended - outcome.started)
            elif is_held(paths.lease):
                seconds += gpus * max(0.0, now - started_at(paths, number))
    return seconds / 3600
