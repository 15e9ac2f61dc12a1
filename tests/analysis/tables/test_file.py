"""Tables as people really have them: each mistake is refused by what it is and where it stands."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from analysis.errors import TableError
from analysis.tables import ColumnMap, Filters, Observations, observe, read

COLUMNS = ColumnMap(loss="loss", params="N", tokens="D")
GOOD = "N,D,loss\n1e7,2e9,3.5\n2e7,4e9,3.2\n4e7,8e9,2.9\n"


def points_of(
    tmp_path: Path, content: str | bytes, *, name: str = "t.csv", columns: ColumnMap = COLUMNS,
    filters: Filters | None = None, separator: str | None = None, thousands: str = "",
) -> Observations:  # fmt: skip
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return observe(read(path, separator=separator, thousands=thousands), columns, filters)


@pytest.mark.parametrize(
    "content, said",
    [
        ("", r"is empty \(0 bytes\)"),
        ("\n\n \n", "blank lines only"),
        ("N,D,loss\n", "a header, but no row"),
        ("N,D,N\n1,2,3\n", "'N' more than once"),
        ("N,D,Loss\n1,2,3\n", r"no column 'loss' \(--loss\). Did you mean 'Loss'\? It has: 'N', 'D', 'Loss'"),
        ("params,tokens,loss\n1,2,3\n", r"no column 'N' \(--params\)"),
        (GOOD.replace("2e7", ""), r"row 2 \(line 3 of the file\), column 'N': it has no value.*--drop-invalid"),
        (GOOD.replace("3.2", "nan"), r"row 2 .*column 'loss': it has no value"),
        (GOOD.replace("3.2", "-inf"), r"row 2 .*column 'loss': it is infinite"),
        (GOOD.replace("3.2", "0"), r"row 2 .*column 'loss': it is 0; it must be above zero"),
        (GOOD.replace("4e9", "-4e9"), r"row 2 .*column 'D': it is -4e\+09; it must be above zero"),
        (GOOD.replace("3.2", "three"), r"row 2 .*column 'loss': 'three' is text; a number is needed"),
        (GOOD.replace("2e9", "0").replace("3.2", "x"), r"row 1 .*column 'D'.*1 more row with such values"),
        (GOOD.replace("2e7", '"20,000,000"'), r"'20,000,000' is text.*thousands separators.*--thousands \",\""),
        (GOOD.replace("2e7", "20,000,000"), r"line 3 has 5 values, the header 3. A comma inside a number"),
        (GOOD.replace("3.2", '"3,2"'), "decimal comma"),
        (GOOD.replace(",", ";"), r"it is separated by ';'.*--separator ';'"),
        (GOOD.replace(",", "\t"), r"it is separated by tabs.*--separator tab"),
        (GOOD.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (GOOD.encode() + "1e8,1e10,2.5é\n".encode("latin-1"), "line 5: byte 0xe9 is not UTF-8"),
        (GOOD + "1e8,1e10\n", "line 5 has 2 values, the header 3"),
        (b"\x00\x01\x02", "no column 'N'"),
    ],
)
def test_a_wrong_csv_file_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(TableError, match=said) as refused:
        points_of(tmp_path, content)
    assert str(tmp_path / "t.csv") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("t.jsonl", '{"N": 1, "D": 1, "loss": 1}\n{"N": 1, "D"', "line 2 is no JSON"),
        ("t.jsonl", '{"N": 1, "D": 1, "loss": 1}\n\n[1]', "line 3 is a list"),
        ("t.jsonl", "{}\n", "without any key"),
        (
            "t.jsonl",
            '{"N": 1, "D": 1, "loss": 1}\n\n{"N": 2, "D": "x", "loss": 1}',
            r"row 2 \(line 3 of the file\).*'x'",
        ),
        ("t.jsonl", '{"N": 1, "D": 1, "loss": 1}\n{"N": 2, "loss": 1}', r"row 2 .*column 'D': it has no value"),
        ("t.jsonl", '{"N": 1, "D": 1, "loss": NaN}', r"row 1 .*column 'loss': it has no value"),
        ("t.jsonl", '{"N": 1' + "0" * 400 + ', "D": 1, "loss": 1}', r"column 'N': it is infinite"),
        ("t.parquet", "N,D,loss\n", "cannot be read as parquet"),
        ("t.csv.gz", GOOD, "cannot be unpacked"),
        ("t.xlsx", "PK", "cannot be read as an Excel workbook"),
        ("t.ods", "PK", r"ends in '.ods'; a table is a .parquet, .csv"),
    ],
)
def test_other_wrong_files_are_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        points_of(tmp_path, content, name=name)


def test_a_folder_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is a folder"):
        observe(tmp_path, COLUMNS)
    with pytest.raises(TableError, match="does not exist"):
        observe(tmp_path / "absent.csv", COLUMNS)


@pytest.mark.parametrize(
    "name, content",
    [
        ("t.csv", GOOD),
        ("t.csv", b"\xef\xbb\xbf" + GOOD.encode()),
        ("t.CSV", GOOD.replace("\n", "\r\n")),
        ("t.csv", GOOD.replace("\n", "\n\n").replace(",", " , ")),
        ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)),
        ("t.tsv", GOOD.replace(",", "\t")),
        ("t.jsonl", "".join(json.dumps(one) + "\n" for one in (
            {"N": 10_000_000, "D": 2e9, "loss": 3.5}, {"N": "2e7", "D": 4e9, "loss": 3.2},
            {"N": 4e7, "D": 8e9, "loss": 2.9}))),
    ],
)  # fmt: skip
def test_one_table_reads_alike_however_it_is_written(tmp_path: Path, name: str, content: str | bytes) -> None:
    points = points_of(tmp_path, content, name=name)
    np.testing.assert_array_equal(points.columns["N"], [1e7, 2e7, 4e7])
    np.testing.assert_array_equal(points.columns["D"], [2e9, 4e9, 8e9])
    np.testing.assert_array_equal(points.loss, [3.5, 3.2, 2.9])
    assert points.warnings == ()


def test_parquet_reads_alike_whatever_its_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = {
        "N": pyarrow.array([10_000_000, 20_000_000, 40_000_000], pyarrow.int32()),
        "D": pyarrow.array(["2e9", "4e9", "8e9"]).dictionary_encode(),
        "loss": pyarrow.array([3.5, 3.2, 2.9], pyarrow.float32()),
    }
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    points = observe(path, COLUMNS)
    np.testing.assert_array_equal(points.columns["D"], [2e9, 4e9, 8e9])
    np.testing.assert_allclose(points.loss, [3.5, 3.2, 2.9], rtol=1e-7)


@pytest.mark.parametrize("late", [1, "x", ["x"], {"a": 1}, None], ids=["number", "text", "list", "object", "null"])
def test_a_key_that_comes_late_or_changes_its_kind_is_a_column_like_any_other(tmp_path: Path, late: object) -> None:
    lines = [{"N": 1e7 + at, "D": 2e9, "loss": 3.0 + at} for at in range(200)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in [*lines, {**lines[0], "late": late}]))
    table = read(path)
    assert table["late"].isna().sum() == (201 if late is None else 200)
    assert len(observe(table)) == 201
    word = late if isinstance(late, str) else json.dumps(late)
    if late is not None:
        assert observe(table, where=f"late == {word!r}").row.tolist() == [201]


def test_a_separator_and_a_thousands_mark_can_be_given(tmp_path: Path) -> None:
    content = "N;D;loss\n10,000,000;2e9;3.5\n1,5;4e9;3.2\n"
    with pytest.raises(TableError, match=r"row 2 .*'1,5' is text.*decimal comma"):
        points_of(tmp_path, content, separator=";", thousands=",")
    points = points_of(tmp_path, content.replace("1,5", "20,000,000.5"), separator=";", thousands=",")
    np.testing.assert_array_equal(points.columns["N"], [1e7, 20000000.5])


def test_a_line_is_counted_as_an_editor_counts_it(tmp_path: Path) -> None:
    content = 'N,D,loss,note\n1e7,2e9,3.5,"two\nlines"\n\n\n2e7,4e9,none,\n'
    with pytest.raises(TableError, match=r"row 2 \(line 6 of the file\)"):
        points_of(tmp_path, content)


NAMES = {"run_id": ["012345678901", "12345678e901"], "family": ["1", "NA"], "budget": ["1e+14", "1E14"]}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.xlsx"])
def test_names_stay_as_the_file_writes_them(tmp_path: Path, name: str) -> None:
    """Text that a program would take for a number or for no value, in every kind of file without types."""
    path, frame = tmp_path / name, pd.DataFrame({**NAMES, "N": ["1e7", "2e7"], "loss": ["3.5", "3.2"]})
    if name == "t.jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif name == "t.xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="," if name == "t.csv" else "\t")
    table = read(path, text=["family", "budget"])
    assert {column: table[column].tolist() for column in NAMES} == NAMES
    assert observe(table).columns["N"].tolist() == [1e7, 2e7]
    assert observe(path, cluster="budget").frame["cluster"].nunique() == 2
    conditions = ("family == 'NA'", "family != 'NA'", "not family == 'NA'", "family in ('NA', '1')")
    assert [len(observe(path, where=condition)) for condition in conditions] == [1, 1, 1, 2]


def test_numbers_of_json_lines_are_written_out_in_columns_of_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"budget": 1e+14, "N": 1e+14, "family": null}\n{"budget": 100000000000000, "N": 2, "family": 1}\n')
    table = read(path, text=["budget", "family"])
    assert table["budget"].tolist() == ["1e+14", "100000000000000"]
    assert table["N"].tolist() == [1e14, 2.0]
    assert table["family"].isna().tolist() == [True, False]
    assert table["family"].iloc[1] == "1"


def test_columns_that_do_not_vary_are_said(tmp_path: Path) -> None:
    flat = points_of(tmp_path, "N,D,loss\n1e7,2e9,3\n1e7,4e9,3\n")
    assert any("the same parameters (N = 1e+07)" in one for one in flat.warnings)
    assert any("the same loss (3)" in one for one in flat.warnings)


def test_a_million_rows_are_read_and_sorted_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    num = 1_000_000
    loss = random.uniform(2, 4, num)
    loss[123_456] = np.nan
    table = pyarrow.table({"N": random.uniform(1e6, 1e9, num), "D": random.uniform(1e9, 1e10, num), "loss": loss})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(TableError, match="row 123457, column 'loss': it has no value"):
        observe(tmp_path / "t.parquet", COLUMNS)
    points = observe(tmp_path / "t.parquet", COLUMNS, Filters(where="loss > 3", drop_highest=2))
    assert len(points) == int((loss > 3).sum()) - 2
    assert len(points) + len(points.exclusions) == num
