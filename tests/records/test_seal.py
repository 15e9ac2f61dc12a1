"""A sealed file is read back as it was written, or not at all; one of an earlier version is read without a seal."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from memscale.errors import RecordError
from memscale.records.atomic import write_json
from memscale.records.seal import read_sealed, write_sealed

CONTENT = {"rate": 0.1, "names": ["a", "é"], "digest_of": '"digest": "x"'}


def test_what_was_written_comes_back_verified_and_older_files_unverified(tmp_path: Path) -> None:
    write_sealed(tmp_path / "new.json", CONTENT, format=3)
    assert read_sealed(tmp_path / "new.json", format=3) == ({"format": 3, **CONTENT}, True)
    write_json(tmp_path / "old.json", CONTENT, format=3)
    assert read_sealed(tmp_path / "old.json", format=3) == ({"format": 3, **CONTENT}, False)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.json", random.Random(0)
    write_sealed(path, CONTENT, format=3)
    whole = path.read_bytes()
    key = whole.index(b"digest")
    for at in (at for at in range(len(whole)) if not key <= at < key + 6):  # another key is unknown to its reader
        path.write_bytes(whole[:at] + bytes([(whole[at] + chance.randrange(1, 256)) % 256]) + whole[at + 1 :])
        with pytest.raises(RecordError, match=str(path)):
            read_sealed(path, format=3)
        path.write_bytes(whole[:at])
        with pytest.raises(RecordError, match=str(path)):
            read_sealed(path, format=3)


def test_a_file_that_another_program_wrote_anew_and_a_newer_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT, format=3)
    with pytest.raises(RecordError, match="has format 3; this memscale reads up to 2"):
        read_sealed(path, format=2)
    path.write_text(json.dumps(json.loads(path.read_text())))
    with pytest.raises(RecordError, match="written anew by another program"):
        read_sealed(path, format=3)
    with pytest.raises(RecordError, match="cannot be read: Is a directory"):
        read_sealed(tmp_path, format=3)
