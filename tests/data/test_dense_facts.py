"""Dense facts: recounted from the documents alone, as a reader would."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memscale.config.data import Data, DenseFacts, PythonStdlib, TokenizerConfig
from memscale.data.dense_facts import KEY_WORDS, MARKS, VALUE_WORDS, WORDS, DenseEntries, evaluation_set
from memscale.data.fingerprint import fingerprint
from memscale.data.prepared import prepare
from memscale.errors import ConfigError, DataError

Told = tuple[tuple[str, ...], str, tuple[str, ...]]
"""Key, mark and value of a line."""


def dense(**settings: Any) -> DenseFacts:
    return replace(DenseFacts(name="dense_facts", num_facts=500), **settings)


def read(documents: Iterable[str]) -> list[Told]:
    lines = []
    for line in "".join(documents).splitlines():
        mark, *words = line.split(" ")
        assert mark in MARKS
        key = tuple(word for word in words if word in (*KEY_WORDS[0], *KEY_WORDS[1]))
        value = tuple(words[len(key) :])
        assert all(word in KEY_WORDS[place % 2] for place, word in enumerate(key))
        assert all(word in VALUE_WORDS[place % 4] for place, word in enumerate(value))
        lines.append((key, mark, value))
    return lines


def test_words_are_tokens_that_no_other_word_begins() -> None:
    assert len(set(WORDS)) == 512
    assert len({len(word) for word in WORDS}) == 1


def test_a_pass_tells_every_fact_once_and_three_passes_in_three_wordings() -> None:
    entries = DenseEntries(dense())
    told = read(entries.training())
    values: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for key, _, value in told:
        values[key].add(value)
    assert len(values) == 500
    assert all(len(one) == 1 for one in values.values())  # a key has one value
    for start in range(0, 1500, 500):
        assert len({key for key, _, _ in told[start : start + 500]}) == 500
    assert Counter(len({sign for k, sign, _ in told if k == key}) for key in values) == {3: 500}
    orders = [tuple(key for key, _, _ in told[start : start + 500]) for start in range(0, 1500, 500)]
    assert len(set(orders)) == 3


def test_the_wording_asked_is_never_trained() -> None:
    entries = DenseEntries(dense(num_passes=7))
    told = read(entries.training())
    trained, known = {(key, sign) for key, sign, _ in told}, {(key, value) for key, _, value in told}
    for key, sign, value in read(entries.held_out()):
        assert (key, sign) not in trained
        assert (key, value) in known
    questions = evaluation_set(entries)
    assert len(questions) == 500
    for asked in questions:
        *shots, question = read([f"{asked['prompt']} {asked['answer']}\n"])
        assert question[:2] not in trained
        assert len(shots) == 2
        assert all(shot[:2] in trained and shot[0] != question[0] for shot in shots)
    # All marks are held out for some facts, so none tells a fact by itself.
    assert {sign for _, sign, _ in read(entries.held_out())} == set(MARKS)


def test_values_are_uniform_words_independent_of_keys_and_of_each_other() -> None:
    entries = DenseEntries(dense(num_facts=60_000))
    first, last, key = entries.values[:, 0], entries.values[:, 3], entries.keys[:, 0]
    # Of 16 equal parts of either word's values, 256 pairs: 255 degrees of freedom, p about 1e-4.
    for pair in (first // 4 * 16 + last // 4, key // 8 * 16 + first // 4):
        counts = np.bincount(pair, minlength=256)
        assert ((counts - 60_000 / 256) ** 2 / (60_000 / 256)).sum() < 345
    counts = np.bincount(last, minlength=64)
    assert ((counts - 60_000 / 64) ** 2 / (60_000 / 64)).sum() < 111  # 63 degrees of freedom


@pytest.mark.parametrize(("num_facts", "words"), [(10, 2), (128**2, 2), (128**2 + 1, 3), (60_000, 3)])
def test_keys_are_distinct_at_any_size(num_facts: int, words: int) -> None:
    entries = DenseEntries(dense(num_facts=num_facts))
    assert entries.facts.key_words == words
    assert len({tuple(key) for key in entries.keys.tolist()}) == num_facts


def test_sized_by_the_parameters() -> None:
    source = dense(num_facts=None, bits_per_parameter=0.5, value_words=3)
    assert source.sized(96_000).num_facts == round(0.5 * 96_000 / 18)
    assert source.sized(96_000, 2.0).num_facts == round(2 * 96_000 / 18)
    assert source.sized(96_000).bits_offered == round(48_000 / 18) * 18
    assert dense().sized(1e9).num_facts == 500  # given by hand
    with pytest.raises(ConfigError, match=r"make 3 facts; at least 10 are needed. Raise bits_per_parameter"):
        source.sized(96)
    with pytest.raises(DataError, match="num_facts is not set"):
        DenseEntries(source)


def test_an_entry_has_the_tokens_that_the_plan_counts(tmp_path: Path) -> None:
    """Whatever else the tokenizer is trained on, a word is one token, and the text comes back."""
    source = dense(num_facts=640)
    code = PythonStdlib(name="code", max_bytes=50_000)
    data = Data(name="d", sources=(source, code), tokenizer=TokenizerConfig(vocab_size=800, train_bytes=20_000))
    prepared = prepare(data, tmp_path)
    assert prepared.manifest.sources[0].train.num_tokens == 3 * 640 * source.tokens_per_fact
    tokenizer = prepared.tokenizer()
    for text in (*DenseEntries(source).held_out(), *(f" {word}" for word in WORDS)):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert int(tokenizer.num_bytes_of[ids].sum()) == len(text)
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in WORDS)


def test_every_fact_is_read_once_before_any_is_read_again(tmp_path: Path) -> None:
    """Over two passes of windows, the lines that begin in them tell each fact twice, give or take the window's ends."""
    source = dense(num_facts=400)
    prepared = prepare(Data(name="d", sources=(source,), tokenizer=TokenizerConfig(vocab_size=780)), tmp_path)
    sampler, tokenizer = prepared.sampler(seed=3, sequence_length=32, batch_sequences=1), prepared.tokenizer()
    windows = round(2 * 400 * source.tokens_per_fact / 32)
    text = tokenizer.decode([token for k in range(windows) for token in sampler.batch(k)[0, 1:].tolist()])
    told = Counter(key for key, _, value in read(line + "\n" for line in text.split("\n")[1:-1]) if len(value) == 4)
    assert len(told) == 400
    assert max(told.values()) <= 3
    assert sum(told.values()) > 790


