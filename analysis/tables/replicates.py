"""Rows that repeat others: replicates (every column equal, another seed) and duplicates (seed and loss equal too).

Replicates are what seed noise is measured by, and are kept. A duplicate is one run that is in the table twice; it makes
every interval too narrow, so a warning names it, and --drop-duplicates leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """What repeats what, by index."""

    setting: IntArray
    """Rows with one number agree in all columns."""
    duplicate_of: IntArray
    """The first row with the same columns, seed and loss; -1 where there is none before."""
    same_seed: IntArray
    """The first row with the same columns and seed but another loss; -1 where there is none before."""

    @property
    def duplicated(self) -> BoolArray:
        """Rows that agree with an earlier one in every column, seed and loss."""
        return self.duplicate_of >= 0


def find_repeats(
    columns: Sequence[npt.NDArray[np.float64]], seed: IntArray | None, loss: npt.NDArray[np.float64]
) -> Repeats:
    """Compare all rows; `seed` holds one number a seed (None: the table does not name them)."""
    setting = numbered(columns, len(loss))
    # Without seeds, another loss means another seed: that is all a table can show.
    seeded = setting if seed is None else numbered([setting, seed], len(loss))
    whole = numbered([seeded, loss], len(loss))
    duplicate_of = _first(whole)
    same_seed = np.full(len(loss), -1) if seed is None else np.where(duplicate_of < 0, _first(seeded), -1)
    return Repeats(setting=setting, duplicate_of=duplicate_of, same_seed=same_seed)


def numbered(columns: Sequence[npt.NDArray[np.float64] | IntArray], num: int) -> IntArray:
    """One number for each different combination of values, in the order of the values."""
    if not columns:
        return np.zeros(num, dtype=np.int64)
    names = list(range(len(columns)))
    return pd.DataFrame(dict(enumerate(columns))).groupby(names).ngroup().to_numpy().astype(np.int64)


def _first(number: IntArray) -> IntArray:
    """For each row the first row with its number, -1 where that is the row itself."""
    first = pd.Series(np.arange(len(number))).groupby(number).transform("first").to_numpy()
    return np.where(first == np.arange(len(number)), -1, first).astype(np.int64)
