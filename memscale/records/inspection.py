"""Whether the files of a run are its own and whole, as every verb that shows a run or uses its numbers asks.

1. With a result: the result is whole and the run's own, and so is every file that it vouches for.
2. Without one: `run.json` is whole and the run's own, and no attempt says that it wrote a result.

Of a run that is damaged no number is used. Heartbeats, logs, leases and attempts are no part of it: what of them cannot
be read is shown as unknown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memscale.errors import RecordError
from memscale.records.atomic import parse_json, read_bytes
from memscale.records.attempts import attempt_numbers, read_outcome
from memscale.records.layout import RunPaths
from memscale.records.result_file import Result, check_files, read_result
from memscale.records.run_file import FORMAT as RUN_FORMAT
from memscale.records.run_file import RunFile, read_run_file
from memscale.records.seal import check_seal

WRITES_RESULT = ("done", "diverged")
"""Causes of an attempt's end after which there is a result."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found of a run's files."""

    damage: str = ""
    """What is wrong, with the file; '' where nothing is."""
    result: Result | None = None
    """Its result; None without one, or where the run is damaged."""


def inspect(paths: RunPaths) -> Inspection:
    """Look at the files of a run: `run.json`, `result.json` and what it vouches for. Reads each once."""
    try:
        if os.path.lexists(paths.result):
            result = read_result(paths)
            if result.files:
                check_files(paths, result)
            else:
                _check_run_file(paths)
            return Inspection(result=result)
        if paths.root.is_dir():
            _check_run_file(paths)
            _check_no_result(paths)
        elif paths.root.exists():
            raise RecordError(f"{paths.root} is a file; the folder of a run needs its place")
    except RecordError as error:
        return Inspection(damage=str(error))
    return Inspection()


def had_result(paths: RunPaths) -> bool:
    """Whether a run has a result, in whatever state, or an attempt of it wrote one."""
    if os.path.lexists(paths.result):
        return True
    outcomes = (read_outcome(paths, number) for number in attempt_numbers(paths))
    return any(outcome is not None and outcome.cause in WRITES_RESULT for outcome in outcomes)


def read_whole_run(paths: RunPaths) -> tuple[RunFile, Result | None]:
    """Read `run.json` and the result of a run whose files are its own and whole. Raises RecordError for any other."""
    seen = inspect(paths)
    if seen.damage:
        raise RecordError(seen.damage)
    file = read_run_file(paths.run)
    if paths.run_id is not None and file.run_id != paths.run_id:
        raise RecordError(f"{paths.run} is of the run {file.run_id}, not of {paths.run_id}; it was copied here")
    return file, seen.result


def _check_run_file(paths: RunPaths) -> None:
    """Check a run's `run.json` without building what it describes: of thousands of runs there is no time for that."""
    raw = read_bytes(paths.run)
    content = parse_json(paths.run, raw, format=RUN_FORMAT)
    check_seal(paths.run, raw)
    owner = content.get("run_id")
    if paths.run_id is not None and owner != paths.run_id:
        raise RecordError(f"{paths.run} is of the run {owner}, not of {paths.run_id}; it was copied here")


def _check_no_result(paths: RunPaths) -> None:
    last = max(attempt_numbers(paths), default=None)
    outcome = read_outcome(paths, last) if last is not None else None
    if outcome is None or outcome.cause not in WRITES_RESULT or outcome.ended <= _set_aside_at(paths):
        return
    if not paths.result.exists():  # it is written before the outcome: it may have come between the two looks
        raise RecordError(f"{paths.result} is missing, though attempt {last} wrote it")


def _set_aside_at(paths: RunPaths) -> float:
    """When files of the run were last set aside to train it again, in Unix seconds; 0 where they never were."""
    return max((path.stat().st_mtime for path in _set_aside_folders(paths)), default=0.0)


def _set_aside_folders(paths: RunPaths) -> Iterator[Path]:
    if paths.damaged.is_dir():
        yield from (path for path in paths.damaged.iterdir() if path.name.isdecimal())
