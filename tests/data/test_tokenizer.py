"""The tokenizer: any text comes back, prompts and answers meet at a token's edge, and training is repeatable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_fixtures import CHILD, facts
from hypothesis import given
from hypothesis import strategies as st

from memscale.config import data as config
from memscale.data.facts import People
from memscale.data.facts_questions import facts_recall
from memscale.data.tokenizer import END, Tokenizer, trained
from memscale.errors import DataError

SETTINGS = config.TokenizerConfig(vocab_size=500)
PEOPLE = People(facts())


def sample() -> Iterator[str]:
    return PEOPLE.training()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return trained(tmp_path_factory.mktemp("tokenizer") / "t.json", SETTINGS, sample)


@given(text=st.text(max_size=60) | st.sampled_from([END, f"a{END}b", f" {END}{END}", "\x00\r\n\t  x"]))
def test_any_text_comes_back_and_its_bytes_are_counted(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_id not in ids
    assert all(0 <= index < 500 for index in ids)
    assert tokenizer.num_bytes_of[ids].sum() == len(text.encode())
    assert tokenizer.encode_batch([text, "x"])[0] == ids
    assert tokenizer.decode([tokenizer.end_id, *ids, tokenizer.end_id]) == text


def test_an_answer_starts_at_the_edge_of_a_token(tokenizer: Tokenizer) -> None:
    for item in facts_recall(PEOPLE):
        for choice in item.choices:
            together = tokenizer.encode(f"{item.question} {choice}.")
            assert together == tokenizer.encode(item.question) + tokenizer.encode(f" {choice}.")
        assert item.question.rstrip() == item.question


def test_a_name_is_the_same_tokens_in_every_document(tokenizer: Tokenizer) -> None:
    for document in list(sample())[:100]:
        name = next(person.name for person in PEOPLE.people if person.name in document)
        ids, wanted = tokenizer.encode(document), tokenizer.encode(f" {name}")
        assert any(ids[start : start + len(wanted)] == wanted for start in range(len(ids)))


def test_training_is_repeatable_in_another_process(tmp_path: Path, tokenizer: Tokenizer) -> None:
    code = """
import sys
from pathlib import Path
from test_tokenizer import SETTINGS, sample
from memscale.data.tokenizer import trained
trained(Path(sys.argv[1]), SETTINGS, sample)
"""
    files = [tmp_path / f"{n}.json" for n in range(2)]
    for file in files:
        subprocess.run([sys.executable, "-c", code, str(file)], check=True, env=CHILD)
    assert files[0].read_bytes() == files[1].read_bytes()
    text = next(sample())
    assert Tokenizer(files[0], 500).encode(text) == tokenizer.encode(text)


def test_a_small_text_fills_the_vocabulary_as_far_as_it_goes(tmp_path: Path) -> None:
    small = trained(tmp_path / "t.json", SETTINGS, lambda: iter(["ab ab ab"]))
    assert small.vocab_size == 500
    assert small.num_bytes_of.shape == (500,)
    assert small.decode(small.encode("zebra")) == "zebra"


def test_a_file_is_used_again_and_a_broken_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    trained(file, SETTINGS, sample)

    def never() -> Iterator[str]:
        raise AssertionError("trained twice")

    trained(file, SETTINGS, never)
    file.write_text(file.read_text()[:1000])
    with pytest.raises(DataError, match=r"t\.json is not a tokenizer.*Remove it"):
        trained(file, SETTINGS, never)
