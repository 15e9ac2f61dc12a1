"""Prepared data are read once a machine, and no flipped bit passes: in whole files and in the blocks that are read."""

from __future__ import annotations

import collections
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_fixtures import facts, mixture, stdlib

from memscale.data import verification
from memscale.data.blocks import BLOCKS, differing_block, sha256_of
from memscale.data.manifest import File
from memscale.data.prepared import Prepared, prepare
from memscale.errors import DataError

FILES = ("tokenizer.json", "tokens/code.train.bin", "tokens/code.validation.bin", "evaluation/held_out_code.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(mixture(facts(weight=0.6), stdlib(weight=0.4)), tmp_path_factory.mktemp("root")).folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def flip(path: Path, at: int = 100) -> None:
    """Change a bit, and put the time of modification back as a copying program would."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    read, real = list[str](), verification._read

    def counted(folder: Path, file: File) -> verification._Known:
        read.append(file.path)
        return real(folder, file)

    monkeypatch.setattr(verification, "_read", counted)
    return read


def test_a_file_is_read_once_and_again_when_it_is_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    first = Prepared.open(folder).verify_once()
    assert read == [one.path for one in first]
    assert {one.how for one in first} == {"whole"}
    assert Prepared.open(folder).verify_once() == first
    assert len(read) == len(first)
    tokens = folder / FILES[1]
    shutil.copyfile(tokens, folder / "copy")
    (folder / "copy").rename(tokens)
    again = Prepared.open(folder).verify_once()
    assert read[len(first) :] == [FILES[1]]
    assert [one.path for one in again if one not in first] == [FILES[1]]
    (memory,) = (folder / "verified").glob("*.json")
    memory.write_text("{")
    Prepared.open(folder).verify_once()
    assert len(read) == 2 * len(first) + 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("known", [False, True])
def test_a_flipped_bit_is_named_before_the_first_step_and_by_status(folder: Path, name: str, known: bool) -> None:
    if known:
        Prepared.open(folder).verify_once()
    flip(folder / name)
    with pytest.raises(DataError, match=rf"{name} is not what was prepared.*rm -r '{folder}'") as caught:
        Prepared.open(folder).verify_once()
    assert ("block 0 (bytes 0 to" in str(caught.value)) == name.endswith(".bin")
    assert (name in verification.what_changed(folder)) == known


def test_an_edited_manifest_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"weight": 0.6', '"weight": 0.7'))
    with pytest.raises(DataError, match=r"manifest.json is not what memscale wrote.*rm -r"):
        Prepared.open(folder)


def test_what_is_as_it_was_has_not_changed(folder: Path) -> None:
    assert verification.what_changed(folder) == ""
    Prepared.open(folder).verify_once()
    assert verification.what_changed(folder) == ""
    (folder / FILES[1]).touch()  # another time, the same content: read again, and known from then on
    assert verification.what_changed(folder) == ""
    assert verification.what_changed(folder / "nowhere") == ""


def test_of_a_large_file_the_blocks_that_are_read_are_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = folder / FILES[1]
    block = 4096
    _with_blocks_of(folder, tokens, block)
    flip(tokens, at=5 * block + 7)
    monkeypatch.setattr(verification, "LARGE_BYTES", block)
    prepared = Prepared.open(folder)
    found = {one.path: one.how for one in prepared.verify_once()}
    assert found[FILES[1]] == "blocks"
    assert found["tokenizer.json"] == "whole"
    checked = prepared._checked[FILES[1]]
    checked.check(0, 5 * block // 2)
    num_tokens = len(prepared.tokens("code", "train"))
    checked.check(6 * block // 2, num_tokens)
    with pytest.raises(DataError, match=r"block 5 \(bytes 20,480 to 24,575\)"):
        checked.check(5 * block // 2 + 3, 5 * block // 2 + 4)
    sampler = prepared.sampler(seed=0, sequence_length=64, batch_sequences=8)
    with pytest.raises(DataError, match="block 5"):
        collections.deque(map(sampler.batch, range(num_tokens // 64)), maxlen=0)


def test_of_many_blocks_the_first_that_differs_is_named(tmp_path: Path) -> None:
    """Several threads read; the file does not end with a whole block."""
    path = tmp_path / "made.bin"
    path.write_bytes(np.random.default_rng(0).bytes(300 * 1000 + 7))
    content = path.read_bytes()
    blocks = b"".join(sha256_of(content[at : at + 1000]) for at in range(0, len(content), 1000))
    assert differing_block(path, 1000, blocks) is None
    for number in (300, 200, 64, 0):
        flip(path, at=number * 1000 + 3)
        assert differing_block(path, 1000, blocks) == number


def _with_blocks_of(folder: Path, tokens: Path, size: int) -> None:
    """Give the prepared data blocks of another size for one file."""
    from memscale.data import manifest as manifests
    from memscale.data.fingerprint import sha256

    content, beside = tokens.read_bytes(), tokens.with_name(tokens.name + BLOCKS)
    beside.write_bytes(b"".join(sha256_of(content[at : at + size]) for at in range(0, len(content), size)))
    plain = json.loads((folder / "manifest.json").read_text())
    for file in plain["files"]:
        if file["path"] == FILES[1]:
            file["block_bytes"] = size
        if file["path"] == FILES[1] + BLOCKS:
            file.update(num_bytes=beside.stat().st_size, sha256=sha256(beside))
    del plain["digest"]
    (folder / "manifest.json").write_text(json.dumps(plain))
    assert manifests.read(folder).files


def test_data_prepared_without_digests_of_blocks_stay_usable(folder: Path) -> None:
    plain = json.loads((folder / "manifest.json").read_text())
    del plain["digest"]
    plain["files"] = [file for file in plain["files"] if not file["path"].endswith(BLOCKS)]
    for file in plain["files"]:
        del file["block_bytes"]
        (folder / (file["path"] + BLOCKS)).unlink(missing_ok=True)
    (folder / "manifest.json").write_text(json.dumps(plain))
    assert {one.how for one in Prepared.open(folder).verify_once()} == {"whole"}
    flip(folder / FILES[1])
    with pytest.raises(DataError, match=r"code.train.bin is not what was prepared: it has SHA-256"):
        Prepared.open(folder).verify_once()


def test_a_folder_that_cannot_be_written_to_is_read_by_every_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "verified").write_text("a file where the folder would be")  # refuses root too
    read = reads(monkeypatch)
    Prepared.open(folder).verify_once()
    Prepared.open(folder).verify_once()
    assert len(read) == 2 * len(np.unique(read))
