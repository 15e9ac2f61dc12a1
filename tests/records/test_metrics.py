"""The metrics log: what was added comes back, once, whatever broke in between."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memscale.errors import RecordError
from memscale.records.metrics import MetricsLog, cut_back, read_metrics


def test_every_number_comes_back_the_odd_ones_too(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    values = {"a": 1 / 3, "b": math.inf, "c": -math.inf, "d": math.nan}
    log.add(5, 5120, "train", **values)
    log.close()
    read = list(read_metrics(path))
    assert [(m.step, m.tokens, m.split, m.name) for m in read] == [(5, 5120, "train", name) for name in values]
    assert [m.value for m in read[:3]] == [1 / 3, math.inf, -math.inf]
    assert math.isnan(read[3].value)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.integers(1, 30), cut=st.integers(0, 31), torn=st.integers(0, 40))
def test_cut_back_drops_what_came_after_and_a_torn_line(tmp_path: Path, steps: int, cut: int, torn: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.unlink(missing_ok=True)
    log = MetricsLog(path)
    for step in range(1, steps + 1):
        log.add(step, step * 10, "train", loss=1.0 / step, lr=0.1)
    log.close()
    whole = path.read_bytes()
    assert b"\n" not in whole[:torn]
    path.write_bytes(whole + whole[:torn])  # what a crash in the middle of a write leaves
    assert len(list(read_metrics(path))) == 2 * steps
    cut_back(path, cut)
    assert [m.step for m in read_metrics(path)] == [step for step in range(1, min(cut, steps) + 1) for _ in range(2)]
    again = MetricsLog(path)
    for step in range(min(cut, steps) + 1, steps + 1):
        again.add(step, step * 10, "train", loss=1.0 / step, lr=0.1)
    again.close()
    assert [(m.step, m.name) for m in read_metrics(path)] == [
        (step, name) for step in range(1, steps + 1) for name in ("loss", "lr")
    ]


def test_no_file_has_no_metrics(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path / "none.jsonl")) == []
    cut_back(tmp_path / "none.jsonl", 3)


def _log(path: Path, run_id: str, steps: int = 6) -> list[str]:
    log = MetricsLog(path, run_id)
    for step in range(1, steps + 1):
        log.add(step, step * 10, "train", loss=1.0 / step)
    log.close()
    return path.read_text().splitlines(keepends=True)


EDITS = {
    "a value": lambda lines: [line.replace("0.5", "0.4") for line in lines],
    "a chain": lambda lines: [lines[0], lines[1][:-4] + 'x"}\n', *lines[2:]],
    "two lines": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "a gap": lambda lines: [lines[0], *lines[2:]],
    "a line twice": lambda lines: [lines[0], lines[0], *lines[1:]],
    "a key": lambda lines: [lines[0], lines[1].replace('"name"', '"nome"'), *lines[2:]],
    "binary": lambda lines: [lines[0], "\x00\n", *lines[2:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_noticed_and_what_stands_before_it_is_kept(tmp_path: Path, edit: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(EDITS[edit](_log(path, "a" * 12))))
    read = read_metrics(path, "a" * 12)
    assert next(read).value == 1.0
    with pytest.raises(RecordError, match=r"metrics.jsonl, line \d"):
        list(read)
    assert cut_back(path, 99, "a" * 12) == 1
    again = MetricsLog(path, "a" * 12)
    again.add(2, 20, "train", loss=0.5)
    again.close()
    assert [metric.step for metric in read_metrics(path, "a" * 12)] == [1, 2]
    assert again.num_lines == 2


def test_another_runs_metrics_are_noticed_at_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _log(path, "a" * 12)
    with pytest.raises(RecordError, match="line 1 does not follow"):
        list(read_metrics(path, "b" * 12))
    assert len(list(read_metrics(path))) == 6
    assert cut_back(path, 99, "b" * 12) == 0


def test_lines_of_earlier_versions_are_read_and_the_chain_goes_on_over_them(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(re.sub(r', "chain": "\w+"', "", line) for line in _log(path, "a" * 12, steps=2)))
    assert "chain" not in path.read_text()
    lines = _log(path, "a" * 12, steps=1)
    assert len(list(read_metrics(path, "a" * 12))) == 3
    path.write_text("".join([lines[0].replace("1.0", "2.0"), *lines[1:]]))
    with pytest.raises(RecordError, match="line 3"):
        list(read_metrics(path, "a" * 12))
