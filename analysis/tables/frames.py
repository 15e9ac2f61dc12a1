"""Any DataFrame of a notebook, and any path, as the pandas DataFrame that `observe` works on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow

from analysis.errors import TableError
from analysis.tables.cells import ROW, source
from analysis.tables.expression import parse
from analysis.tables.file import read

TableLike: TypeAlias = Any
"""A pandas or polars DataFrame, another object with `to_pandas` or `__arrow_c_stream__`, a mapping of columns, or the
path of a file."""


def as_frame(given: TableLike, *, text: Collection[str] = ()) -> pd.DataFrame:
    """The table as a DataFrame with text as column names and rows numbered from 1. Raises TableError.

    Of a file, the columns in `text` stay as they are written; see `read`.
    """
    if isinstance(given, str | Path):
        return read(given, text=text)
    table = _pandas(given)
    if table.columns.nlevels > 1:
        raise TableError(f"{source(table)} has column names of several levels; join them, such as 'loss_c4'")
    names = [str(name).strip() for name in table.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{source(table)} has the column '{twice[0]}' more than once. Rename or remove one of them")
    if names != list(table.columns):
        table = table.set_axis(names, axis=1)
    counted = table.index.name == ROW and pd.api.types.is_integer_dtype(table.index) and table.index.is_unique
    return table if counted else table.set_axis(pd.RangeIndex(1, len(table) + 1, name=ROW), axis=0)


def text_columns(*names: str | None, where: str | None) -> list[str]:
    """Columns of a file to read as written: names of groups of rows, and those that `where` compares with 'NA'."""
    compared = parse(where).as_written if where else ()
    return [name for name in (*names, *sorted(compared)) if name is not None]


def _pandas(given: TableLike) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        return given
    if hasattr(given, "to_pandas"):
        table: Any = given.to_pandas()
        if isinstance(table, pd.DataFrame):
            return table
    if hasattr(given, "__arrow_c_stream__"):
        arrow: pd.DataFrame = pyarrow.table(given).to_pandas()
        return arrow
    if isinstance(given, Mapping):
        try:
            return pd.DataFrame({name: np.atleast_1d(values) for name, values in given.items()})
        except ValueError as error:  # of unequal lengths, or of several axes
            raise TableError(f"the mapping is no table of columns: {error}") from error
    raise TableError(
        "a table is needed: a path, a pandas or polars DataFrame, or a mapping of columns; given"
        f" {type(given).__name__}"
    )
