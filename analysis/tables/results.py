"""A results table, read and checked: which runs are compared, which were tuning, which are left out and why.

One row a run, Parquet or CSV. Decides that only `done` rows of the stage `compare` carry the answer; rows of the stage
`tune` are kept apart, and every other row is kept in the record with its reason. Decides what a replicate is: runs of
one series (a family with its settings) and one budget that differ in nothing but their seed. A table without the column
`series` has one series a family, one without `budget` one budget a number of FLOPs. Refuses, by file, row (counted from
1 below the header) and column: missing columns, text where a number belongs, empty or non-finite values in rows that
are done, values that no run can have, one run or one replicate twice, and tables of more than one sweep.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import column_numbers, place, source
from analysis.tables.cells import text as column_text
from analysis.tables.file import read as read_table
from analysis.tables.runs import BoolArray, FloatArray, IntArray, Runs

__all__ = ["BoolArray", "FloatArray", "IntArray", "LeftOut", "Results", "Runs", "read"]

STAGES = ("tune", "compare")
STATUSES = ("done", "diverged", "failed", "lost", "stopped", "planned", "queued", "running")

TEXT = ("sweep", "name", "run_id", "stage", "family", "series", "budget", "scale", "status")
NEEDED_TEXT = ("stage", "family", "status")
NEEDED_NUMBERS = ("seed", "budget_flops", "flops_train", "loss_nats")
OTHER_NUMBERS = (
    "learning_rate",
    "table_learning_rate",
    "batch_tokens",
    "sequence_length",
    "tokens",
    "params_total",
    "params_active",
    "params_non_embedding",
    "params_table",
    "num_slots",
    "d_model",
    "training_sees_later_tokens",
    "rows_read_per_token",
    "flops_per_token_forward",
    "train_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "knowledge_bits",
    "recall_chance",
)
NUMBER_PREFIXES = ("loss_nats_", "loss_bpb_", "score_", "usage_")
POSITIVE = (
    "budget_flops",
    "flops_train",
    "train_seconds",
    "params_total",
    "params_active",
    "tokens",
    "learning_rate",
    "num_slots",
    "d_model",
)
SHARES = ("_acc", "_exact_match", "recall_chance")
"""Endings of the columns that hold a share between 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row that carries no part of the answer, and why."""

    row: int
    name: str
    stage: str
    family: str
    series: str
    status: str
    budget: str
    budget_flops: float
    seed: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Results:
    """A checked results table."""

    path: Path
    sha256: str
    sweep: str
    scale: str
    compare: Runs
    """Done runs of the stage `compare`: same series and budget, another seed = replicates."""
    tune: Runs
    """Done and diverged runs of the stage `tune` (diverged: not-a-number as loss)."""
    left_out: tuple[LeftOut, ...]
    num_rows: int


def read(path: Path) -> Results:
    """Read and check a results table (.parquet or .csv). Raises TableError."""
    table = read_table(path)
    where = str(path)
    for column in (*NEEDED_TEXT, *NEEDED_NUMBERS):
        if column not in table.columns:
            close = difflib.get_close_matches(column, list(table.columns), n=1, cutoff=0.6)
            hint = f" Did you name it '{close[0]}'?" if close else ""
            raise TableError(f"{where} has no column '{column}', which every results table needs.{hint}")
    if len(table) == 0:
        raise TableError(f"{where} has a header, but no row; no run has been recorded in it yet")
    text = {column: tuple(column_text(table[column])) for column in TEXT if column in table.columns}
    numbers = {column: column_numbers(table, column) for column in table.columns if _is_number(column)}
    check = _Checker(table=table, text=text, numbers=numbers, num_rows=len(table))
    check.words()
    check.values()
    text.setdefault("series", text["family"])
    text.setdefault("budget", tuple(repr(flops) for flops in numbers["budget_flops"].tolist()))
    check.groups()
    check.duplicates()
    return _split(path, table, text, numbers)


def _is_loss(column: str) -> bool:
    return column.startswith(("loss_nats", "loss_bpb_")) and not column.endswith("_stderr")


def _is_number(column: str) -> bool:
    known = column in NEEDED_NUMBERS or column in OTHER_NUMBERS
    return known or (column not in TEXT and column.startswith(NUMBER_PREFIXES))


@dataclass(frozen=True, kw_only=True)
class _Checker:
    table: pd.DataFrame
    text: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, FloatArray]
    num_rows: int

    def fail(self, row: int, column: str, what: str) -> TableError:
        name = self.text["name"][row] if "name" in self.text else ""
        run = f" (run '{name}')" if name else ""
        return TableError(f"{source(self.table)}, {place(self.table, row)}{run}, column '{column}': {what}")

    def words(self) -> None:
        """Text columns hold known words, and one sweep."""
        for column, choices in (("stage", STAGES), ("status", STATUSES)):
            for row, given in enumerate(self.text[column]):
                if given not in choices:
                    raise self.fail(row, column, f"'{given}' is none of {', '.join(choices)}")
        for column in ("family", "series", "budget"):
            for row, given in enumerate(self.text.get(column, ())):
                if not given:
                    raise self.fail(row, column, f"is empty; every run has a {column}")
        for column in ("sweep", "scale"):
            found = sorted(set(self.text.get(column, ())))
            if len(found) > 1:
                names = ", ".join(f"'{name}'" for name in found)
                raise TableError(
                    f"{source(self.table)}, column '{column}': holds {names}. Runs of different {column}s are not"
                    f" comparable; keep the rows of one {column}"
                )

    def values(self) -> None:
        """Rows that are done have every number the analysis rests on, and values that a run can have."""
        done = np.array([status == "done" for status in self.text["status"]])
        compared = done & np.array([stage == "compare" for stage in self.text["stage"]])
        for column in ("seed", "budget_flops"):
            self._finite(column, np.ones(self.num_rows, dtype=bool), "is empty; every row needs it")
        seeds = self.numbers["seed"]
        for row in np.flatnonzero((seeds != np.round(seeds)) | (np.abs(seeds) > 2**53)):
            raise self.fail(int(row), "seed", f"is {seeds[row]:g}; a seed is a whole number")
        for column, values in self.numbers.items():
            for row in np.flatnonzero(np.isinf(values)):
                raise self.fail(int(row), column, "is infinite")
        for column in ("flops_train", "loss_nats"):
            self._finite(column, done, "is empty or not a number, though the run's status is 'done'")
        for column, values in self.numbers.items():
            if np.isfinite(values[compared]).any() and not column.endswith("_stderr"):
                self._finite(
                    column, compared & self._shared(column), "is empty, though other runs that are done have one"
                )
            low = column in POSITIVE or _is_loss(column)
            for row in np.flatnonzero(done & (values <= 0)) if low else ():
                raise self.fail(int(row), column, f"is {values[row]:g}; it must be above zero")
            for row in np.flatnonzero(done & ((values < 0) | (values > 1))) if column.endswith(SHARES) else ():
                raise self.fail(int(row), column, f"is {values[row]:g}; it is a share between 0 and 1")

    def _shared(self, column: str) -> BoolArray:
        """Rows of the families that have `column` at all: a dense model has no table and no usage of it."""
        present = np.isfinite(self.numbers[column])
        family = np.array(self.text["family"])
        if column.startswith(("score_", "loss_")) or column == "train_seconds":
            return np.ones(self.num_rows, dtype=bool)
        return np.isin(family, np.unique(family[present]))

    def _finite(self, column: str, rows: BoolArray, what: str) -> None:
        for row in np.flatnonzero(rows & ~np.isfinite(self.numbers[column])):
            raise self.fail(int(row), column, what)

    def groups(self) -> None:
        """A series is of one family, a budget of one number of FLOPs."""
        for column, owner in (("series", "family"), ("budget", "budget_flops")):
            found: dict[str, object] = {}
            values = self.text[owner] if owner in self.text else self.numbers[owner].tolist()
            for row, (name, value) in enumerate(zip(self.text[column], values, strict=True)):
                known = found.setdefault(name, value)
                if known != value:
                    raise self.fail(row, owner, f"is {value}, but other runs of the {column} '{name}' have {known}")

    def duplicates(self) -> None:
        """No run stands twice, and replicates differ in their seed."""
        seen: dict[object, int] = {}
        for row in range(self.num_rows):
            keys: list[tuple[object, str]] = []
            if self.text.get("run_id", [""] * self.num_rows)[row]:
                keys.append((self.text["run_id"][row], "run_id"))
            if self.text["stage"][row] == "compare" and self.text["status"][row] == "done":
                cell = (self.text["series"][row], self.text["budget"][row], self.numbers["seed"][row])
                keys.append((cell, "seed"))
            for key, column in keys:
                if key in seen:
                    other = seen[key] + 1
                    said = "the same run" if column == "run_id" else "the same series, budget and seed"
                    raise self.fail(row, column, f"is {said} as in row {other}; each run may stand once")
                seen[key] = row


def _split(
    path: Path, table: pd.DataFrame, text: Mapping[str, tuple[str, ...]], numbers: dict[str, FloatArray]
) -> Results:
    num_rows = len(table)
    stage, status = np.array(text["stage"]), np.array(text["status"])
    names = text.get("name", tuple(f"row {row + 1}" for row in range(num_rows)))
    compared = (stage == "compare") & (status == "done")
    tuned = (stage == "tune") & np.isin(status, ["done", "diverged"])
    left_out = tuple(
        LeftOut(
            row=int(row) + 1,
            name=names[row],
            stage=text["stage"][row],
            family=text["family"][row],
            series=text["series"][row],
            status=text["status"][row],
            budget=text["budget"][row],
            budget_flops=float(numbers["budget_flops"][row]),
            seed=int(numbers["seed"][row]),
            reason=_reason(text["status"][row]),
        )
        for row in np.flatnonzero(status != "done")
    )
    if not compared.any():
        counts = Counter(text["status"][row] for row in np.flatnonzero(stage == "compare"))
        found = ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "no row of that stage"
        raise TableError(f"{path}: no run of the stage 'compare' is done ({found}), so there is nothing to compare")

    def runs(mask: BoolArray) -> Runs:
        rows = np.flatnonzero(mask)
        return Runs(
            row=rows + 1,
            name=tuple(names[row] for row in rows),
            family=tuple(text["family"][row] for row in rows),
            series=tuple(text["series"][row] for row in rows),
            budget=tuple(text["budget"][row] for row in rows),
            seed=numbers["seed"][rows].astype(np.int64),
            budget_flops=numbers["budget_flops"][rows],
            numbers={column: values[rows] for column, values in numbers.items()},
        )

    return Results(
        path=path,
        sha256=str(table.attrs["sha256"]),
        sweep=text.get("sweep", ("",))[0],
        scale=text.get("scale", ("",))[0],
        compare=runs(compared),
        tune=runs(tuned),
        left_out=left_out,
        num_rows=num_rows,
    )


def _reason(status: str) -> str:
    if status == "diverged":
        return "its loss left the range of numbers; it has no final loss"
    if status in ("failed", "lost", "stopped"):
        return f"it {'was ' if status != 'failed' else ''}{status} before its end; it has no final loss"
    return f"it is {status}; it has no final loss yet"
