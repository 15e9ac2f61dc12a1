"""Text sources of any bytes: read, or refused by file and row; skipping keeps the good rows and counts the others."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from memscale.config.data import TextFiles
from memscale.data import text_files
from memscale.data.bad_rows import RowPolicy
from memscale.errors import DataError
from tests.fuzz.fuzzing import Tally, number_of, one_screen, rng

HOSTILE = (
    b"", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{", b"}", b'{"text": }',
    b'{"text": "a"', b"null",
    b"[]", b'{"text": null}', b'{"text": 1e999}', b'{"text": "\\ud800"}', b'{"text": NaN}', b'{"txt": "a"}',
    b'{"text": {"text": "a"}}',
    b'{"text": "a", "text": 3}', b"[" * 5_000, b'{"a":' * 5_000, b'{"n": ' + b"9" * 6_000 + b', "text": "a"}',
    b'"' * 999, b"\\" * 99,
    b'{"text": "' + b"x" * 70_000 + b'"}', "\u2028\u0085\x0b".encode(), b"{'text': 'a'}", b"\x1f\x8b", b"PAR1",
)  # fmt: skip


def _lines(random_: random.Random) -> tuple[list[bytes], list[str]]:
    """Lines of a .jsonl file, and the texts of those that are certainly good."""
    lines, good = [], []
    for number in range(random_.randint(1, 12)):
        if random_.random() < 0.6:
            text = f"row {number} " + "".join(random_.choices('ab é日"\\\t{}[]', k=random_.randint(1, 30)))
            good.append(text)
            lines.append(json.dumps({"text": text, "n": number}, ensure_ascii=random_.random() < 0.5).encode())
        else:
            lines.append(random_.choice(HOSTILE[2:]).replace(b"\n", b""))
    return lines, good


def _documents(path: Path, on_bad_rows: str) -> tuple[list[str], RowPolicy]:
    source = TextFiles(name="text", files=(str(path),), on_bad_rows=on_bad_rows)
    policy = RowPolicy(source)
    return list(text_files.documents(source, (), policy)), policy


def _try(path: Path, tally: Tally) -> list[str] | None:
    """The documents with `skip`; both ways must read or refuse the file, and agree where nothing was skipped."""
    found: dict[str, list[str] | None] = {}
    for way in ("refuse", "skip"):
        try:
            found[way], policy = _documents(path, way)
            assert found["skip"] == found["refuse"] or policy.skipped() if way == "skip" and found["refuse"] else True
            for one in found[way] or []:
                one.encode()
        except DataError as error:
            one_screen(str(error), of=path.name)
            found[way] = None
    tally.accepted += found["refuse"] is not None
    return found["skip"]


def test_rows_of_json_lines(tmp_path: Path) -> None:
    tally, random_ = Tally("JSON lines"), rng("jsonl")
    for _ in range(number_of(300, 3_000)):
        packed = random_.random() < 0.3
        lines, good = _lines(random_)
        content = random_.choice((b"\n", b"\r\n")).join(lines)
        path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
        with tally.attempt(repr(content[:300])):
            kept = _try(path, tally)
            if kept is not None:
                missing = [one for one in good if one.strip() and one not in kept]
                assert not missing, f"good rows are missing: {missing[:3]}"
    tally.check(least_accepted=5)


def test_files_of_any_bytes(tmp_path: Path) -> None:
    tally, random_ = Tally("files of any bytes"), rng("bytes")
    whole = _whole_files(tmp_path)
    for _ in range(number_of(150, 2_500)):
        name, content = random_.choice(sorted(whole.items()))
        damaged = bytearray(content)
        for _ in range(random_.randint(0, 5)):
            at = random_.randrange(len(damaged) + 1)
            how = random_.random()
            if how < 0.4 and at < len(damaged):
                damaged[at] = random_.randrange(256)
            elif how < 0.7:
                damaged[at:at] = random_.choice(HOSTILE)
            else:
                del damaged[at : at + random_.choice((1, 9, 500))]
        path = tmp_path / f"damaged-{name}"
        path.write_bytes(bytes(damaged))
        with tally.attempt(f"{name}: {bytes(damaged[:200])!r}"):
            _try(path, tally)
    tally.check(least_accepted=5)


def _whole_files(folder: Path) -> dict[str, bytes]:
    texts = [f"document {n} naïve 日本\n" * 3 for n in range(50)]
    pq.write_table(pa.table({"text": texts, "n": range(50)}), folder / "a.parquet", row_group_size=20)
    pq.write_table(pa.table({"text": pa.array(texts).dictionary_encode()}), folder / "b.parquet", compression="gzip")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    files = {name: (folder / name).read_bytes() for name in ("a.parquet", "b.parquet")}
    return {**files, "c.jsonl": lines, "d.jsonl.gz": gzip.compress(lines, mtime=0), "e.txt": "\n".join(texts).encode()}
