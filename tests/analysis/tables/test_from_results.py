"""A sweep's results become points without a second reader, and every row is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import TableError
from analysis.tables import observe_results
from analysis.tables.results import read_results
from tests.analysis.synthetic_results import Truth, rows, write


def test_compared_runs_are_points_and_all_others_are_accounted_for(tmp_path: Path) -> None:
    table = rows(Truth())
    table[-1] |= {"status": "failed", "loss_nats": ""}
    results = read_results(write(tmp_path / "t.csv", table))
    points = observe_results(results, series="dense")
    assert len(points) == 6
    assert points.num_settings == points.num_replicated == 3
    assert points.columns["D"].tolist() == [float(str(table[row - 1]["tokens"])) for row in points.row]
    assert points.loss.tolist() == [float(str(table[row - 1]["loss_nats"])) for row in points.row]
    assert sorted([*points.row.tolist(), *(one.row for one in points.exclusions)]) == list(range(1, len(table) + 1))
    assert set(points.excluded_by()) == {"status", "stage", "series dense"}
    assert points.sha256 == results.sha256


def test_series_that_agree_in_every_number_are_no_replicates(tmp_path: Path) -> None:
    table = [row for row in rows(Truth(seeds=(0,))) if row["stage"] == "compare"]
    for row in table:
        row |= {"params_active": 1000, "tokens": 5000, "flops_train": 1e13}
    assert observe_results(read_results(write(tmp_path / "t.csv", table))).num_settings == 3


def test_columns_that_are_not_there_or_not_for_every_run_are_refused(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "t.csv", rows(Truth())))
    with pytest.raises(TableError, match=r"no column 'params_activ' \(--params\). Did you mean 'params_active'"):
        observe_results(results, params="params_activ")
    with pytest.raises(TableError, match=r"row \d+ .*column 'table_learning_rate': it has no value"):
        observe_results(results, factors={"rate": "table_learning_rate"})
    with pytest.raises(TableError, match="no done run of the series 'peer'"):
        observe_results(results, series="peer")
