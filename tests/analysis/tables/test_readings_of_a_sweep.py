"""The readings of a sweep, from its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.errors import TableError
from analysis.tables.looks import Looks, read_looks


def test_each_number_of_seeds_is_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "looks.json"
    assert read_looks(path) is None
    seeds = [[0, 1], [1, 0], [0, 1, 2, 3]]
    path.write_text(json.dumps({"format": 1, "seal": "x", "looks": [{"seeds": one, "time": "now"} for one in seeds]}))
    assert read_looks(path) == Looks(num_seeds=(2, 4))


@pytest.mark.parametrize(("now", "counts"), [(4, (2, 4)), (6, (2, 4, 6)), (2, (2,)), (3, (2, 4))])
def test_the_present_reading_is_new_where_it_has_more_seeds(now: int, counts: tuple[int, ...]) -> None:
    assert Looks(num_seeds=(2, 4)).now(now).num_seeds == counts


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "not a list of readings"), ("{", "not a list"), ('{"format": 9, "looks": []}', "newer than 1")],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "looks.json"
    path.write_text(text)
    with pytest.raises(TableError, match=said):
        read_looks(path)
