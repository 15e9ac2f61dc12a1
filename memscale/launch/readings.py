"""What a report has to know of how its sweep was planned and read: counted and checked just before it is built.

The analysis takes both from files of the sweep's folder, `looks.json` and `resolution.json`. A damaged one is set aside
and said, so that the report is built all the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from memscale.errors import RecordError
from memscale.records.access import REFUSED
from memscale.records.layout import SweepPaths
from memscale.records.looks import Look, design_hash, record_look
from memscale.records.plan_file import PlanFile
from memscale.records.resolution_file import check_statement
from memscale.records.results import Row

_ENDED = ("done", "diverged", "failed")
"""What a row says of a run that changes no more by itself."""


def count_reading(paths: SweepPaths, plan: PlanFile, rows: Sequence[Row]) -> list[str]:
    """Record with which seeds the report is read; return what a reader must know of the record, a sentence each.

    Counted are the seeds of which every compared run has ended. Who may only read the folder records nothing.
    """
    compared = [row for row in plan.runs if row.stage == "compare"]
    ended = {str(row["name"]) for row in rows if row["status"] in _ENDED}
    waiting = {row.seed for row in compared if row.name not in ended}
    seeds = tuple(sorted({row.seed for row in compared} - waiting))
    look = Look(seeds=seeds, plan_hash=plan.plan_hash, time=round(time.time(), 3))
    doubts = []
    try:
        try:
            record_look(paths, design_hash(compared), look)
        except RecordError as error:
            doubts.append(f"How often this report was read before is not known: {error}.")
        try:
            check_statement(paths)
        except RecordError as error:
            doubts.append(f"What the plan said it could tell is not known: {error}.")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
    return doubts
