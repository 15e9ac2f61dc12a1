"""The points that fits are given: one entry a row that is kept, its columns by the letter a law knows them by.

A frozen record. It says where every number came from (source, column or formula, row), and keeps every row that was
left out with the rule that left it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PARAMS, TOKENS, FLOPS = "N", "D", "C"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """A row that is in no fit."""

    row: int
    """Counted from 1, below the header."""
    rule: str
    """The rule that left it out, as it was stated: 'drop-highest 5', 'where loss < 4', 'status', 'drop-invalid'."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Columns of equal length, one entry a row that is kept."""

    source: str
    """The file's path, or the experiment."""
    sha256: str
    """Of the file; '' where there is none."""
    num_rows: int
    """Of the source, those left out among them."""
    roles: Mapping[str, str]
    """What each column is: {'N': 'Model Size', 'D': 'C / (6 N)', 'loss': 'loss'}; a formula where it was derived."""
    row: IntArray
    """Counted from 1, below the header."""
    columns: Mapping[str, FloatArray] = field(repr=False)
    """By letter: N parameters, D tokens, C training FLOPs; factors by the name they were given."""
    loss: FloatArray = field(repr=False)
    cluster: IntArray | None = field(default=None, repr=False)
    """Which rows stand or fall together when rows are drawn again; None: each on its own."""
    setting: IntArray = field(repr=False)
    """Rows with the same number here agree in every column: they are replicates of one another."""
    exclusions: tuple[Exclusion, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    """What a reader of the fit must know about the table."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the columns beside N, D and C."""
        return tuple(name for name in self.columns if name not in (PARAMS, TOKENS, FLOPS))

    @property
    def num_settings(self) -> int:
        """Number of different settings; where it is less than the number of points, some have replicates."""
        return len(np.unique(self.setting))

    @property
    def num_replicated(self) -> int:
        """Number of settings that more than one point has."""
        return int((np.unique(self.setting, return_counts=True)[1] > 1).sum())

    def excluded_by(self) -> dict[str, int]:
        """How many rows each rule left out, in the order in which the rules were applied."""
        return dict(Counter(one.rule for one in self.exclusions))

    def only(self, kept: npt.NDArray[np.bool_], left_out: tuple[Exclusion, ...]) -> Observations:
        """These points without some, which `left_out` accounts for."""
        return replace(
            self,
            row=self.row[kept],
            columns={name: values[kept] for name, values in self.columns.items()},
            loss=self.loss[kept],
            cluster=None if self.cluster is None else self.cluster[kept],
            setting=self.setting[kept],
            exclusions=self.exclusions + left_out,
        )
