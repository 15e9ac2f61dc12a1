"""JSON lines as a DataFrame: one object a line, each of its keys a column; a line without a key has no value there.

A list or object in a value becomes its JSON text. Refuses lines that are no JSON or no object, by line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import TableError
from analysis.tables.cells import as_text


def read_json_lines(path: Path, words: str) -> pd.DataFrame:
    """The lines as a table; blank lines are passed over. Raises TableError."""
    rows = [_row(path, number, line) for number, line in enumerate(words.split("\n"), start=1) if line.strip()]
    table = pd.DataFrame(rows)
    if not len(table.columns):
        raise TableError(f'{path} holds objects without any key; each line is to be an object such as {{"loss": 3.1}}')
    return table


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TableError(f"{path}, line {number} is no JSON: {error}. Each line is to be one JSON object") from None
    if not isinstance(row, dict):
        raise TableError(f"{path}, line {number} is a {type(row).__name__}; each line is to be one JSON object")
    return {name: as_text(value) for name, value in row.items()}
