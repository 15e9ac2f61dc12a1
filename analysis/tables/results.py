"""A sweep's results table, read and checked: which runs are compared, which were tuning, which are left out and why.

One row a run, Parquet or CSV. Only `done` rows of the stage `compare` carry the answer; rows of the stage `tune` are
kept apart, and every other row is excluded with its reason. Replicates are runs of one series (a family with its
settings) and one budget that differ in nothing but their seed. A table without the column `series` has one series a
family, one without `budget` one budget a number of FLOPs. `results_checks` refuses invalid tables.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import column_numbers, text
from analysis.tables.file import read
from analysis.tables.observations import Exclusion
from analysis.tables.results_checks import TUNE, check_results
from analysis.tables.runs import TEXT, Runs

NEEDED_TEXT = ("stage", "family", "status")
NEEDED_NUMBERS = ("seed", "budget_flops", "flops_train", "loss_nats")
OTHER_NUMBERS = (
    "learning_rate", "table_learning_rate", "batch_tokens", "sequence_length", "tokens", "params_total",
    "params_active", "params_non_embedding", "params_table", "num_slots", "d_model", "training_sees_later_tokens",
    "rows_read_per_token", "flops_per_token_forward", "train_seconds", "tokens_per_second", "peak_memory_bytes",
    "knowledge_bits", "recall_chance", "dense_params_non_embedding", "bits_offered", "bits_stored",
    "bits_stored_stderr", "bits_offered_per_parameter", "bits_stored_per_parameter",
    "bits_stored_per_parameter_stderr", "num_experts", "experts_per_token",
)  # fmt: skip
NUMBER_PREFIXES = ("loss_nats_", "loss_bpb_", "score_", "usage_")


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """A checked results table. Make it with `read_results`."""

    path: Path
    sha256: str
    sweep: str
    scale: str
    frame: pd.DataFrame = field(repr=False)
    """Every row of the file, index 'row' counted from 1; text columns and number columns as checked."""
    exclusions: tuple[Exclusion, ...] = field(repr=False)
    """Rows that are not done, which carry no part of the answer."""

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return len(self.frame)

    @cached_property
    def compare(self) -> Runs:
        """Done runs of the stage `compare`: same series and budget, another seed = replicates."""
        return Runs(frame=self.frame[(self.frame["stage"] == "compare") & (self.frame["status"] == "done")])

    @cached_property
    def tune(self) -> Runs:
        """Done and diverged runs of the stages of tuning, `tune` and on (diverged: not-a-number as loss)."""
        ended = self.frame["status"].isin(["done", "diverged"])
        return Runs(frame=self.frame[self.frame["stage"].str.startswith(TUNE) & ended])

    @property
    def left_out(self) -> pd.DataFrame:
        """The rows of `exclusions` with their columns, `row` and `reason`."""
        rows = [one.row for one in self.exclusions]
        return self.frame.loc[rows].assign(reason=[one.reason for one in self.exclusions]).reset_index(names="row")


def read_results(path: Path) -> Results:
    """Read and check a sweep's results table (.parquet or .csv).

    Raises TableError, by file, row (counted from 1 below the header) and column: a column that is missing, text where a
    number is needed, an empty or infinite value in a row that is done, a value that no run can have, one run or one
    replicate twice, runs of more than one sweep, and no run to compare.
    """
    table = read(path, text=TEXT)
    for column in (*NEEDED_TEXT, *NEEDED_NUMBERS):
        if column not in table.columns:
            close = difflib.get_close_matches(column, list(table.columns), n=1, cutoff=0.6)
            hint = f" Did you name it '{close[0]}'?" if close else ""
            raise TableError(f"{path} has no column '{column}', which every results table needs.{hint}")
    if len(table) == 0:
        raise TableError(f"{path} has a header, but no row; no run has been recorded in it yet")
    frame = _typed(table)
    check_results(frame)
    frame = frame.astype({"seed": "int64"})
    compared = frame[frame["stage"] == "compare"]
    if not (compared["status"] == "done").any():
        counts = compared["status"].value_counts().sort_index()
        found = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no row of that stage"
        raise TableError(f"{path}: no run of the stage 'compare' is done ({found}), so there is nothing to compare")
    unfinished = frame["status"][frame["status"] != "done"]
    return Results(
        path=path,
        sha256=str(table.attrs["sha256"]),
        sweep=_first(frame, "sweep"),
        scale=_first(frame, "scale"),
        frame=frame,
        exclusions=tuple(
            Exclusion(row=int(row), rule="status", reason=_reason(str(status)))  # type: ignore[call-overload]
            for row, status in unfinished.items()
        ),
    )


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """The known columns as text or numbers, with the series, budget and name of every run."""
    columns: dict[str, object] = {column: text(table[column]) for column in TEXT if column in table.columns}
    columns |= {column: column_numbers(table, column) for column in table.columns if _is_number(str(column))}
    frame = pd.DataFrame(columns, index=table.index)
    frame.attrs = table.attrs
    if "series" not in frame:
        frame["series"] = frame["family"]
    if "budget" not in frame:
        frame["budget"] = [repr(flops) for flops in frame["budget_flops"].tolist()]
    _per_parameter(frame)
    if "run_id" not in frame:
        frame["run_id"] = ""
    if "name" not in frame:
        frame["name"] = [f"row {row}" for row in frame.index]
    return frame


def _per_parameter(frame: pd.DataFrame) -> None:
    """Bits per parameter of the budget's dense model, where the table has bits and these parameters."""
    if "dense_params_non_embedding" not in frame:
        return
    for column in ("bits_offered", "bits_stored", "bits_stored_stderr"):
        stem, error = column.removesuffix("_stderr"), "_stderr" * column.endswith("_stderr")
        name = f"{stem}_per_parameter{error}"
        if column in frame and name not in frame:
            frame[name] = frame[column] / frame["dense_params_non_embedding"]


def _is_number(column: str) -> bool:
    known = column in NEEDED_NUMBERS or column in OTHER_NUMBERS
    return known or (column not in TEXT and column.startswith(NUMBER_PREFIXES))


def _first(frame: pd.DataFrame, column: str) -> str:
    return str(frame[column].iloc[0]) if column in frame else ""


def _reason(status: str) -> str:
    if status == "diverged":
        return "its loss left the range of numbers; it has no final loss"
    if status == "damaged":
        return "a file of it is missing or not what was written; no number of it is used (see: make status)"
    if status in ("failed", "lost", "stopped"):
        return f"it {'was ' if status != 'failed' else ''}{status} before its end; it has no final loss"
    return f"it is {status}; it has no final loss yet"
