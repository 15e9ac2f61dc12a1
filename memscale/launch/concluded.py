"""Whether a sweep's report was built from the results that lie there: two processes that end a sweep build it once.

A note holds a digest of what was there: each run's result, by its stamp, how many attempts the run had, and which runs
were damaged.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

from memscale.errors import RecordError
from memscale.launch.finished_runs import damaged_runs
from memscale.launch.stages import run_paths
from memscale.planning.plan import Plan
from memscale.records.atomic import read_json, write_json
from memscale.records.attempts import attempt_numbers
from memscale.records.layout import SweepPaths

_FORMAT = 1


def mark_concluded(paths: SweepPaths, plan: Plan, state: str) -> None:
    """Note that report and mirror were made of the results that `state_of_results` gave `state` for."""
    write_json(paths.concluded, {"plan_hash": plan.plan_hash, "state": state}, format=_FORMAT)


def was_concluded(paths: SweepPaths, plan: Plan) -> bool:
    """Whether report and mirror were made of the very results that are there."""
    with suppress(RecordError):
        noted = read_json(paths.concluded, format=_FORMAT).get("state")
        return paths.report.exists() and noted == state_of_results(paths, plan)
    return False


def state_of_results(paths: SweepPaths, plan: Plan) -> str:
    """Return a digest of which runs have which results and how many attempts, and which are damaged."""
    digest = hashlib.sha256(repr((plan.plan_hash, damaged_runs(paths, plan))).encode())
    for run in plan.runs:
        if run.run_id is not None:
            folder = run_paths(paths, run)
            try:
                found = folder.result.stat()
                stamp = (found.st_size, found.st_mtime_ns, found.st_ino)
            except OSError:
                stamp = (0, 0, 0)
            digest.update(repr((run.run_id, stamp, sum(1 for _ in attempt_numbers(folder)))).encode())
    return digest.hexdigest()
