"""Tables are read whole or refused by name: file, row and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from analysis.errors import TableError
from analysis.tables.results import read_results
from tests.analysis.synthetic_results import Row, Truth, rows, write

Spoil = Callable[[list[Row]], list[Row]]


def set_cell(index: int, column: str, value: object) -> Spoil:
    def spoil(table: list[Row]) -> list[Row]:
        table[index][column] = value
        return table

    return spoil


def test_csv_and_parquet_give_the_same_runs(tmp_path: Path) -> None:
    table = rows(Truth())
    csv_path = write(tmp_path / "t.csv", table)
    plain = [{name: None if value == "" else value for name, value in row.items()} for row in table]
    names = list(table[0])
    parquet = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({name: [row.get(name) for row in plain] for name in names}), parquet)
    one, other = read_results(csv_path), read_results(parquet)
    assert one.compare.family == other.compare.family
    assert one.tune.name == other.tune.name
    for column in one.compare.numbers:
        np.testing.assert_array_equal(one.compare.numbers[column], other.compare.numbers[column])


def test_stages_and_failures_are_kept_apart(tmp_path: Path) -> None:
    table = rows(Truth())
    table[-1] |= {"status": "failed", "loss_nats": ""}
    results = read_results(write(tmp_path / "t.csv", table))
    assert len(results.compare) == 17
    assert len(results.tune) == 16  # the diverged one stays: it says where the edge is
    assert np.isnan(results.tune.number("loss_nats")).sum() == 1
    left_out = results.left_out[["status", "row"]].itertuples(index=False, name=None)
    assert set(left_out) == {("failed", len(table)), ("diverged", 14)}
    assert [one.row for one in results.exclusions] == [14, len(table)]
    assert results.num_rows == len(table)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_names_that_look_like_numbers_stay_as_they_are_written(tmp_path: Path, kind: str) -> None:
    table = [row | {"budget": f"{float(str(row['budget_flops'])):.0e}"} for row in rows(Truth())]
    table = [row | {"run_id": f"{at:012d}"} for at, row in enumerate(table)]
    renamed = {"dense": "1", "moe": "None", "memory_plus": "NA"}
    table = [row | {"family": renamed[str(row["family"])]} for row in table]
    path = write(tmp_path / "t.csv", table)
    if kind == "xlsx":
        path = tmp_path / "t.xlsx"
        pd.DataFrame(table).to_excel(path, index=False)
    results = read_results(path)
    assert results.frame["run_id"].tolist() == [row["run_id"] for row in table]
    assert set(results.compare.families) == {row["family"] for row in table}
    assert {budget.name for budget in results.compare.budgets()} == {
        row["budget"] for row in table if row["stage"] == "compare"
    }


def test_views_of_the_runs_count_as_the_rows_of_the_file_do(tmp_path: Path) -> None:
    table = [row for row in rows(Truth()) if row["stage"] == "compare" and row["status"] == "done"]
    runs = read_results(write(tmp_path / "t.csv", table)).compare
    for label, budget in runs.cells():
        mine = [row for row in table if row["family"] == label and float(str(row["budget_flops"])) == budget.flops]
        assert runs.number("loss_nats")[runs.of(label, budget)].tolist() == [
            float(str(row["loss_nats"])) for row in mine
        ]
    assert sum(int(runs.of(label, budget).sum()) for label, budget in runs.cells()) == len(table) == len(runs)
    half = runs.regrouped(np.arange(0, len(runs), 2), series=["a"] * ((len(runs) + 1) // 2), budgets=[
        runs.budgets()[0]] * ((len(runs) + 1) // 2))  # fmt: skip
    assert half.labels == ("a",)
    assert half.row.tolist() == runs.row[::2].tolist()


@pytest.mark.parametrize(
    "spoil, said",
    [
        (set_cell(30, "loss_nats", "three"), r"row 31.*'loss_nats'.*'three' is text"),
        (set_cell(30, "loss_nats", ""), r"row 31.*'loss_nats'.*empty"),
        (set_cell(30, "loss_nats", "nan"), r"row 31.*'loss_nats'.*empty or not a number"),
        (set_cell(30, "loss_nats", "-1"), r"row 31.*'loss_nats'.*above zero"),
        (set_cell(30, "flops_train", "inf"), r"row 31.*'flops_train'.*infinite"),
        (set_cell(30, "flops_train", "0"), r"row 31.*'flops_train'.*above zero"),
        (set_cell(30, "seed", "1.5"), r"row 31.*'seed'.*whole number"),
        (set_cell(30, "stage", "final"), r"row 31.*'stage'.*'final' is none of tune, tune-2 and so on, compare"),
        (set_cell(30, "status", "ok"), r"row 31.*'status'.*'ok' is none of"),
        (set_cell(30, "family", ""), r"row 31.*'family'.*empty"),
        (set_cell(30, "score_facts_recall_acc", ""), r"row 31.*'score_facts_recall_acc'.*other runs"),
        (set_cell(30, "score_facts_recall_acc", "1.2"), r"row 31.*share between 0 and 1"),
        (set_cell(30, "sweep", "other"), r"'sweep': holds 'memory_vs_moe', 'other'"),
        (set_cell(5, "seed", 1), None),
        (lambda table: [*table, dict(table[-1])], r"row 35.*'run_id'.*row 34"),
        (
            lambda table: [*table, table[-1] | {"run_id": "ffff"}],
            r"row 35.*'seed'.*same series, budget and seed.*row 34",
        ),
        (lambda table: [{k: v for k, v in row.items() if k != "loss_nats"} for row in table], r"no column 'loss_nats'"),
        (lambda table: [row | {"status": "failed", "loss_nats": ""} for row in table], r"is done \(18 failed\)"),
        (lambda table: [row for row in table if row["stage"] == "tune"], r"is done \(no row of that stage\)"),
    ],
)
def test_wrong_tables_are_refused_by_row_and_column(tmp_path: Path, spoil: Spoil, said: str | None) -> None:
    path = write(tmp_path / "t.csv", spoil(rows(Truth())))
    if said is None:
        read_results(path)
        return
    with pytest.raises(TableError, match=said) as refused:
        read_results(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("absent.csv", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("empty.parquet", b"", "is empty"),
        ("text.parquet", b"not a parquet file at all", "cannot be read as parquet"),
        ("table.ods", b"PK", "'.ods'"),
        ("ragged.csv", b"stage,family,status\ncompare,dense\n", "cannot be read as csv"),
        ("header.csv", b"stage,family,status,seed,budget_flops,flops_train,loss_nats\n", "no row"),
        ("twice.csv", b"stage,stage\na,b\n", "more than once"),
        ("near.csv", b"stage,family,status,seed,budget_flop\na,b,c,1,1\n", "Did you name it 'budget_flop'"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match=said):
        read_results(path)
