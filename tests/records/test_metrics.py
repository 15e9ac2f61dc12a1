"""The metrics log: what was added comes back, once, whatever broke in between."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
