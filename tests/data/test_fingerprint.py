"""Digests: the same for the same contents wherever they lie, another for anything that changes what is prepared."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_fixtures import CHILD, facts, mixture, stdlib, text

from memscale.config.data import Data, Facts, Hub, TokenizerConfig
from memscale.data import fingerprint as module
from memscale.data.fingerprint import fingerprint, fingerprints, folder_digest
from memscale.errors import DataError


def write(folder: Path, content: str = "Some text.\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text(content)
    (folder / "b.jsonl").write_text('{"text": "more"}\n')
    return folder


def test_contents_count_and_places_do_not(tmp_path: Path) -> None:
    here, there = write(tmp_path / "here"), write(tmp_path / "there")
    first = fingerprint(mixture(text(here / "*")))
    assert fingerprint(mixture(text(there / "*"))) == first
    assert fingerprint(dataclasses.replace(mixture(text(there / "*")), name="renamed")) == first
    (there / "a.txt").write_text("Some next.\n")  # the same size
    assert fingerprint(mixture(text(there / "*"))).data != first.data
    shutil.copy(here / "a.txt", there / "a.txt")
    (there / "b.jsonl").rename(there / "b.txt")  # read in another way
    assert fingerprint(mixture(text(there / "*"))).data != first.data


def test_a_local_hub_folder_is_known_by_its_contents(tmp_path: Path) -> None:
    here, there = write(tmp_path / "here"), write(tmp_path / "there")
    (there / ".cache").mkdir()
    (there / ".cache" / "x").write_text("no part of it")

    def of(folder: Path) -> str:
        return fingerprint(mixture(Hub(name="hub", path=str(folder)))).data

    assert of(here) == of(there)
    (there / "a.txt").write_text("Some next.\n")
    assert of(here) != of(there)
    named = [mixture(Hub(name="hub", path=f"a/{path}", revision=r)) for path, r in (("x", "1"), ("x", "2"), ("y", "1"))]
    assert len({fingerprint(data).data for data in named}) == 3


BASE = mixture(facts(), stdlib(20_000))
CHANGES = {
    "weight": mixture(facts(weight=2.0), stdlib(20_000)),
    "held out": mixture(facts(), stdlib(20_000, held_out=0.1)),
    "people": mixture(facts(num_people=41), stdlib(20_000)),
    "documents": mixture(facts(num_documents=9), stdlib(20_000)),
    "values": mixture(facts(num_values=32), stdlib(20_000)),
    "question share": mixture(facts(question_share=0.5), stdlib(20_000)),
    "held-out questions": mixture(facts(held_out_questions=0.5), stdlib(20_000)),
    "seed": mixture(facts(seed=1), stdlib(20_000)),
    "bytes": mixture(facts(), stdlib(30_000)),
    "name": mixture(facts(name="people"), stdlib(20_000)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_setting_that_changes_the_documents_counts(what: str) -> None:
    before, after = fingerprint(BASE), fingerprint(CHANGES[what])
    assert before.data != after.data
    assert before.tokenizer != after.tokenizer
    assert before.evaluation != after.evaluation


def test_settings_of_one_part_leave_the_others() -> None:
    before = fingerprint(BASE)
    tokenizer = fingerprint(dataclasses.replace(BASE, tokenizer=TokenizerConfig(vocab_size=500)))
    assert (tokenizer.data, tokenizer.evaluation) == (before.data, before.evaluation)
    assert tokenizer.tokenizer != before.tokenizer
    for changed in (
        mixture(facts(num_eval_questions=7), stdlib(20_000)),
        mixture(facts(num_choices=4), stdlib(20_000)),
        dataclasses.replace(BASE, validation_tokens=99),
    ):
        evaluation = fingerprint(changed)
        assert (evaluation.data, evaluation.tokenizer) == (before.data, before.tokenizer)
        assert evaluation.evaluation != before.evaluation
        assert folder_digest(evaluation) != folder_digest(before)


def test_words_and_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(BASE)
    monkeypatch.setattr(module, "FIRST", (*module.FIRST[:-1], "Zack"))
    assert fingerprint(BASE).data != before.data
    monkeypatch.undo()
    monkeypatch.setattr(module.importlib.metadata, "version", lambda _package: "0.0.1")
    assert fingerprint(BASE).data == before.data
    assert fingerprint(BASE).tokenizer != before.tokenizer


def test_it_is_quick_light_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
import sys, time
from memscale.config.data import Data, Facts, PythonStdlib
from memscale.data.fingerprint import fingerprint
sources = (Facts(name="facts", num_people=500), PythonStdlib(name="code", max_bytes=4_000_000))
began = time.process_time()  # wall time would measure what else the machine does
print(fingerprint(Data(name="laptop", sources=sources)).data)
print(time.process_time() - began)
print({"torch", "datasets", "tokenizers", "pyarrow"} & set(sys.modules))
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=CHILD
        )
        for _ in range(2)
    ]
    (digest, seconds, imported), (again, seconds_again, _) = (run.stdout.split("\n")[:3] for run in runs)
    assert digest == again
    assert min(float(seconds), float(seconds_again)) < 0.3
    assert imported == "set()"
    assert not list(tmp_path.iterdir())


def test_sources_that_cannot_stand_together(tmp_path: Path) -> None:
    file = write(tmp_path) / "a.txt"
    for data, message in (
        (mixture(facts(), facts()), "names 'facts' twice"),
        (mixture(facts(), facts(name="more")), "two sources of kind 'facts'"),
        (mixture(text(file, name="mixture")), "'mixture' cannot name a source"),
        (mixture(facts(), files=(str(file),)), "no source of kind 'text_files' reads it"),
        (mixture(Facts(name="facts")), "num_people is not set"),
        (Data(name="d", sources=(text(tmp_path / "none*"),)), "matches no file"),
    ):
        with pytest.raises(DataError, match=message):
            fingerprint(data)


def test_mixtures_of_one_sweep_share_the_tokenizer_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = BASE, CHANGES["people"]
    first, second = fingerprints([small, large])
    assert first == fingerprint(small)
    assert second.tokenizer == first.tokenizer != fingerprint(large).tokenizer
    assert (second.data, second.evaluation) == (fingerprint(large).data, fingerprint(large).evaluation)
    assert second == fingerprint(large, small)
    read: list[Path] = []
    original = module.sha256
    monkeypatch.setattr(module, "sha256", lambda path: read.append(path) or original(path))
    fingerprints([small, large])
    assert len(set(read)) == len(read) > 0  # the code, which both have, is read once
