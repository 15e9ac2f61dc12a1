"""A sweep's runs, and how they are grouped: series, budgets, and the cells of both, which hold the replicates.

A series is one curve: a family, or a family with settings that the sweep varies. Its label starts with the family's
name in the sweep; the settings follow as `key=value`. A budget has a name; several can have one number of FLOPs (the
model sizes of an isoFLOP sweep), and their runs are never averaged as if they were seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

TEXT = ("sweep", "name", "run_id", "stage", "family", "series", "budget", "scale", "status")
"""Columns of a results table that are text; all others of `Runs.frame` are numbers."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the runs of one cell may spend, and the dense shape they start from."""

    name: str
    flops: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """A view of some rows of a results table, one row a run."""

    frame: pd.DataFrame
    """Index 'row' (of the file, counted from 1 below the header); columns as in the results table, checked."""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def row(self) -> IntArray:
        """Row of the file, counted from 1 below the header."""
        return self.frame.index.to_numpy(dtype=np.int64)

    @cached_property
    def name(self) -> tuple[str, ...]:
        """Name of each run."""
        return tuple(self.frame["name"])

    @cached_property
    def family(self) -> tuple[str, ...]:
        """Each run's kind of family: dense, moe, memory_plus, ..."""
        return tuple(self.frame["family"])

    @cached_property
    def series(self) -> tuple[str, ...]:
        """Label of each run's series."""
        return tuple(self.frame["series"])

    @cached_property
    def budget(self) -> tuple[str, ...]:
        """Name of each run's budget."""
        return tuple(self.frame["budget"])

    @cached_property
    def seed(self) -> IntArray:
        """Random seed of each run."""
        return self.frame["seed"].to_numpy(dtype=np.int64)

    @cached_property
    def budget_flops(self) -> FloatArray:
        """Training FLOPs of each run's budget."""
        return self.frame["budget_flops"].to_numpy(dtype=np.float64)

    @cached_property
    def numbers(self) -> Mapping[str, FloatArray]:
        """Every number column by name; not-a-number where a run has no value."""
        columns = [str(column) for column in self.frame.columns if column not in TEXT]
        return {column: self.frame[column].to_numpy(dtype=np.float64) for column in columns}

    def number(self, column: str) -> FloatArray:
        """A number column. Raises KeyError where the table has none; check `has` first."""
        return self.numbers[column]

    def has(self, column: str) -> bool:
        """Whether every run of these has a value in `column`."""
        return column in self.numbers and len(self) > 0 and bool(np.isfinite(self.numbers[column]).all())

    def has_some(self, column: str) -> bool:
        """Whether some run of these has a value in `column`."""
        return column in self.numbers and bool(np.isfinite(self.numbers[column]).any())

    def of(self, series: str, budget: Budget | None = None) -> BoolArray:
        """Mask of a series' runs, at one budget (the replicates) or at all."""
        mask = self._mask("series", series)
        return mask if budget is None else mask & self.at(budget)

    def at(self, budget: Budget) -> BoolArray:
        """Mask of all runs at a budget."""
        return self._mask("budget", budget.name)

    @cached_property
    def _masks(self) -> dict[tuple[str, str], BoolArray]:
        return {}

    def _mask(self, column: str, value: str) -> BoolArray:
        """Mask of the runs with a value in a text column; kept, for comparisons ask for the same ones many times."""
        if (column, value) not in self._masks:
            mask: BoolArray = (self.frame[column] == value).to_numpy(dtype=bool)
            mask.setflags(write=False)
            self._masks[column, value] = mask
        return self._masks[column, value]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every series, in the order of the table."""
        return tuple(self.frame["series"].unique())

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Every kind of family, in the order of the table."""
        return tuple(self.frame["family"].unique())

    def family_of(self, series: str) -> str:
        """The kind of family that a series is of."""
        return self.family[self.series.index(series)]

    def series_of(self, family: str) -> tuple[str, ...]:
        """A family's series, the reference first."""
        labels = tuple(self.frame["series"][self.frame["family"] == family].unique())
        return tuple(sorted(labels, key=lambda label: (label != family, " " in label)))

    def reference(self, family: str) -> str:
        """A family's series of its own name, else one without settings, else its first."""
        return self.series_of(family)[0]

    def budgets(self, series: str | None = None) -> tuple[Budget, ...]:
        """Budgets by increasing FLOPs; those of equal FLOPs in the order of the table."""
        if series not in self._budgets:
            self._budgets[series] = self._find_budgets(series)
        return self._budgets[series]

    @cached_property
    def _budgets(self) -> dict[str | None, tuple[Budget, ...]]:
        return {}

    def _find_budgets(self, series: str | None) -> tuple[Budget, ...]:
        chosen = self.frame if series is None else self.frame[self.of(series)]
        pairs = chosen[["budget", "budget_flops"]].drop_duplicates().sort_values("budget_flops", kind="stable")
        return tuple(Budget(name=str(name), flops=float(flops)) for name, flops in pairs.itertuples(index=False))

    def flops_budgets(self, series: str | None = None) -> tuple[float, ...]:
        """The different numbers of FLOPs, increasing."""
        return tuple(dict.fromkeys(budget.flops for budget in self.budgets(series)))

    def cells(self) -> tuple[tuple[str, Budget], ...]:
        """Every series and budget that some run has; its runs are replicates."""
        return tuple((label, budget) for label in self.labels for budget in self.budgets(label))

    def regrouped(self, chosen: IntArray, *, series: Sequence[str], budgets: Sequence[Budget]) -> Runs:
        """Some of the runs, each with another series and budget."""
        frame = self.frame.iloc[chosen].assign(
            series=list(series),
            budget=[budget.name for budget in budgets],
            budget_flops=[budget.flops for budget in budgets],
        )
        return Runs(frame=frame)

    def shares_flops(self, series: str) -> bool:
        """Whether several budgets of a series have one number of FLOPs: model sizes of an isoFLOP sweep."""
        return len(self.budgets(series)) > len(self.flops_budgets(series))


def family_name(series: str) -> str:
    """The family's name in the sweep, under which its learning rates were tuned."""
    return series.partition(" ")[0]


def settings(series: str) -> dict[str, str]:
    """What the sweep varies in a series, by key; empty for a family as it is."""
    pairs = (word.partition("=") for word in series.split(" ")[1:])
    return {key: value for key, _, value in pairs}


def without(series: str, key: str) -> str:
    """The label without one setting."""
    return " ".join(word for word in series.split(" ") if not word.startswith(f"{key}="))
