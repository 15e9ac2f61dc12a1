"""`Observations`: the runs that a fit is given, one row each, their columns by the letter a law knows them by.

A frozen record of where every number comes from (source, column or formula, row), and of every row that was left out,
with the rule and the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PARAMS, TOKENS, FLOPS, LOSS = "N", "D", "C", "loss"
CLUSTER, SETTING, WEIGHT, STDERR, HELD_OUT = "cluster", "setting", "weight", "stderr", "held_out"
NO_FACTORS = (LOSS, CLUSTER, SETTING, WEIGHT, STDERR, HELD_OUT)
"""Columns of the frame that no law reads as a letter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """A row that is in no fit."""

    row: int
    """Counted from 1, below the header."""
    rule: str
    """The rule that left it out, as it was given: 'drop-highest 5', 'where loss < 4', 'status', 'drop-invalid'."""
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """Checked runs, one row of `frame` each. Make them with `observe`."""

    source: str
    """The file's path, or the experiment."""
    sha256: str
    """Of the file; '' where there is none."""
    num_rows: int
    """Of the source, those left out among them."""
    column_names: Mapping[str, str]
    """What each column is: {'N': 'Model Size', 'D': 'C / (6 N)', 'loss': 'loss'}; a formula where it was derived."""
    frame: pd.DataFrame = field(repr=False)
    """Index 'row' (of the source, counted from 1). Columns: N, D, C and factors by their letters, loss, setting, and
    where the table says so cluster, weight, stderr, held_out."""
    checkpoints: bool = False
    """Whether the rows are checkpoints of fewer runs; `cluster` then numbers the runs."""
    exclusions: tuple[Exclusion, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    """What a reader of the fit must know about the table."""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def row(self) -> IntArray:
        """Row of each observation in the source, counted from 1 below the header."""
        return self.frame.index.to_numpy(dtype=np.int64)

    @cached_property
    def columns(self) -> Mapping[str, FloatArray]:
        """By letter: N parameters, D tokens, C training FLOPs; factors by the name they were given."""
        return {str(name): self._floats(str(name)) for name in self.frame.columns if name not in NO_FACTORS}

    @cached_property
    def loss(self) -> FloatArray:
        """What is fitted, in the table's unit."""
        return self._floats(LOSS)

    @cached_property
    def cluster(self) -> IntArray | None:
        """Which rows are resampled together, as numbers; None: each on its own."""
        return self.frame[CLUSTER].to_numpy(dtype=np.int64) if CLUSTER in self.frame else None

    @cached_property
    def setting(self) -> IntArray:
        """Rows with the same number agree in every column: they are replicates of one another."""
        return self.frame[SETTING].to_numpy(dtype=np.int64)

    @cached_property
    def weight(self) -> FloatArray | None:
        """Weight of each row in the fit's objective; None: all 1."""
        return self._floats(WEIGHT) if WEIGHT in self.frame else None

    @cached_property
    def stderr(self) -> FloatArray | None:
        """Standard error of each loss, in its unit; None where the table has none."""
        return self._floats(STDERR) if STDERR in self.frame else None

    @cached_property
    def held_out(self) -> BoolArray | None:
        """Rows that are predicted and not fitted; None where the table has no such column."""
        return self.frame[HELD_OUT].to_numpy(dtype=bool) if HELD_OUT in self.frame else None

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the columns beside N, D and C."""
        return tuple(name for name in self.columns if name not in (PARAMS, TOKENS, FLOPS))

    @property
    def num_settings(self) -> int:
        """Number of different settings; where it is less than the number of rows, some have replicates."""
        return len(np.unique(self.setting))

    @property
    def num_replicated(self) -> int:
        """Number of settings that more than one row has."""
        return int((np.unique(self.setting, return_counts=True)[1] > 1).sum())

    def excluded_by(self) -> dict[str, int]:
        """How many rows each rule left out, in the order in which the rules were applied."""
        return dict(Counter(one.rule for one in self.exclusions))

    def without(self, exclusions: Sequence[Exclusion]) -> Observations:
        """These observations without some rows."""
        gone = [one.row for one in exclusions]
        return replace(self, frame=self.frame.drop(index=gone), exclusions=(*self.exclusions, *exclusions))

    def _floats(self, column: str) -> FloatArray:
        return self.frame[column].to_numpy(dtype=np.float64, copy=True)
