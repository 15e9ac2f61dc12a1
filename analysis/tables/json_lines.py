"""JSON lines to columns: one object a line, each of its keys a column; a line without a key has no value there.

Numbers stay numbers. A column that holds anything else is text, an object or list in it as its JSON. Refuses lines
that are no JSON or no object, by line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow

from analysis.errors import TableError


def read_json_lines(path: Path, words: str) -> Any:
    """The lines as a pyarrow table; blank lines are passed over. Raises TableError."""
    rows = []
    for number, line in enumerate(words.split("\n"), start=1):
        if line.strip():
            rows.append(_row(path, number, line))
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        raise TableError(f'{path} holds objects without any key; each line is to be an object such as {{"loss": 3.1}}')
    return pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TableError(f"{path}, line {number} is no JSON: {error}. Each line is to be one JSON object") from None
    if not isinstance(row, dict):
        raise TableError(f"{path}, line {number} is a {type(row).__name__}; each line is to be one JSON object")
    return row


def _column(values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return pyarrow.array([None if value is None else _float(value) for value in values], pyarrow.float64())
    if kinds == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    return pyarrow.array(
        [value if value is None or isinstance(value, str) else json.dumps(value) for value in values],
        pyarrow.string(),
    )


def _float(value: float) -> float:
    """A whole number of more digits than a float can hold is infinite, which whoever reads the column refuses."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
