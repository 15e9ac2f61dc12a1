"""The condition of --where computes with columns and does nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import TableError
from analysis.tables.expression import LONGEST, parse
from analysis.tables.file import read

TABLE = """Model Size,loss,dataset,outlier,note,class
1e7,3.5,c4,False,,a
2e7,3.2,rpj,true,x,b
4e7,,c4,0,none,c
8e7,2.5,c4,,y,
"""


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    return read(path)


@pytest.mark.parametrize(
    "text, rows",
    [
        ("loss < 3.3", [1, 3]),
        ("not loss < 3.3", [0]),  # the empty loss of row 2 lets it in neither way
        ("loss != 3.5", [1, 3]),
        ("3 < loss <= 3.5", [0, 1]),
        ("`Model Size` >= 2e7 and loss > 0", [1, 3]),
        ("`Model Size` / 1e7 in (1, 8)", [0, 3]),
        ("`Model Size` not in [1e7, 2e7]", [2, 3]),
        ("dataset == 'rpj'", [1]),
        ("dataset != 'rpj' and loss > 0", [0, 3]),
        ("dataset in ('rpj', 'pile')", [1]),
        ("not outlier", [0, 2]),
        ("outlier", [1]),
        ("outlier == False", [0, 2]),
        ("outlier or loss > 3.4", [0, 1]),
        ("loss > 3 or dataset == 'c4'", [0, 1, 2, 3]),  # known to hold whatever the empty loss is
        ("(loss > 3) & ~outlier | (note == 'y')", [0, 3]),
        ("note == ''", [0]),
        ("`class` == 'b'", [1]),
        ("-loss < -3.3", [0]),
        ("loss ** 2 % 3 > 0 and loss * 2 - 1 + 0 > 5.5", [0]),
        ("9 ** 9 ** 9 ** 9 > loss", [0, 1, 3]),  # infinite at once, no endless whole number
    ],
)
def test_conditions_hold_where_they_should(table: pd.DataFrame, text: str, rows: list[int]) -> None:
    condition = parse(text)
    assert np.flatnonzero(condition.holds(table, np.arange(4))).tolist() == rows
    assert np.flatnonzero(condition.holds(table, np.array([1, 3]))).tolist() == [
        at for at, row in enumerate((1, 3)) if row in rows
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("__import__('os').system('true')", "is no condition"),
        ("loss.__class__ == 1", "'loss.__class__' is not allowed"),
        ("loss[0] > 1", "not allowed"),
        ("abs(loss) > 1", "not allowed"),
        ("(lambda: 1)() > 1", "not allowed"),
        ("[one for one in (1,)] == loss", "not allowed"),
        ("(loss := 3) > 1", "not allowed"),
        ("f'{loss}' == 'a'", "not allowed"),
        ("loss if loss else loss", "is no condition"),
        ("loss + 1", "is no condition"),
        ("loss is None", "not allowed"),
        ("loss in dataset", "'in' needs a list"),
        ("loss > 1j", "not allowed"),
        ("loss > None", "not allowed"),
        ("los > 1", "no column 'los'. Did you mean 'loss'"),
        ("loss > 'three'", "is no number"),
        ("'a' == 'a'", "only be compared with a column"),
        ("dataset > 3", r"row 1 \(line 2 of the file\), column 'dataset': 'c4' is text"),
        ("dataset", "'c4' is neither true nor false"),
        ("loss >", "cannot be read"),
        ("loss = 3", "cannot be read"),
        ("", "cannot be read"),
        ("import os", "cannot be read"),
        ("loss > 1\x00", "cannot be read"),
        ("(" * 500 + "loss" + ")" * 500 + " > 1", "cannot be read"),
        ("loss > 1 or " * 200 + "loss > 1", f"at most {LONGEST}"),
    ],
)
def test_everything_else_is_refused(table: pd.DataFrame, text: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        parse(text).holds(table, np.arange(4))
