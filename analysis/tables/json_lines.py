"""JSON lines as a DataFrame: one object a line, each of its keys a column; a line without a key has no value there.

A list or object in a value becomes its JSON text, and so does a number in a column of text: 1e+14 stays '1e+14'.
Refuses lines that are no JSON or no object, by line.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import nested_as_text


def read_json_lines(path: Path, words: str, as_text: Collection[str] = ()) -> pd.DataFrame:
    """The lines as a table; blank lines are passed over. Raises TableError."""
    rows = [_row(path, number, line, as_text) for number, line in enumerate(words.split("\n"), start=1) if line.strip()]
    table = pd.DataFrame(rows)
    if not len(table.columns):
        raise TableError(f'{path} holds objects without any key; each line is to be an object such as {{"loss": 3.1}}')
    return table


def _row(path: Path, number: int, line: str, as_text: Collection[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TableError(f"{path}, line {number} is no JSON: {error}. Each line is to be one JSON object") from None
    if not isinstance(row, dict):
        raise TableError(f"{path}, line {number} is a {type(row).__name__}; each line is to be one JSON object")
    if any(isinstance(value, float | int) for name, value in row.items() if name.strip() in as_text):
        written = json.loads(line, parse_float=str, parse_int=str)
        row |= {name: value for name, value in written.items() if name.strip() in as_text}
    return {name: nested_as_text(value) for name, value in row.items()}
