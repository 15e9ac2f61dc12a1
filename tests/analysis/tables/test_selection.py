"""What a notebook has is observed as it is: frames of pandas and of others, columns by keyword, weights, test rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest

from analysis.cli.main import main
from analysis.errors import TableError
from analysis.tables import ColumnMap, Filters, observe, read

RUNS = {"N": [1e7, 2e7, 4e7], "D": [2e9, 4e9, 8e9], "loss": [3.5, 3.2, 2.9]}


class WithToPandas:
    """As polars has it."""

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(RUNS)


@pytest.mark.parametrize(
    "table",
    [pd.DataFrame(RUNS), pd.DataFrame(RUNS, index=[7, 7, 9]), WithToPandas(),
     pyarrow.table(RUNS), pyarrow.table(RUNS).to_reader(), RUNS],
    ids=["pandas", "repeated-index", "to_pandas", "arrow", "arrow-stream", "mapping"],
)  # fmt: skip
def test_any_frame_goes_straight_in(table: Any) -> None:
    observations = observe(table)
    assert observations.columns["N"].tolist() == RUNS["N"]
    assert observations.loss.tolist() == RUNS["loss"]
    assert observations.row.tolist() == [1, 2, 3]
    assert observe(observations) is observations


def test_rows_of_a_file_keep_their_numbers_in_pandas(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("N,D,loss\n1e7,2e9,3.5\n2e7,4e9,3.2\n\n4e7,x,2.9\n")
    table = read(path)
    with pytest.raises(TableError, match=r"t.csv, row 3 \(line 5 of the file\), column 'D': 'x' is text"):
        observe(table[table["loss"] < 3.3])
    kept = observe(table[table["loss"] > 3])
    assert kept.row.tolist() == [1, 2]
    assert kept.source == str(path)


@pytest.mark.parametrize(
    "table, said",
    [
        (3, "a table is needed.*given int"),
        (pd.DataFrame([[1, 2]], columns=["N", "N"]), "'N' more than once"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])), "several levels"),
        (pd.DataFrame({"N": [1e7], "D": [1e9]}), "no column of the loss is named.*It has: 'N', 'D'"),
        (pd.DataFrame({"N": [1e7, -1], "loss": [3, 2.9]}), r"row 2, column 'N': it is -1; it must be above zero"),
    ],
    ids=["number", "twice", "levels", "no-loss", "negative"],
)
def test_other_things_are_refused(table: Any, said: str) -> None:
    with pytest.raises(TableError, match=said):
        observe(table)


def test_letters_are_taken_by_name_only_where_nothing_else_is_named() -> None:
    table = {**RUNS, "E": [8, 16, 32], "size": [1e8, 2e8, 3e8], "C": [1e18, 2e18, 3e18]}
    assert set(observe(table).columns) == {"N", "D", "C"}
    assert set(observe(table, reads=("N", "E")).columns) == {"N", "E"}
    assert set(observe(RUNS, flops="D").columns) == {"N", "C"}
    assert observe(table, params="size").columns["N"].tolist() == table["size"]
    assert observe(table, params="size", tokens_from_flops=True).column_names["D"] == "C / (6 N)"
    flops = observe(
        {"N": [1e8, 1e9], "flops": [1e18, 1e19], "loss": [3, 2]}, params="N", flops="flops", reads=("N", "D")
    )
    assert flops.columns["D"].tolist() == pytest.approx([1e18 / 6e8, 1e19 / 6e9])


def test_options_and_maps_are_not_mixed_and_unknown_options_are_refused() -> None:
    with pytest.raises(TableError, match=r"no table option 'tokns'; there are: .*tokens"):
        observe(RUNS, tokns="D")
    with pytest.raises(TableError, match="not a mixture"):
        observe(RUNS, ColumnMap(loss="loss"), where="N > 1")
    with pytest.raises(TableError, match="read already"):
        observe(observe(RUNS), filters=Filters(drop_highest=1))


def test_weights_and_standard_errors_come_along_and_must_be_positive() -> None:
    observations = observe({**RUNS, "w": [1, 2, 3]}, weight="w", drop_highest=1)
    assert observations.weight is not None
    assert observations.weight.tolist() == [2, 3]
    assert observations.stderr is None
    assert set(observations.columns) == {"N", "D"}
    errors = observe({**RUNS, "se": [0.1, 0.2, 0.3]}, stderr="se").stderr
    assert errors is not None
    assert errors.tolist() == [0.1, 0.2, 0.3]
    with pytest.raises(TableError, match="row 2, column 'w': it is 0; it must be above zero"):
        observe({**RUNS, "w": [1, 0, 3]}, weight="w")
    with pytest.raises(TableError, match="give one of them"):
        observe({**RUNS, "w": [1, 2, 3]}, weight="w", stderr="w")


@pytest.mark.parametrize(
    "words", [["train", "Test", "TRAIN"], [True, False, True], [1, 0, 1], ["fit", "held-out", "fit"]]
)
def test_test_rows_are_marked(words: list[Any]) -> None:
    held_out = observe({**RUNS, "split": words}, train="split").held_out
    assert held_out is not None
    assert held_out.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "words, said",
    [(["train", "dev", "train"], "row 2, column 'split': 'dev' says neither train"),
     (["test"] * 3, "no row that is left is a training row")],
    ids=["unknown", "none-left"],
)  # fmt: skip
def test_a_split_that_is_none_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(TableError, match=said):
        observe({**RUNS, "split": words}, train="split")


def test_the_best_rate_of_each_setting_is_kept_and_averaged_over_seeds() -> None:
    table = pd.DataFrame(
        [(1e7, 1e-3, 0, 3.0), (1e7, 2e-3, 0, 2.8), (1e7, 2e-3, 1, 3.0), (1e7, 4e-3, 0, 2.95), (2e7, 1e-3, 0, 2.7),
         (2e7, 2e-3, 0, 2.6), (2e7, 4e-3, 0, 2.65)],
        columns=["N", "lr", "seed", "loss"],
    )  # fmt: skip
    observations = observe(table, best_of="lr")
    assert observations.row.tolist() == [2, 3, 6]
    assert observations.excluded_by() == {"best-of lr": 4}
    assert (
        "its learning rate 0.001 has a mean loss of 3 at this setting, 0.002 one of 2.9"
        in observations.exclusions[0].reason
    )
    (said,) = [one for one in observe(table[table["lr"] < 3e-3], best_of="lr").warnings if "learning rate" in one]
    assert "at 2 of 2 settings" in said
    with pytest.raises(TableError, match="name two columns of the rate"):
        observe(table, best_of="lr", learning_rate="N")


EXPORT = """Name,State,Runtime,_step,params (M),tokens (B),val/loss
glad-sun-1,finished,100,5000,100,2,3.4
dim-fog-2,crashed,50,2000,100,2,4.9
odd-owl-3,Failed,1,0,200,4,
calm-sky-4,running,70,3000,200,4,3.9
red-oak-5,killed,70,3000,200,4,3.9
warm-sea-6,finished,200,9000,200,4,3.1
"""


def test_a_wandb_export_is_read_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wandb.csv"
    path.write_text(EXPORT)
    options = {"params": "params (M)", "tokens": "tokens (B)", "loss": "val/loss"}
    observations = observe(path, **options)
    assert observations.row.tolist() == [1, 6]
    assert observations.columns["N"].tolist() == [1e8, 2e8]
    assert [one.reason.partition(":")[0] for one in observations.exclusions] == [
        "crashed",
        "failed",
        "running",
        "killed",
    ]
    chosen = ["isoflop", str(path), "--params", "params (M)", "--loss", "val/loss", "--units", "width=B"]
    assert main(chosen) == 2
    assert "--units width=B: units are those of params, tokens, flops" in capsys.readouterr().err
    path.write_text(EXPORT.replace("killed", "sleeping"))
    with pytest.raises(TableError, match=r"row 5 .*column 'State': 'sleeping' is no known status \(.*crashed.*\)"):
        observe(path, **options)
    arguments = [part for name, column in options.items() for part in (f"--{name}", column)]
    assert main(["fit", str(path), "--law", "power", "--factor", "x=_step", *arguments]) == 2
    assert "'sleeping' is no known status" in capsys.readouterr().err


def test_an_excel_sheet_reads_as_its_csv(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    table = pd.DataFrame({**RUNS, "note": ["a", None, "c"]})
    with pd.ExcelWriter(path) as book:
        table.to_excel(book, sheet_name="runs", index=False)
        pd.DataFrame({"N": [1]}).to_excel(book, sheet_name="other", index=False)
    with pytest.raises(TableError, match=r"has 2 sheets: 'runs', 'other'. Name one"):
        read(path)
    with pytest.raises(TableError, match=r"no sheet 'run'. Did you mean 'runs'"):
        read(path, sheet="run")
    observations = observe(read(path, sheet="runs"), where="note != 'a'")
    assert observations.loss.tolist() == [3.2, 2.9]
    assert observations.row.tolist() == [2, 3]


def test_rows_of_a_sheet_with_gaps_are_named_as_the_sheet_counts_them(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    pd.DataFrame([["N", "loss"], [1e7, 3], [None, None], [2e7, "x"]]).to_excel(path, header=False, index=False)
    with pytest.raises(TableError, match=r"row 2 \(row 4 of the sheet\), column 'loss': 'x' is text"):
        observe(path)


def test_a_european_file_reads_alike_when_told_and_hints_when_not(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("N;D;loss\n1e7;2e9;3,5\n2e7;4000000000;3,2\n40.000.000;8e9;2,9\n")
    with pytest.raises(TableError, match=r"separated by ';'.*\(--separator ';' --decimal ,\)"):
        read(path)
    with pytest.raises(TableError, match=r"column 'loss': '3,5' is text.*decimal comma.*--decimal ,"):
        observe(read(path, separator=";", thousands="."))
    table = read(path, separator=";", decimal=",", thousands=".")
    assert observe(table).frame[["N", "D", "loss"]].to_numpy().tolist() == pd.DataFrame(RUNS).to_numpy().tolist()


def test_whole_numbers_stay_whole_and_words_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("N,seed,name,half,flag,id\n10000000,1,none,0.5,true,007\n20000000,,x,,False,12\n")
    table = read(path)
    assert table["N"].dtype == np.int64
    assert table["seed"].tolist()[0] == 1.0
    assert table["name"].tolist() == ["none", "x"]
    assert np.isnan(table["half"].iloc[1])
    assert table["flag"].tolist() == ["true", "False"]
    assert table["id"].tolist() == ["007", "12"]
    assert table.index.tolist() == [1, 2]
    assert all(isinstance(value, str) for value in table.attrs.values())
