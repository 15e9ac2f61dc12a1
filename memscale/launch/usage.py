"""What a sweep has used so far, from the files of its runs: ended attempts whole, others up to now."""

from __future__ import annotations

from collections.abc import Iterable

from memscale.records.attempts import attempt_numbers, read_outcome, started_at
from memscale.records.layout import RunPaths
from memscale.records.lease import is_held


def gpu_hours(runs: Iterable[tuple[RunPaths, int]], *, now: float) -> float:
    """Return the GPU hours that runs have used; without GPUs, the hours of their processes.

    Args:
        runs: Each run's folder, and the number of its GPUs.
        now: Unix seconds, to which an attempt under way is counted.

    """
    seconds = 0.0
    for paths, gpus in runs:
        for number in attempt_numbers(paths):
            outcome = read_outcome(paths, number)
            if outcome is not None:
                seconds += gpus * max(0.0, outcome.ended - outcome.started)
            elif is_held(paths.lease):
                seconds += gpus * max(0.0, now - started_at(paths, number))
    return seconds / 3600
