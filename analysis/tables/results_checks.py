"""What every results table of a sweep must meet: known words, values that a run can have, no run twice.

Each check names file, row (counted from 1 below the header), run and column of the first value that fails it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import place, source
from analysis.tables.runs import TEXT, BoolArray

TUNE, COMPARE = "tune", "compare"
"""The stage of the comparison, and the beginning of the names of those that tune: `tune`, `tune-extended`, `tune-2`."""
STATUSES = ("done", "diverged", "failed", "lost", "stopped", "planned", "queued", "running", "damaged")
POSITIVE = (
    "budget_flops", "flops_train", "train_seconds", "params_total", "params_active", "tokens", "learning_rate",
    "num_slots", "d_model", "dense_params_non_embedding", "bits_offered", "bits_offered_per_parameter",
)  # fmt: skip
SHARES = ("_acc", "_exact_match", "_recall", "recall_chance")
"""Endings of the columns that hold a share between 0 and 1."""


def check_results(frame: pd.DataFrame) -> None:
    """Raises TableError for the first value that no results table may have; `frame` has text and number columns."""
    check = _Check(frame=frame)
    check.words()
    check.values()
    check.groups()
    check.duplicates()


@dataclass(frozen=True, kw_only=True)
class _Check:
    frame: pd.DataFrame

    def refuse(self, wrong: pd.Series | BoolArray, column: str, what: str | Callable[[object], str]) -> None:
        """Raise TableError where a row is wrong; `what` is the message, or makes it of the value."""
        for at in np.flatnonzero(np.asarray(wrong, dtype=bool)):
            row = int(at)
            name = str(self.frame["name"].iloc[row])
            run = "" if name == f"row {self.frame.index[row]}" or not name else f" (run '{name}')"
            message = what if isinstance(what, str) else what(self.frame[column].iloc[row])
            raise TableError(f"{source(self.frame)}, {place(self.frame, row)}{run}, column '{column}': {message}")

    def words(self) -> None:
        """Text columns hold known words, and one sweep."""
        stage, status = self.frame["stage"], ", ".join(STATUSES)
        known = (stage == COMPARE) | stage.str.fullmatch(rf"{TUNE}(-[a-z0-9-]+)?")
        self.refuse(~known, "stage", lambda one: f"'{one}' is none of {TUNE}, {TUNE}-2 and so on, {COMPARE}")
        wrong = ~self.frame["status"].isin(STATUSES)
        self.refuse(wrong, "status", lambda one: f"'{one}' is none of {status}")
        for column in ("family", "series", "budget"):
            self.refuse(self.frame[column] == "", column, f"is empty; every run has a {column}")
        for column in ("sweep", "scale"):
            found = sorted(set(self.frame[column])) if column in self.frame else []
            if len(found) > 1:
                names = ", ".join(f"'{name}'" for name in found)
                raise TableError(
                    f"{source(self.frame)}, column '{column}': holds {names}. Runs of different {column}s are not"
                    f" comparable; keep the rows of one {column}"
                )

    def values(self) -> None:
        """Rows that are done have every number the analysis rests on, and values that a run can have."""
        frame = self.frame
        done = frame["status"] == "done"
        compared = done & (frame["stage"] == "compare")
        for column in ("seed", "budget_flops"):
            self.refuse(~np.isfinite(frame[column]), column, "is empty; every row needs it")
        seed = frame["seed"]
        whole = (seed == seed.round()) & (seed.abs() <= 2**53)
        self.refuse(~whole, "seed", lambda one: f"is {one:g}; a seed is a whole number")
        numbers = [str(column) for column in frame.columns if column not in TEXT]
        for column in numbers:
            self.refuse(np.isinf(frame[column]), column, "is infinite")
        for column in ("flops_train", "loss_nats"):
            wrong = done & frame[column].isna()
            self.refuse(wrong, column, "is empty or not a number, though the run's status is 'done'")
        for column in numbers:
            values = frame[column]
            if values[compared].notna().any() and not column.endswith("_stderr"):
                wrong = compared & self._needs(column) & values.isna()
                self.refuse(wrong, column, "is empty, though other runs that are done have one")
            if column in POSITIVE or _is_loss(column):
                self.refuse(done & (values <= 0), column, lambda one: f"is {one:g}; it must be above zero")
            if column.endswith(SHARES):
                wrong = done & ((values < 0) | (values > 1))
                self.refuse(wrong, column, lambda one: f"is {one:g}; it is a share between 0 and 1")

    def _needs(self, column: str) -> pd.Series:
        """Rows of the families that have `column` at all: a dense model has no memory table and no usage of it."""
        if column.startswith(("score_", "loss_")) or column == "train_seconds":
            return pd.Series(True, index=self.frame.index)
        return self.frame["family"].isin(self.frame["family"][self.frame[column].notna()])

    def groups(self) -> None:
        """A series is of one family, a budget of one number of FLOPs."""
        for column, owner in (("series", "family"), ("budget", "budget_flops")):
            first = self.frame.groupby(column, sort=False)[owner].transform("first")
            for at in np.flatnonzero(first != self.frame[owner]):
                name = self.frame[column].iloc[at]
                wrong = np.arange(len(first)) == at
                other = f", but other runs of the {column} '{name}' have {first.iloc[at]}"
                self.refuse(wrong, owner, lambda one, other=other: f"is {one}{other}")  # type: ignore[misc]

    def duplicates(self) -> None:
        """No run is in the table twice, and replicates differ in their seed."""
        frame = self.frame
        named = frame["run_id"] != ""
        compared = (frame["stage"] == "compare") & (frame["status"] == "done")
        for rows, keys, column, what in (
            (named, ["run_id"], "run_id", "the same run"),
            (compared, ["series", "budget", "seed"], "seed", "the same series, budget and seed"),
        ):
            chosen = frame[rows]
            if not len(chosen):
                continue
            first = (
                pd.Series(chosen.index, index=chosen.index).groupby([chosen[key] for key in keys]).transform("first")
            )
            twice = first.index[first != first.index]
            if len(twice):
                message = f"is {what} as in row {first[twice[0]]}; each run may be in the table once"
                self.refuse(frame.index == twice[0], column, message)


def _is_loss(column: str) -> bool:
    return column.startswith(("loss_nats", "loss_bpb_")) and not column.endswith("_stderr")