def test_digests_follow_content_and_questions() -> None:
    def of(**settings: Any) -> tuple[str, str]:
        digests = fingerprint(Data(name="d", sources=(dense(**settings),)))
        return digests.data, digests.evaluation

    base = of()
    for changed in ({"num_facts": 501}, {"seed": 1}, {"value_words": 1}, {"num_passes": 4}):
        assert of(**changed)[0] != base[0]
    assert of(bits_per_parameter=3.0) == base  # only how num_facts came about
    asked = of(num_eval_facts=100)
    assert asked[0] == base[0]
    assert asked[1] != base[1]


def test_a_sample_of_the_facts_is_asked() -> None:
    some = evaluation_set(DenseEntries(dense(num_eval_facts=50)))
    every = evaluation_set(DenseEntries(dense()))
    assert len(some) == 50
    assert all(one in every for one in some)
    assert [one["fact"] for one in some] == sorted({int(str(one["fact"])) for one in some})


def test_a_vocabulary_too_small_for_the_words_is_refused() -> None:
    data = Data(name="d", sources=(dense(),), tokenizer=TokenizerConfig(vocab_size=768))
    with pytest.raises(DataError, match=r"vocab_size is 768; dense facts need 769 or more"):
        fingerprint(data)


def test_the_entropy_is_that_of_the_values() -> None:
    assert dense(value_words=1).bits_per_fact == 6
    assert dense(value_words=2).bits_offered == 500 * math.log2(64**2)
