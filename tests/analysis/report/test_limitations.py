"""What the report says it cannot show."""

from __future__ import annotations

from pathlib import Path

from synthetic_results import Truth, rows, write

from analysis.report.limitations import limits
from analysis.sweep.study import study
from analysis.tables.results import read_results


def test_families_that_see_later_tokens_in_training_are_named(tmp_path: Path) -> None:
    table = rows(Truth())
    for row in table:
        row["training_sees_later_tokens"] = int(row["family"] == "moe")
    said = [
        words for words in limits(study(read_results(write(tmp_path / "some.csv", table)))) if "later tokens" in words
    ]
    assert len(said) == 1
    assert "can change earlier ones in MoE:" in said[0]
    for row in table:
        row["training_sees_later_tokens"] = 0
    for path, known in ((tmp_path / "none.csv", table), (tmp_path / "unknown.csv", rows(Truth()))):
        assert not [words for words in limits(study(read_results(write(path, known)))) if "later tokens" in words]
