"""What a plan said it could tell, before its runs were made: the file `resolution.json` of a sweep's folder.

`{"format": 1, "rows": [{"measure": COLUMN, "subject": SERIES, "baseline": SERIES, "at": "largest" | "mean",
"smallest_difference": NUMBER, "unit": TEXT, "noise_std": NUMBER, "source": "measured" | "assumed", "num_seeds": N}]}`,
written when the sweep is launched. The report sets it beside what was reached. Other keys are left alone.

Refuses a file that is no such JSON, or of a newer format.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.errors import TableError

NAME = "resolution.json"
FORMAT = 1
LARGEST, MEAN = "largest", "mean"


@dataclass(frozen=True, kw_only=True)
class PlannedResolution:
    """The smallest difference between two series that the plan would see with 80 % power."""

    measure: str
    """Column of the results table."""
    subject: str
    baseline: str
    at: str
    """`largest` (budget that both have) or `mean` (over the budgets that both have)."""
    smallest_difference: float
    unit: str
    noise_std: float
    """Of one run, as the plan took it."""
    source: str
    """`measured` or `assumed`."""
    num_seeds: int


def read_resolution(path: Path) -> tuple[PlannedResolution, ...]:
    """What was stated; empty where there is no such file. Raises TableError."""
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = int(content["format"])
        if found > FORMAT:
            raise TableError(f"{path} has format {found}, newer than {FORMAT}: use the version that wrote it")
        return tuple(_row(row) for row in content["rows"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"{path} is not the resolution of a plan ({type(error).__name__}: {error}). It is written when a sweep is"
            " launched; delete it to have a report without what was planned"
        ) from None


def stated(
    rows: Sequence[PlannedResolution], measure: str, subject: str, baseline: str, at: str = LARGEST
) -> PlannedResolution | None:
    """The row of a comparison, whichever of the two is the subject; None where the plan has none."""
    for row in rows:
        if row.measure == measure and row.at == at and {row.subject, row.baseline} == {subject, baseline}:
            return row
    return None


def _row(row: dict[str, Any]) -> PlannedResolution:
    if row["at"] not in (LARGEST, MEAN):
        raise ValueError(f"at is '{row['at']}', and must be '{LARGEST}' or '{MEAN}'")
    return PlannedResolution(
        measure=str(row["measure"]),
        subject=str(row["subject"]),
        baseline=str(row["baseline"]),
        at=str(row["at"]),
        smallest_difference=float(row["smallest_difference"]),
        unit=str(row["unit"]),
        noise_std=float(row["noise_std"]),
        source=str(row["source"]),
        num_seeds=int(row.get("num_seeds", 0)),
    )
