"""Batches: pure in (seed, k), in exact shares, every token of an epoch seen once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.data.sampling import Sampler, Stream
from memscale.errors import DataError


def stream(num_tokens: int, name: str = "a", weight: float = 1.0, first: int = 0) -> Stream:
    """Tokens that count up, so that a window tells where it was cut."""
    return Stream(name=name, weight=weight, tokens=np.arange(first, first + num_tokens, dtype=np.uint32))


def sampler(*streams: Stream, seed: int = 0, sequence_length: int = 8, batch_sequences: int = 4) -> Sampler:
    return Sampler(streams, seed=seed, sequence_length=sequence_length, batch_sequences=batch_sequences)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=12), st.integers(0, 3))
def test_a_batch_depends_on_seed_and_number_alone(numbers: list[int], seed: int) -> None:
    streams = (stream(1000, "a", 0.7), stream(90, "b", 0.3, first=5000))
    one = sampler(*streams, seed=seed)
    in_order = {k: one.batch(k) for k in sorted(set(numbers))}
    for k in numbers:
        alone = sampler(*streams, seed=seed).batch(k)
        assert alone.dtype == np.int64
        assert alone.shape == (4, 9)
        np.testing.assert_array_equal(one.batch(k), alone)
        np.testing.assert_array_equal(in_order[k], alone)


def test_samples_do_not_depend_on_the_size_of_the_batch() -> None:
    streams = (stream(1000, "a", 0.7), stream(90, "b", 0.3))
    small, large = (sampler(*streams, batch_sequences=size) for size in (2, 12))
    np.testing.assert_array_equal(np.concatenate([small.batch(k) for k in range(60)]),
                                  np.concatenate([large.batch(k) for k in range(10)]))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 200), st.integers(0, 5), st.integers(0, 4))
def test_an_epoch_predicts_every_token_once_but_less_than_a_window(num_tokens: int, seed: int, epoch: int) -> None:
    per_epoch = num_tokens // 8
    one = sampler(stream(num_tokens), seed=seed, batch_sequences=per_epoch)
    rows = one.batch(epoch)
    np.testing.assert_array_equal(np.diff(rows, axis=1) % num_tokens, 1 % num_tokens)  # consecutive, on a ring
    targets = Counter(rows[:, 1:].ravel().tolist())
    assert set(targets.values()) == {1}
    assert num_tokens - len(targets) < 8


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 200), st.integers(0, 5))
def test_a_source_in_passes_is_read_on_and_on(num_tokens: int, seed: int) -> None:
    """Every target follows the one before it, over windows and rounds; another seed begins elsewhere."""
    ordered = replace(stream(num_tokens), in_order=True)
    one = sampler(ordered, seed=seed)
    targets = np.concatenate([one.batch(k)[:, 1:].ravel() for k in range(20)])
    np.testing.assert_array_equal(np.diff(targets) % num_tokens, 1 % num_tokens)
    np.testing.assert_array_equal(sampler(ordered, seed=seed).batch(13), one.batch(13))


def test_seeds_begin_a_source_in_passes_at_different_places() -> None:
    ordered = replace(stream(100_000), in_order=True)
    assert len({int(sampler(ordered, seed=seed).batch(0)[0, 0]) for seed in range(20)}) == 20


def test_in_a_mixture_each_source_still_goes_through_its_epochs() -> None:
    one = sampler(stream(84, "a", 0.7), stream(83, "b", 0.3, first=1000), batch_sequences=10)
    rows = np.concatenate([one.batch(k) for k in range(20)])
    names = np.concatenate([one.sources(k) for k in range(20)])
    for name in ("a", "b"):
        windows = rows[names == name]
        for start in range(0, len(windows), 10):  # 84 // 8 = 83 // 8 = 10 windows an epoch
            targets = windows[start : start + 10, 1:].ravel().tolist()
            assert len(set(targets)) == 80, (name, start)


def test_epochs_differ_in_order_and_in_where_they_cut() -> None:
    one = sampler(stream(803), batch_sequences=100)
    epochs = [one.batch(k) for k in range(20)]
    cuts = {int(rows[0, 0]) % 8 for rows in epochs}
    assert len(cuts) > 4
    assert len({tuple(rows[:, 0]) for rows in epochs}) == 20
    assert len({tuple(sampler(stream(803), seed=s, batch_sequences=100).batch(0)[:, 0]) for s in range(9)}) == 9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0]), min_size=1, max_size=4))
def test_shares_are_exact_and_evenly_spread(weights: list[float]) -> None:
    streams = [stream(100, f"s{i}", weight, first=1000 * i) for i, weight in enumerate(weights)]
    exact = [Fraction(repr(weight)) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    cycle = int(np.lcm.reduce([share.denominator for share in shares]))
    one = sampler(*streams, batch_sequences=cycle)
    for k in (0, 1, 7):
        counts = Counter(one.sources(k))
        assert [counts[f"s{i}"] for i in range(len(weights))] == [share * cycle for share in shares]
        assert one.sources(k) == [f"s{row[0] // 1000}" for row in one.batch(k)]
    order = one.sources(0) * 2
    for i, share in enumerate(shares):
        held = np.cumsum([name == f"s{i}" for name in order])
        expected = np.arange(1, len(order) + 1) * float(share)
        assert np.abs(held - expected).max() <= len(weights)


def test_too_little_text_and_weights_without_a_ratio_are_refused() -> None:
    with pytest.raises(DataError, match=r"'a' has 7 training tokens; one sequence needs 8"):
        sampler(stream(7))
    assert sampler(stream(8)).batch(0).shape == (4, 9)
    with pytest.raises(DataError, match=r"a 0\.333333333, b 1\.0.*fewer digits"):
        sampler(stream(9, "a", 0.333333333), stream(9, "b"))
