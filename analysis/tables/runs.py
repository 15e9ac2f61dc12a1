"""Runs as columns, and how they are grouped: series, budgets, and the cells of both that hold the replicates.

A series is one curve: a family, or a family with settings that the sweep varies. Its label starts with the family's
name in the sweep; the settings follow as `key=value`. A budget has a name; several can have one number of FLOPs (the
model sizes of an isoFLOP sweep), and their runs are never averaged as if they were seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the runs of one cell may spend, and the dense shape they start from."""

    name: str
    flops: float


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Columns of equal length, one entry a run."""

    row: IntArray
    """Row of the file, counted from 1 below the header."""
    name: tuple[str, ...]
    family: tuple[str, ...]
    """What kind of family: dense, moe, memory_plus, ..."""
    series: tuple[str, ...]
    budget: tuple[str, ...]
    seed: IntArray
    budget_flops: FloatArray
    numbers: Mapping[str, FloatArray]
    """Every other number column; not-a-number where a run has none."""

    def __len__(self) -> int:
        return len(self.row)

    def number(self, column: str) -> FloatArray:
        """A number column. Raises KeyError where the table has none; ask `has` first."""
        return self.numbers[column]

    def has(self, column: str) -> bool:
        """Whether every run of these has a value in `column`."""
        return column in self.numbers and len(self) > 0 and bool(np.isfinite(self.numbers[column]).all())

    def has_some(self, column: str) -> bool:
        """Whether some run of these has a value in `column`."""
        return column in self.numbers and bool(np.isfinite(self.numbers[column]).any())

    def of(self, series: str, budget: Budget | None = None) -> BoolArray:
        """Mask of a series' runs, at one budget (the replicates) or at all."""
        mask = np.array([label == series for label in self.series], dtype=bool)
        return mask if budget is None else mask & self.at(budget)

    def at(self, budget: Budget) -> BoolArray:
        """Mask of all runs at a budget."""
        return np.array([name == budget.name for name in self.budget], dtype=bool)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every series, in the order of the table."""
        return tuple(dict.fromkeys(self.series))

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.family))

    def family_of(self, series: str) -> str:
        return self.family[self.series.index(series)]

    def series_of(self, family: str) -> tuple[str, ...]:
        """A family's series, the reference first."""
        labels = tuple(
            dict.fromkeys(label for label, word in zip(self.series, self.family, strict=True) if word == family)
        )
        return tuple(sorted(labels, key=lambda label: (label != family, " " in label)))

    def reference(self, family: str) -> str:
        """The series that stands for a family: the one of its name, else one without settings, else its first."""
        return self.series_of(family)[0]

    def budgets(self, series: str | None = None) -> tuple[Budget, ...]:
        """Budgets by increasing FLOPs; those of equal FLOPs in the order of the table."""
        chosen = range(len(self)) if series is None else np.flatnonzero(self.of(series))
        found = dict.fromkeys((self.budget[run], float(self.budget_flops[run])) for run in chosen)
        return tuple(Budget(name=name, flops=flops) for name, flops in sorted(found, key=lambda one: one[1]))

    def flops_budgets(self, series: str | None = None) -> tuple[float, ...]:
        """The different numbers of FLOPs, increasing."""
        return tuple(dict.fromkeys(budget.flops for budget in self.budgets(series)))

    def cells(self) -> tuple[tuple[str, Budget], ...]:
        """Every series and budget that some run has; its runs are replicates."""
        return tuple((label, budget) for label in self.labels for budget in self.budgets(label))

    def regrouped(self, chosen: IntArray, *, series: Sequence[str], budgets: Sequence[Budget]) -> Runs:
        """Some of the runs, with other series and budgets, one each a chosen run."""
        return Runs(
            row=self.row[chosen],
            name=tuple(self.name[run] for run in chosen),
            family=tuple(self.family[run] for run in chosen),
            series=tuple(series),
            budget=tuple(budget.name for budget in budgets),
            seed=self.seed[chosen],
            budget_flops=np.array([budget.flops for budget in budgets]),
            numbers={column: values[chosen] for column, values in self.numbers.items()},
        )

    def shares_flops(self, series: str) -> bool:
        """Whether several budgets of a series have one number of FLOPs: model sizes of an isoFLOP sweep."""
        return len(self.budgets(series)) > len(self.flops_budgets(series))


def family_name(series: str) -> str:
    """The family's name in the sweep, under which its learning rates were tuned."""
    return series.partition(" ")[0]


def settings(series: str) -> dict[str, str]:
    """What the sweep varies in a series, by key; empty for a family as it stands."""
    pairs = (word.partition("=") for word in series.split(" ")[1:])
    return {key: value for key, _, value in pairs}


def without(series: str, key: str) -> str:
    """The label without one setting."""
    return " ".join(word for word in series.split(" ") if not word.startswith(f"{key}="))
