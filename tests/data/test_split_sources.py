"""Sources of text: nothing lost, nothing on both sides, and mistakes refused by name."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_fixtures import WIKITEXT, mixture, needs_wikitext, stdlib, text
from hypothesis import given
from hypothesis import strategies as st

from memscale.config.data import Data, Hub, TextFiles
from memscale.data import hub, python_stdlib, text_files
from memscale.data.split import HashSplit
from memscale.data.text_files import LONGEST_PIECE_BYTES, pieces
from memscale.errors import DataError

TEXTS = [f"Document {n}: the quick brown fox number {n} jumps.\nSecond line, naïve 日本 {n}." for n in range(30)]


def write_all_kinds(folder: Path) -> dict[str, Path]:
    """The same 30 documents in each format that has rows."""
    files = {ending: folder / f"docs{ending}" for ending in (".jsonl", ".jsonl.gz", ".parquet")}
    lines = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS))
    files[".jsonl"].write_text(lines, encoding="utf-8")
    with gzip.open(files[".jsonl.gz"], "wt", encoding="utf-8") as file:
        file.write(lines)
    pq.write_table(pa.table({"id": range(len(TEXTS)), "text": TEXTS}), files[".parquet"])
    return files


def test_rows_of_every_format_are_the_documents(tmp_path: Path) -> None:
    for path in write_all_kinds(tmp_path).values():
        assert list(text_files.documents(text(path), ())) == TEXTS


@needs_wikitext
def test_a_txt_file_is_cut_without_loss() -> None:
    for path in WIKITEXT:
        documents = list(text_files.documents(text(path), ()))
        assert "".join(documents) == path.read_text(encoding="utf-8")
        sizes = [len(document.encode()) for document in documents]
        assert max(sizes) < 2 * LONGEST_PIECE_BYTES
        assert 100 < len(documents) < path.stat().st_size / 4_000
        # Cut at blank lines: a document ends with one, the file's last apart.
        assert all(not document.splitlines()[-1].strip() for document in documents[:-1])


@given(st.lists(st.text(alphabet="ab \n日", max_size=200), max_size=40), st.integers(1, 300))
def test_pieces_lose_only_blanks(parts: list[str], repeat: int) -> None:
    whole = "".join(parts) * repeat
    documents = list(pieces(whole.splitlines(keepends=True)))
    assert "".join("".join(documents).split()) == "".join(whole.split())
    assert all(document.strip() and len(document.encode()) < 2 * LONGEST_PIECE_BYTES for document in documents)


@given(
    st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=60),
    st.floats(0.001, 0.5),
)
def test_split_is_exact_and_copies_stay_together(documents: list[str], share: float) -> None:
    split = HashSplit("docs", share, lambda: iter(documents))
    if len(set(documents)) < 2:
        with pytest.raises(DataError, match="at least 2 different ones"):
            split.training()
        return
    training, held_out = list(split.training()), list(split.held_out())
    assert training
    assert held_out
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) == set(documents)
    assert training == [document for document in documents if document not in set(held_out)]
    num_held_out = len(documents) - len(training)
    wanted = max(1, round(share * len(documents)))
    most_copies = max(Counter(documents).values())
    assert wanted - most_copies < num_held_out < wanted + most_copies


def test_split_does_not_depend_on_the_order_of_documents() -> None:
    one = HashSplit("docs", 0.2, lambda: iter(TEXTS))
    other = HashSplit("docs", 0.2, lambda: iter(reversed(TEXTS)))
    assert list(one.held_out()) == list(other.held_out())
    assert len(list(one.held_out())) == 6


@pytest.mark.parametrize("copied", ["one", "two"])
def test_many_copies_of_one_document_never_leave_a_side_empty(copied: str) -> None:
    documents = [copied] * 9 + ["one", "two"]
    split = HashSplit("docs", 0.5, lambda: iter(documents))
    assert {frozenset(split.training()), frozenset(split.held_out())} == {frozenset({"one"}), frozenset({"two"})}


def test_held_out_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memscale.data.split.MAX_HELD_OUT_BYTES", 200)
    split = HashSplit("docs", 0.5, lambda: iter(TEXTS))
    kept = list(split.held_out())
    assert 200 <= sum(len(document.encode()) for document in kept) < 400
    assert len(list(split.training())) == 15  # what is not kept is not trained on either


def test_stdlib_takes_source_files_up_to_the_limit() -> None:
    for max_bytes in (20_000, 500_000):
        files = python_stdlib.taken_files(stdlib(max_bytes))
        total = sum(path.stat().st_size for path in files)
        assert 0.8 * max_bytes < total <= max_bytes
        assert len(set(files)) == len(files)
        assert not any({"test", "tests", "site-packages"} & set(path.parts[-4:]) for path in files)
    documents = list(python_stdlib.documents(stdlib(500_000)))
    assert [document.encode() for document in documents] == [
        path.read_text(encoding="utf-8").encode() for path in files if path.read_text(encoding="utf-8").strip()
    ]


def test_a_hub_data_set_from_a_local_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for split, part in (("train", TEXTS[:20]), ("test", TEXTS[20:])):
        pq.write_table(pa.table({"content": part}), folder / f"{split}-00000.parquet")
    path = str(tmp_path / "set")
    source = Hub(name="hub", path=path, text_column="content")
    assert list(hub.documents(source, tmp_path / "cache")) == TEXTS[:20]
    test = Hub(name="hub", path=path, text_column="content", split="test", max_documents=4)
    assert list(hub.documents(test, tmp_path / "cache")) == TEXTS[20:24]
    with pytest.raises(DataError, match=r"split nowhere\) cannot be loaded"):
        list(hub.documents(Hub(name="hub", path=path, split="nowhere"), tmp_path / "cache"))
    with pytest.raises(DataError, match=r"no column 'text'; it has content.*text_column"):
        list(hub.documents(Hub(name="hub", path=path), tmp_path / "cache"))


def test_local_data_are_read_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    (tmp_path / "set").mkdir()
    for path in write_all_kinds(tmp_path).values():
        assert list(text_files.documents(text(path), ())) == TEXTS
        path.rename(tmp_path / "set" / path.name)
    for path in (tmp_path / "set").glob("*.jsonl*"):
        path.unlink()
    assert list(hub.documents(Hub(name="hub", path=str(tmp_path / "set")), tmp_path / "cache")) == TEXTS
    assert not asked


def test_a_hub_name_needs_a_revision_and_a_folder_needs_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a folder.*revision, a commit"):
        hub.check(Hub(name="hub", path="somebody/something"))
    hub.check(Hub(name="hub", path="somebody/something", revision="abc"))
    with pytest.raises(DataError, match="has no files"):
        hub.check(Hub(name="hub", path=str(tmp_path)))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("empty.txt", b"", r"empty\.txt is empty \(0 bytes\)"),
        ("notes.md", b"text", r"notes\.md cannot be read.*\.txt, \.jsonl"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', r"bad\.jsonl, line 2: not JSON"),
        ("bad.parquet", b"not parquet at all", r"bad\.parquet cannot be read as \.parquet"),
        ("bad.jsonl.gz", b"not gzip at all", r"bad\.jsonl\.gz cannot be read as \.jsonl\.gz"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "abc"}\n' * 999, mtime=0)[:-20], r"cut\.jsonl\.gz cannot be read"),
        ("latin.txt", "Zürich\n".encode("latin-1") * 9, r"latin\.txt, line 1: not UTF-8"),
        ("column.jsonl", b'{"txt": "a"}\n', r"no column 'text'; it has txt\. Did you mean 'txt'\?.*text_column"),
        ("number.jsonl", b'{"text": 1}\n', r"line 1: a number in the place of text in 'text'"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(text_files.documents(text(tmp_path / name), ()))


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "c.jsonl"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.txt").mkdir()
    monkeypatch.chdir(tmp_path)
    source = TextFiles(name="text", files=("*.txt", str(tmp_path / "a.txt")))
    assert [path.name for path in text_files.matched_files(source, ())] == ["a.txt", "b.txt"]
    shared = text_files.matched_files(TextFiles(name="text"), ("c.*",))
    assert [path.name for path in shared] == ["c.jsonl"]
    with pytest.raises(DataError, match=rf"'\*\.parquet' matches no file \(looked from {tmp_path}\)"):
        text_files.matched_files(TextFiles(name="text", files=("*.parquet",)), ())
    with pytest.raises(DataError, match=r"names no files. Give data.files"):
        text_files.matched_files(TextFiles(name="text"), ())
    with pytest.raises(DataError, match=r"is a folder; name its files"):
        text_files.matched_files(TextFiles(name="text", files=("folder.txt",)), ())


def test_a_source_without_enough_text_is_refused(tmp_path: Path) -> None:
    from memscale.data.prepared import prepare

    (tmp_path / "blank.txt").write_text(" \n\n")
    data: Data = mixture(text(tmp_path / "blank.txt"))
    with pytest.raises(DataError, match="'text' has 0 documents"):
        prepare(data, tmp_path)
    assert not list((tmp_path / "data").glob("*/manifest.json"))
