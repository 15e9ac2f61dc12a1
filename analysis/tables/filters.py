"""Which rows a fit is given: rows are left out only by rules that the user gave, and each keeps its reason.

The rules, in the order in which they are applied: the status (a run that is not done has no final loss), the stage (a
sweep's tuning runs are not compared, unless the condition names their stage), the condition of --where, --drop-invalid,
--checkpoints final, --drop-duplicates, --best-of, --drop-highest. Refuses words of status it does not know: guessing
would count a crashed run as done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.errors import TableError
from analysis.tables.cells import place, source, text
from analysis.tables.columns import FAMILY, RATE, ColumnMap
from analysis.tables.expression import Where, parse
from analysis.tables.observations import Exclusion, Observations
from analysis.tables.replicates import numbered

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DONE = frozenset({"done", "finished", "complete", "completed", "success", "succeeded", "ok"})
STATUS_NAMES = ("status", "state")
"""Columns of the status, in lower case: W&B has State."""
DIVERGED = frozenset({"diverged", "nan"})
UNFINISHED = frozenset(
    {
        "failed", "error", "lost", "stopped", "killed", "crashed", "aborted", "interrupted", "cancelled", "canceled",
        "preempted", "preempting", "timeout", "damaged", "oom", "out_of_memory", "node_fail",
        "planned", "queued", "pending", "scheduled", "starting", "running",
    }
)  # fmt: skip
AUTO, CLUSTER, FINAL, INDEPENDENT = CHECKPOINTS = ("auto", "cluster", "final", "independent")
PARENT = "parent of other runs"
"""The status of an MLflow run that only groups others."""
SWEEP_COLUMNS = frozenset({"stage", "family", "run_id", "status"})
"""A table that has all of these is a sweep's results table, whose stages 'tune', 'tune-2', ... are not compared."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Rules that leave rows out; by default only runs without an end and a sweep's tuning runs are."""

    where: str | None = None
    drop_invalid: bool = False
    """Leave out rows with an empty, infinite, zero or negative value or with text in a number column, in place of
    refusing the table."""
    drop_duplicates: bool = False
    """Of rows that agree in everything keep the first."""
    drop_highest: int = 0
    """Leave out so many rows of the highest loss."""
    best_of: str | None = None
    """Column of the learning rate: of rows that agree in all other columns keep those of the rate with the lowest
    mean loss."""
    checkpoints: str = AUTO
    """What rows are that are checkpoints of one run (`tables.checkpoints` says how they are recognised): 'auto' and
    'cluster' resample them by run, 'final' keeps each run's last row, 'independent' takes each row as a run."""

    def __post_init__(self) -> None:
        if self.drop_highest < 0:
            raise TableError(f"--drop-highest {self.drop_highest}: the number of rows is 0 or more")
        if self.checkpoints not in CHECKPOINTS:
            raise TableError(f"--checkpoints {self.checkpoints}: give {', '.join(CHECKPOINTS)}")

    def with_rate(self, columns: ColumnMap) -> ColumnMap:
        """The columns with the learning rate of --best-of. Raises TableError where they name another."""
        if self.best_of is None:
            return columns
        if columns.learning_rate not in (None, self.best_of):
            raise TableError(
                f"--best-of {self.best_of} and --learning-rate {columns.learning_rate} name two columns of the rate"
            )
        return replace(columns, learning_rate=self.best_of)

    @property
    def condition(self) -> Where | None:
        """The condition of --where, parsed. Raises TableError."""
        return None if self.where is None else parse(self.where)


def by_status(table: pd.DataFrame, columns: ColumnMap) -> list[Exclusion]:
    """Rows whose run did not come to its end. Raises TableError for a word that is not known."""
    column = _status_column(table, columns.status)
    if column is None:
        return []
    exclusions = []
    for at, given in enumerate(text(table[column])):
        word = given.lower()
        if word in DONE:
            continue
        if word in DIVERGED:
            reason = "diverged: its loss left the range of numbers"
        elif word == PARENT:
            reason = "it only groups other runs"
        elif word in UNFINISHED:
            reason = f"{word}: it has no final loss"
        else:
            known = ", ".join(sorted(DONE | DIVERGED | UNFINISHED))
            raise TableError(
                f"{source(table)}, {place(table, at)}, column '{column}': '{given}' is no known status"
                f" ({known}). Write one of these, name another column (--status COL), or do not look at it"
                " (--status none)"
            )
        exclusions.append(Exclusion(row=int(table.index[at]), rule="status", reason=reason))
    return exclusions


