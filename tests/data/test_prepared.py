"""Prepared folders: recounted against the raw documents, whole or absent, the same however they came to be."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_fixtures import CHILD, WIKITEXT, facts, mixture, needs_wikitext, stdlib, text

from memscale.config.data import Data, Hub
from memscale.data import building
from memscale.data.corpora import open_corpus
from memscale.data.facts import People
from memscale.data.fingerprint import fingerprint, folder_digest
from memscale.data.prepared import Prepared, prepare
from memscale.errors import DataError

DATA = mixture(facts(weight=0.6), stdlib(weight=0.4))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def prepared(root: Path) -> Prepared:
    return prepare(DATA, root)


def documents_of(prepared: Prepared, source: str, split: str) -> list[str]:
    """The documents, read back from the token file."""
    tokenizer = prepared.tokenizer()
    ids = prepared.tokens(source, split)
    ends = np.flatnonzero(ids == tokenizer.end_id)
    assert ends[-1] == len(ids) - 1
    starts = [0, *(ends[:-1] + 1).tolist()]
    return [tokenizer.decode(ids[start:end].tolist()) for start, end in zip(starts, ends.tolist(), strict=True)]


def test_token_files_hold_the_documents_and_the_manifest_counts_them(prepared: Prepared, tmp_path: Path) -> None:
    for configured, listed in zip(DATA.sources, prepared.manifest.sources, strict=True):
        corpus = open_corpus(configured, DATA, tmp_path)
        for split, raw, counts in (
            ("train", list(corpus.training()), listed.train),
            ("validation", list(corpus.held_out()), listed.validation),
        ):
            assert documents_of(prepared, listed.name, split) == raw
            assert counts.num_documents == len(raw)
            assert counts.num_bytes == sum(len(document.encode()) for document in raw)
            assert counts.num_tokens == len(prepared.tokens(listed.name, split))
            assert prepared.tokens(listed.name, split).dtype == np.uint16


def test_no_held_out_document_is_trained_on(prepared: Prepared) -> None:
    for name in prepared.source_names:
        training = set(documents_of(prepared, name, "train"))
        held_out = documents_of(prepared, name, "validation")
        assert held_out
        assert not training & set(held_out)
    lines = prepared.evaluation_set("held_out_code").read_text().splitlines()
    training = documents_of(prepared, "code", "train")
    for line in map(json.loads, lines):
        assert not any(document.startswith(line["text"]) for document in training)
        assert line["num_bytes"] == len(line["text"].encode())


def test_batches_are_cut_from_the_training_tokens(prepared: Prepared) -> None:
    sampler = prepared.sampler(seed=3, sequence_length=64, batch_sequences=10)
    rings = {}
    for name in prepared.source_names:
        ids = prepared.tokens(name, "train").astype("<u2")
        rings[name] = np.concatenate([ids, ids[:65]]).tobytes()
    for k in (0, 5, 10**6):
        names = sampler.sources(k)
        assert names.count("facts") == 6
        for name, row in zip(names, sampler.batch(k), strict=True):
            assert row.astype("<u2").tobytes() in rings[name]


def test_validation_windows_predict_each_token_once(prepared: Prepared) -> None:
    for name, max_tokens in itertools.product(prepared.source_names, (1, 500, 10**9)):
        held = prepared.tokens(name, "validation")
        windows = prepared.validation(name, sequence_length=32, max_tokens=max_tokens)
        num_targets = max(1, min(max_tokens, len(held)) // 32) * 32
        np.testing.assert_array_equal(windows.tokens[:, 1:].ravel(), held[:num_targets])
        inputs = [prepared.tokenizer().end_id, *held[: num_targets - 1].tolist()]
        np.testing.assert_array_equal(windows.tokens[:, :-1].ravel(), inputs)
    tokens = prepared.manifest.sources[1].validation.num_tokens
    whole = prepared.validation("code", sequence_length=tokens, max_tokens=10**9)
    assert whole.num_bytes == prepared.manifest.sources[1].validation.num_bytes  # nothing but text counts
    with pytest.raises(DataError, match=rf"'code' has {tokens} held-out tokens.*held_out"):
        prepared.validation("code", sequence_length=tokens + 1, max_tokens=10**9)


def test_evaluation_sets_and_knowledge(prepared: Prepared) -> None:
    assert prepared.evaluation_sets == ("facts_recall", "facts_recall_control", "facts_nll", "held_out_code")
    assert prepared.knowledge_bits == 40 * 6 * 6
    values_P = {person.values for person in People(DATA.sources[0]).people}
    assert len(values_P) == 40
    for name in prepared.evaluation_sets:
        lines = [json.loads(line) for line in prepared.evaluation_set(name).read_text().splitlines()]
        assert lines
    with pytest.raises(DataError, match=r"no evaluation set 'fact_recall'.*Did you mean 'facts_recall'"):
        prepared.evaluation_set("fact_recall")
    with pytest.raises(DataError, match=r"no source 'cod'.*Did you mean 'code'"):
        prepared.tokens("cod", "train")


def test_a_second_call_uses_the_first_and_a_fresh_one_equals_it(prepared: Prepared, root: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    shares: list[float] = []
    again = prepare(DATA, root, progress=lambda _what, share: shares.append(share))
    assert again.folder == prepared.folder == root / "data" / folder_digest(fingerprint(DATA))[:16]
    assert shares == [1.0]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    fresh = prepare(DATA, tmp_path, progress=lambda _what, share: shares.append(share))
    assert shares[1:] == sorted(shares[1:])
    assert {file.path: file.sha256 for file in fresh.manifest.files} == {
        file.path: file.sha256 for file in prepared.manifest.files
    }
    fresh.verify()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(
        [fresh.folder.name, f"{fresh.folder.name}.lock", "tokenizers"]
    )


def test_other_evaluation_settings_share_the_tokenizer(prepared: Prepared, root: Path) -> None:
    other = prepare(dataclasses.replace(DATA, validation_tokens=99), root)
    assert other.folder != prepared.folder
    assert len(list((root / "data" / "tokenizers").iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "missing", "flipped", "manifest", "newer"])
def test_a_damaged_folder_is_refused_by_file(tmp_path: Path, damage: str) -> None:
    folder = prepare(mixture(facts()), tmp_path).folder
    tokens, manifest = folder / "tokens" / "facts.train.bin", folder / "manifest.json"
    content = bytearray(tokens.read_bytes())
    if damage == "cut":
        tokens.write_bytes(content[:-2])
    elif damage == "missing":
        tokens.unlink()
    elif damage == "flipped":
        content[100] ^= 1
        tokens.write_bytes(content)
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-100])
    else:
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    named = "manifest.json" if damage in ("manifest", "newer") else "facts.train.bin"
    with pytest.raises(DataError, match=rf"{named}.*rm -r '{folder}'"):
        Prepared.open(folder).verify()
    if damage != "flipped":  # seen without reading everything
        with pytest.raises(DataError, match=named):
            prepare(mixture(facts()), tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from memscale.data import building
from test_prepared import DATA
from memscale.data.prepared import prepare
steps = iter(range(10**9))
def step(what, share):
    if next(steps) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[3] == "before rename":
    building.os.rename = lambda _a, _b: os.kill(os.getpid(), signal.SIGKILL)
prepare(DATA, Path(sys.argv[1]), progress=step)
"""


