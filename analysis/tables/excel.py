"""A sheet of an .xlsx workbook as a DataFrame, its first row the header; rows without any value are passed over."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd

from analysis.errors import TableError
from analysis.tables.suggestion import suggestion


def read_excel(path: Path, content: bytes, sheet: str | None) -> pd.DataFrame:
    """One sheet, its index the row of the sheet, counted from 1.

    Raises TableError where openpyxl is not installed, and where a sheet of several is not named.
    """
    try:
        with pd.ExcelFile(io.BytesIO(content), engine="openpyxl") as book:
            names = [str(name) for name in book.sheet_names]
            if sheet is None and len(names) > 1:
                listed = ", ".join(f"'{name}'" for name in names)
                raise TableError(f"{path} has {len(names)} sheets: {listed}. Name one (--sheet '{names[0]}')")
            if sheet is not None and sheet not in names:
                raise TableError(f"{path} has no sheet '{sheet}'.{suggestion(sheet, names)}")
            table = pd.read_excel(
                book, sheet_name=sheet or names[0], header=None, dtype=object, keep_default_na=False, na_values=[""]
            )
    except ImportError:
        raise TableError(
            f"{path} needs the package 'openpyxl', which is not installed: pip install openpyxl. Or save the sheet as"
            " .csv"
        ) from None
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise TableError(f"{path} cannot be read as an Excel workbook: {error}") from None
    table = table.dropna(how="all").dropna(how="all", axis=1)
    if table.empty:
        raise TableError(f"{path} holds an empty sheet '{sheet or names[0]}'")
    header = [f"column {at}" if pd.isna(name) else str(name) for at, name in enumerate(table.iloc[0].tolist(), start=1)]
    body = table.iloc[1:].infer_objects()
    body.columns = pd.Index(header)
    body.index = body.index + 1
    return body