def _status_column(table: pd.DataFrame, given: str | None) -> str | None:
    """The column of the status: the one that is named, else `status` or `state` in whatever case."""
    if given is None or given in table.columns:
        return given
    names = {str(column).lower(): str(column) for column in table.columns}
    return next((names[name] for name in STATUS_NAMES if name in names), None)


def by_stage(table: pd.DataFrame, condition: Where | None) -> list[Exclusion]:
    """A sweep's tuning runs, unless the condition names the stage."""
    if not SWEEP_COLUMNS.issubset(table.columns) or (condition is not None and "stage" in condition.columns):
        return []
    return [
        Exclusion(row=int(row), rule="stage", reason="a tuning run of the sweep, which no comparison counts")
        for row, stage in zip(table.index, text(table["stage"]), strict=True)
        if stage.startswith("tune")
    ]


def by_condition(table: pd.DataFrame, condition: Where, rows: IntArray) -> list[Exclusion]:
    """Those of the rows at these positions (from 0) that do not meet it."""
    rule = f"where {condition.text}"
    return [
        Exclusion(row=int(row), rule=rule, reason="it does not meet the condition, or has no value in it")
        for row in table.index[rows[~condition.holds(table, rows)]]
    ]


def best_rates(observations: Observations, trained: pd.DataFrame, column: str) -> list[Exclusion]:
    """Rows whose learning rate is not the best at their setting: the lowest loss, averaged over a rate's rows.

    A setting is a combination of all other columns and the family; `trained` holds each row's rate and family.
    """
    setting = numbered([*observations.columns.values(), trained[FAMILY].to_numpy()], len(observations))
    runs = pd.DataFrame({"setting": setting, "rate": trained[RATE], "loss": observations.loss}, index=trained.index)
    means = runs.groupby(["setting", "rate"])["loss"].mean()
    best = {int(key[0]): float(key[1]) for key in means.groupby("setting").idxmin()}
    exclusions = []
    for row, number, value in zip(runs.index, runs["setting"], runs["rate"], strict=True):
        kept = best[number]
        if value != kept:
            reason = (
                f"its learning rate {value:g} has a mean loss of {means[number, value]:.6g} at this setting, {kept:g}"
                f" one of {means[number, kept]:.6g}"
            )
            exclusions.append(Exclusion(row=int(row), rule=f"best-of {column}", reason=reason))
    return exclusions


def highest(loss: FloatArray, row: IntArray, number: int) -> tuple[list[Exclusion], str]:
    """The rows of the highest losses, and a warning where a tie decides ('' if none)."""
    if number >= len(loss):
        raise TableError(f"--drop-highest {number} leaves nothing of {formatting.counted(len(loss), 'row')}")
    order = np.lexsort((row, -loss))
    gone, limit = order[:number], loss[order[number - 1]]
    kept = np.ones(len(loss), dtype=bool)
    kept[gone] = False
    exclusions = [
        Exclusion(row=int(row[at]), rule=f"drop-highest {number}", reason=f"its loss {loss[at]:.6g} is number {rank}")
        for rank, at in enumerate(gone, start=1)
    ]
    tied = kept & (loss == limit)
    warning = (
        f"--drop-highest {number} separates rows of equal loss {limit:.6g}: row {int(row[tied][0])} is kept, an earlier"
        " row is left out"
        if tied.any()
        else ""
    )
    return exclusions, warning


def listed(rows: Sequence[int], most: int = 5) -> str:
    """Rows for people: 'rows 3, 7, 9 and 12 more'."""
    shown = ", ".join(str(row) for row in rows[:most])
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