@pytest.mark.parametrize("step, where", [(1, ""), (2, ""), (4, ""), (7, ""), (10**6, "before rename")])
def test_killed_at_any_moment_nothing_half_written_is_taken(
    tmp_path: Path, prepared: Prepared, step: int, where: str
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(step), where]
    done = subprocess.run(command, env=CHILD, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    data = tmp_path / "data"
    assert not (data / prepared.folder.name).exists()
    assert list(data.glob(".*.tmp"))
    again = prepare(DATA, tmp_path)
    again.verify()
    assert again.manifest.files == prepared.manifest.files
    assert not list(data.glob(".*.tmp"))


def test_two_processes_do_the_work_once(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from test_prepared import DATA
from memscale.data.prepared import prepare
did = []
prepare(DATA, Path(sys.argv[1]), progress=lambda what, share: did.append(what))
print("encoding code" in did)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, env=CHILD, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = sorted(process.communicate()[0].strip() for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == ["False", "True"]


def test_who_gets_the_lock_after_the_work_is_done_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, real = mixture(facts()), building.Lease

    class Late(real):
        def __enter__(self) -> object:
            monkeypatch.setattr(building, "Lease", real)
            prepare(data, tmp_path)  # another process, between our look and our lock
            return super().__enter__()

    monkeypatch.setattr(building, "Lease", Late)
    did: list[str] = []
    prepare(data, tmp_path, progress=lambda what, _share: did.append(what)).verify()
    assert did == ["data are ready"]


def test_data_that_change_while_read_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"line {n}\n\n" for n in range(9_000)))

    def touch(_what: str, share: float) -> None:
        if share > 0.9:
            file.write_text(file.read_text() + "more\n")

    with pytest.raises(DataError, match="changed while they were being prepared"):
        prepare(mixture(text(file)), tmp_path, progress=touch)
    assert not list((tmp_path / "data").glob("*/manifest.json"))
    assert not list((tmp_path / "data").glob(".*.tmp"))


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(building, "_flush", full)
    with pytest.raises(DataError, match=r"is full.*nothing was kept. Free space"):
        prepare(mixture(facts()), tmp_path)
    assert not list((tmp_path / "data").glob(".*.tmp"))
    monkeypatch.undo()
    prepare(mixture(facts()), tmp_path).verify()


@needs_wikitext
def test_real_text_of_two_files_is_enough(tmp_path: Path) -> None:
    data = Data(name="text", sources=(text(),), files=(str(WIKITEXT[0].parent / "*.txt"),))
    prepared = prepare(data, tmp_path)
    (source,) = prepared.manifest.sources
    assert source.train.num_bytes + source.validation.num_bytes == sum(path.stat().st_size for path in WIKITEXT)
    assert 0.03 < source.validation.num_bytes / source.train.num_bytes < 0.08
    assert prepared.sampler(seed=0, sequence_length=128, batch_sequences=16).batch(0).shape == (16, 129)
    windows = prepared.validation("text", sequence_length=128, max_tokens=data.validation_tokens)
    assert windows.tokens.shape == (128, 129)
    assert 2 < windows.num_bytes / windows.tokens[:, 1:].size < 4
    assert prepared.knowledge_bits is None
    assert prepared.evaluation_sets == ("held_out_text",)


def test_every_kind_of_source_in_one_mixture(tmp_path: Path) -> None:
    from test_split_sources import write_all_kinds

    (tmp_path / "texts").mkdir()
    files = write_all_kinds(tmp_path / "texts")
    hub = Hub(name="hub", path=str(tmp_path / "texts"), split="train", weight=0.5)
    for path in files.values():
        if path.suffix != ".parquet":
            path.rename(tmp_path / path.name)
    data = mixture(facts(), stdlib(60_000), text(tmp_path / "docs.jsonl*"), hub)
    prepared = prepare(data, tmp_path)
    assert prepared.source_names == ("facts", "code", "text", "hub")
    assert [source.train.num_documents for source in prepared.manifest.sources[2:]] == [56, 28]  # copies stay together
    assert prepared.sampler(seed=0, sequence_length=32, batch_sequences=7).sources(0).count("hub") == 1
    prepared.verify()


@pytest.mark.slow
def test_the_laptop_mixture_tells_of_people_in_few_tokens(tmp_path: Path) -> None:
    data = Data(name="laptop", sources=(facts(400, 30, weight=0.6), stdlib(4_000_000, weight=0.4)))
    prepared = prepare(data, tmp_path)
    documents = People(data.sources[0]).training()
    tokenizer = prepared.tokenizer()
    descriptions = [document for document in documents if not document.startswith("Question:")][:2_000]
    assert np.mean([len(tokenizer.encode(document)) for document in descriptions]) < 60


def test_mixtures_of_one_sweep_have_one_tokenizer_whichever_is_prepared_first(tmp_path: Path) -> None:
    small, large = mixture(facts(num_people=20)), mixture(facts(num_people=60))
    texts = []
    for order in ((small, large), (large, small)):
        root = tmp_path / str(len(texts))
        found = [prepare(one, root, tokenizer_data=small) for one in order]
        assert {one.digests.tokenizer for one in found} == {fingerprint(small).tokenizer}
        texts += [(one.folder / "tokenizer.json").read_bytes() for one in found]
    assert len(set(texts)) == 1
    assert (prepare(large, tmp_path / "alone").folder / "tokenizer.json").read_bytes() != texts[0]
