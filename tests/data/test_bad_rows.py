"""Rows without usable text: refused with file and row, or left out and counted; no file can crash a reader."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_fixtures import CHILD, mixture, text
from hypothesis import example, given
from hypothesis import strategies as st

from memscale.config.data import Hub
from memscale.data import hub, readers, text_files
from memscale.data.bad_rows import RowPolicy
from memscale.data.fingerprint import fingerprint, prepared_folder
from memscale.data.manifest import skipped_notes
from memscale.data.prepared import prepare
from memscale.errors import DataError

GOOD = [f"document {n} of some words, naïve 日本" for n in range(40)]
DEEP = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "text": "a"}'
BAD_LINES = {
    b"\xff\xfe": "not UTF-8 .the byte 0xff at 0",
    b'{"text": "caf\xe9"}': "not UTF-8 .the byte 0xe9 at 13",
    b'{"text": ': "not JSON",
    b"[1, 2]": "not an object with keys",
    b'{"txt": "a"}': r"no column 'text'; it has txt\. Did you mean 'txt'\? Set text_column",
    b'{"text": null}': "null in the place of text",
    b'{"text": 7}': "a number in the place of text in 'text'; text_column",
    b'{"text": ["a"]}': "a list in the place of text",
    b'{"text": "\\ud800"}': "half of a surrogate pair",
    DEEP: "nested deeper than 100 levels",
    b"[" * 1_000_000: "nested deeper than 100 levels",
}


def _row(text: str) -> bytes:
    return json.dumps({"n": 1, "text": text}, ensure_ascii=False).encode()


@pytest.mark.parametrize("bad", BAD_LINES, ids=[said.split(" .")[0][:20] for said in BAD_LINES.values()])
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_row_is_refused_with_file_and_line_or_left_out_and_counted(
    bad: bytes, packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    lines = b"\n".join([_row(GOOD[0]), bad, b"", *map(_row, GOOD[1:]), bad])
    path.write_bytes(gzip.compress(lines) if packed else lines)
    with pytest.raises(DataError, match=rf"source 'text': .*/{path.name}, line 2: {BAD_LINES[bad]}(.|\n)*on_bad_rows"):
        list(text_files.documents(text(path), ()))
    source = text(path, on_bad_rows="skip")
    policy = RowPolicy(source)
    assert list(text_files.documents(source, (), policy)) == GOOD
    (skipped,) = policy.skipped()
    assert (skipped.num_rows, skipped.first) == (2, f"{path}, line 2")


def test_bad_lines_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"eins\nzwei\r\n" + "drü\n".encode("latin-1") + b"vier\rf\xc3\xbcnf\n" + b"sechs\xc3")
    with pytest.raises(DataError, match=r"a\.txt, line 3: not UTF-8 .the byte 0xfc at 2.; convert"):
        list(text_files.documents(text(path), ()))
    assert "".join(text_files.documents(text(path, on_bad_rows="skip"), ())) == "eins\nzwei\nvier\nfünf\nsechs"


def test_nulls_and_bytes_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    pq.write_table(pa.table({"text": pa.chunked_array([["a", None, "b"], broken, ["a"]]), "x": [0] * 5}), path)
    with pytest.raises(DataError, match=r"a\.parquet, row 2: null in the place of text"):
        list(text_files.documents(text(path), ()))
    policy = RowPolicy(source := text(path, on_bad_rows="skip"))
    assert list(text_files.documents(source, (), policy)) == ["a", "b", "a"]
    assert [(one.reason, one.num_rows) for one in policy.skipped()] == [
        ("null in the place of text", 1),
        ("not UTF-8", 1),
    ]
    words = tmp_path / "words.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), words)
    assert list(text_files.documents(text(words), ())) == ["a", "b", "a"]
    for column, said in (("n", "has no column 'n'; it has text, x"), ("x", "'x' holds int64, not text")):
        with pytest.raises(DataError, match=said):
            list(text_files.documents(text(path, text_column=column, on_bad_rows="skip"), ()))


def test_columns_that_nobody_asked_for_may_come_late_and_change_their_type(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": one, **extra}
        for one, extra in zip(GOOD, [{}, {"m": 1}, {"m": ["x"]}, {"m": {"a": 1}}] * 10, strict=True)
    ]
    path.write_text(
        "\n".join(json.dumps(row) for row in rows) + '\n{"n": ' + "9" * 5_000 + ', "text": "huge"}', encoding="utf-8"
    )
    assert list(text_files.documents(text(path), ())) == [*GOOD, "huge"]


@pytest.mark.parametrize("name", ["v[1]", "a::b", "a*", "données", "run=1", "?"])
def test_a_path_that_exists_is_no_pattern(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"\n".join(map(_row, GOOD)))
    for pattern in (f"{folder}/a.jsonl", f"{tmp_path}/*/a.jsonl"):
        assert list(text_files.documents(text(pattern), ())) == GOOD


def test_what_was_left_out_is_in_the_manifest_the_plan_and_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([*map(_row, GOOD), b"{}", b"{}", b"\xff"]))
    data = mixture(text(path, on_bad_rows="skip"), vocab_size=300)
    folder = prepared_folder(tmp_path, fingerprint(data))
    assert "how many is known when" in skipped_notes(data, folder)[0]
    prepared = prepare(data, tmp_path)
    assert prepared.folder == folder
    assert [(one.reason, one.num_rows) for one in prepared.manifest.sources[0].skipped] == [
        ("no column 'text'", 2),
        ("not UTF-8", 1),
    ]
    assert f"2 no column 'text' (the first: {path}, line 41); 1 not UTF-8" in skipped_notes(data, folder)[0]
    refusing = mixture(text(path), vocab_size=300)
    assert fingerprint(refusing).data != fingerprint(data).data
    assert skipped_notes(refusing, folder) == ()


def test_a_hub_folder_is_looked_through_before_a_parser_that_recurses_opens_it(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(b"\n".join([*map(_row, GOOD), DEEP]))
    with pytest.raises(DataError, match="line 41 is nested too deep to be parsed safely"):
        list(hub.documents(Hub(name="hub", path=str(folder)), tmp_path / "cache"))
    (folder / "train.jsonl").write_bytes(b"\n".join([*map(_row, GOOD), b'{"n": 1, "text": null}']))
    with pytest.raises(DataError, match="row 41: null in the place of text"):
        list(hub.documents(Hub(name="hub", path=str(folder)), tmp_path / "cache"))
    assert list(hub.documents(Hub(name="hub", path=str(folder), on_bad_rows="skip"), tmp_path / "cache")) == GOOD


@given(st.binary(max_size=60), st.integers(8, 20))
@example(b"ab\r" * 9, 9)
@example("日本語日本語日本語".encode(), 8)
def test_long_lines_are_read_in_parts_without_loss(content: bytes, longest: int) -> None:
    def read(limit: int) -> str:
        readers.LONGEST_ROW_BYTES = limit
        return "".join(one for one in readers.lines(path) if isinstance(one, str))

    path = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") / f"memscale-lines-{os.getpid()}"
    before = readers.LONGEST_ROW_BYTES
    try:
        path.write_bytes(content)
        if content.decode("utf-8", errors="ignore").encode() == content:
            assert read(longest) == read(1 << 20) == path.read_text(encoding="utf-8")
        else:
            read(longest)
    finally:
        readers.LONGEST_ROW_BYTES = before
        path.unlink()


@given(st.recursive(st.text(alphabet='[]{}"\\a', max_size=8), lambda inner: st.lists(inner, max_size=2), max_leaves=6))
def test_depth_is_counted_outside_of_texts(value: object) -> None:
    def depth(one: object) -> int:
        return 1 + max(map(depth, one), default=0) if isinstance(one, list) else 0

    before = readers.MOST_DEPTH
    try:
        for most in range(4):
            readers.MOST_DEPTH = most
            assert readers.too_deep(json.dumps(value).encode()) == (depth(value) > most)
    finally:
        readers.MOST_DEPTH = before
    readers.too_deep(json.dumps(value).encode()[:-1] + b'"\\')


def test_the_locale_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(GOOD), encoding="utf-8")
    code = (
        "import locale, sys; from data_fixtures import text; from memscale.data import text_files\n"
        "documents = text_files.documents(text(sys.argv[1]), ())\n"
        "print(locale.getpreferredencoding(False), [ord(one) for document in documents for one in document])"
    )
    told = []
    for more in ({"PYTHONUTF8": "1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}):
        command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
        told.append(subprocess.run(command, env={**CHILD, **more}, capture_output=True, text=True, check=True).stdout)
    encodings, documents = zip(*(line.split(" ", 1) for line in told), strict=True)
    assert encodings[0].lower() == "utf-8"
    assert encodings[1].lower() != "utf-8"
    assert documents[0] == documents[1]
