"""Rows leave only by a stated rule, in a fixed order, and each keeps its reason; repeats are recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.errors import TableError
from analysis.tables import ColumnMap, Filters, Observations, observe

COLUMNS = ColumnMap(loss="loss", params="N", tokens="D")
HEADER = "N,D,loss,seed,status,host\n"


def points_of(tmp_path: Path, rows: str, filters: Filters | None = None, columns: ColumnMap = COLUMNS) -> Observations:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + rows)
    return observe(path, columns, filters)


def test_runs_without_an_end_leave_by_their_status(tmp_path: Path) -> None:
    rows = "1,1,3,0,done,a\n2,1,,0,diverged,a\n3,1,,0,Running,a\n4,1,2,0,FINISHED,a\n5,1,9,0,killed,a\n"
    points = points_of(tmp_path, rows)
    assert points.row.tolist() == [1, 4]
    assert [(one.row, one.rule) for one in points.exclusions] == [(2, "status"), (3, "status"), (5, "status")]
    assert "diverged" in points.exclusions[0].reason
    assert "running: it has no final loss" in points.exclusions[1].reason
    with pytest.raises(TableError, match=r"row 2 .*column 'status': 'weird' is no known status"):
        points_of(tmp_path, rows.replace("diverged", "weird"))
    with pytest.raises(TableError, match=r"row 2 .*column 'loss': it has no value"):
        points_of(tmp_path, rows, columns=ColumnMap(loss="loss", params="N", tokens="D", status=None))


def test_rules_apply_in_their_order_and_account_for_every_row(tmp_path: Path) -> None:
    rows = (
        "1,1,9,0,failed,a\n"  # status, though its loss is the highest
        "2,1,8,0,done,b\n"  # where
        "3,1,text,0,done,a\n"  # drop-invalid
        "4,1,7,0,done,a\n"  # drop-highest
        "5,1,6,0,done,a\n"
        "5,1,6,0,done,a\n"  # drop-duplicates
        "6,1,5,0,done,a\n"
    )
    filters = Filters(where="host == 'a'", drop_invalid=True, drop_duplicates=True, drop_highest=1)
    points = points_of(tmp_path, rows, filters)
    assert points.row.tolist() == [5, 7]
    assert points.loss.tolist() == [6, 5]
    assert points.excluded_by() == {
        "status": 1, "where host == 'a'": 1, "drop-invalid": 1, "drop-duplicates": 1, "drop-highest 1": 1,
    }  # fmt: skip
    reasons = {one.row: one.reason for one in points.exclusions}
    assert reasons[3] == "column 'loss': 'text' is text; a number is needed"
    assert "agrees with row 5" in reasons[6]
    assert sorted([*reasons, *points.row.tolist()]) == list(range(1, 8))


def test_nothing_left_is_refused_with_the_rules_that_did_it(tmp_path: Path) -> None:
    rows = "1,1,9,0,failed,a\n2,1,8,0,done,b\n"
    with pytest.raises(TableError, match=r"all 2 rows are left out \(1 by 'status', 1 by 'where N > 5'\)"):
        points_of(tmp_path, rows, Filters(where="N > 5"))
    with pytest.raises(TableError, match="--drop-highest 1 leaves nothing of 1 row"):
        points_of(tmp_path, rows, Filters(drop_highest=1))
    with pytest.raises(TableError, match="0 or more"):
        Filters(drop_highest=-1)


def test_a_tie_at_the_last_dropped_loss_is_said(tmp_path: Path) -> None:
    points = points_of(tmp_path, "1,1,5,0,done,a\n2,1,5,0,done,a\n3,1,4,0,done,a\n", Filters(drop_highest=1))
    assert points.row.tolist() == [2, 3]
    assert any("separates rows of equal loss 5: row 2 is kept" in one for one in points.warnings)


def test_replicates_and_duplicates_are_told_apart(tmp_path: Path) -> None:
    rows = (
        "1,1,3.0,0,done,a\n"
        "1,1,3.1,1,done,a\n"  # a replicate
        "1,1,3.0,0,done,b\n"  # the first again
        "1,1,3.2,1,done,a\n"  # a seed with two losses
        "2,1,3.0,0,done,a\n"
    )
    points = points_of(tmp_path, rows)
    assert points.setting.tolist() == [0, 0, 0, 0, 1]
    assert (points.num_settings, points.num_replicated) == (2, 1)
    assert any("row 3 agree" in one and "(row 3 with row 1)" in one for one in points.warnings)
    assert any("row 4 has the columns and the seed of an earlier row, but another loss" in one
               for one in points.warnings)  # fmt: skip
    factor = ColumnMap(loss="loss", params="N", tokens="D", factors={"host": "seed"}, seed_column=None)
    assert points_of(tmp_path, rows, columns=factor).setting.tolist() == [0, 1, 0, 1, 2]


def test_tokens_are_derived_only_where_that_is_asked_for(tmp_path: Path) -> None:
    columns = ColumnMap(loss="loss", params="N", flops="D", tokens_from_flops=True)
    points = points_of(tmp_path, "2,24,3,0,done,a\n4,24,2,0,done,b\n", columns=columns)
    assert points.columns["D"].tolist() == [2.0, 1.0]
    assert points.column_names["D"] == "C / (6 N)"
    assert (
        "D"
        not in points_of(tmp_path, "2,24,3,0,done,a\n", columns=ColumnMap(loss="loss", params="N", flops="D")).columns
    )
    both = ColumnMap(loss="loss", params="N", tokens="D", flops_from_tokens=True)
    assert points_of(tmp_path, "2,2,3,0,done,a\n", columns=both).columns["C"].tolist() == [24.0]


@pytest.mark.parametrize(
    "given, said",
    [
        ({"params": "N", "tokens_from_flops": True}, "needs the columns of both inputs: give --params and --flops"),
        ({"params": "N", "tokens": "D", "flops": "C", "tokens_from_flops": True}, "leave one of them out"),
        ({"factors": {"N": "seed"}}, "the name N is taken; give that column with --params"),
        ({"factors": {"a b": "seed"}}, "one word"),
    ],
)
def test_roles_that_contradict_each_other_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(TableError, match=said):
        ColumnMap(loss="loss", **given)


def test_a_cluster_is_any_column(tmp_path: Path) -> None:
    columns = ColumnMap(loss="loss", params="N", tokens="D", cluster="host")
    points = points_of(tmp_path, "1,1,3,0,done,b\n2,1,4,0,done,a\n3,1,2,0,done,b\n", Filters(drop_highest=1), columns)
    assert points.cluster is not None
    assert np.array_equal(points.cluster, [1, 1])


def test_a_sweep_s_tuning_runs_leave_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        "run_id,stage,family,status,params_active,tokens,loss_nats\n"
        "a,tune,dense,done,1,1,3\nb,compare,dense,done,1,2,2.9\nc,compare,dense,done,2,2,2.8\n"
    )
    columns = ColumnMap(loss="loss_nats", params="params_active", tokens="tokens")
    assert observe(path, columns).excluded_by() == {"stage": 1}
    assert observe(path, columns, Filters(where="stage == 'tune'")).row.tolist() == [1]
