"""The columns that a law reads, taken from a table's columns by letter."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.laws.law import Law

FloatArray = npt.NDArray[np.float64]

_OPTIONS = {
    "N": "--params COL (params=)",
    "D": "--tokens COL (tokens=), or --flops COL --tokens-from-flops",
    "C": "--flops COL (flops=)",
}


def columns_for(law: Law, given: Mapping[str, FloatArray], *, ahead: bool = False) -> dict[str, FloatArray]:
    """The columns that the law reads.

    What is not given follows where it can: D = C / (6 N), C = 6 N D, tokens per parameter M = D / N, and a lone column
    for x. Raises FitError for a column that is missing, with the option that gives it; `ahead` says that these are
    runs to predict, whose columns are named by letter.
    """
    columns = dict(given)
    needed = {column.name for column in law.columns}
    have = set(columns)
    if "D" in needed - have and {"N", "C"} <= have:
        columns["D"] = columns["C"] / (6.0 * columns["N"])
    if "C" in needed - have and {"N", "D"} <= have:
        columns["C"] = 6.0 * columns["N"] * columns["D"]
    if "M" in needed - have and {"N", "D"} <= set(columns):
        columns["M"] = columns["D"] / columns["N"]
    if "x" in needed - have and len(columns) == 1:
        columns["x"] = next(iter(columns.values()))
    missing = sorted(needed - set(columns))
    if missing and ahead:
        lacking = "; ".join(f"{column.name}: {column.meaning}" for column in law.columns if column.name in missing)
        raise FitError(
            f"the runs to predict lack what law {law.name} ({law.formula}) reads ({lacking}): give it by letter, as"
            f" numbers (--at {missing[0]}=1e10, or a column '{missing[0]}')"
        )
    if missing:
        how = ", ".join(_OPTIONS.get(name, f"--factor {name}=COL (factors=)") for name in missing)
        meanings = "; ".join(f"{column.name}: {column.meaning}" for column in law.columns if column.name in missing)
        raise FitError(f"law {law.name} ({law.formula}) reads columns that are not mapped ({meanings}): give {how}")
    return {name: values for name, values in columns.items() if name in needed}
