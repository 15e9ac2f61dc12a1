"""Continuing from a cache against a forward pass over all tokens: the same logits, for every family and any split."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memscale.errors import ConfigError
from memscale.models.cache import KVCache
from memscale.models.transformer import Transformer, build
from tests.models.zoo import ZOO, tokens_of

zoo = pytest.mark.parametrize("name", ZOO)


def cache_for(model: Transformer, num_rows: int, capacity: int) -> KVCache:
    weight = model.embedding.weight
    return KVCache(model.architecture, num_rows=num_rows, capacity=capacity, device=weight.device, dtype=weight.dtype)


@torch.no_grad()
def in_parts(model: Transformer, tokens_BS: Tensor, cuts: list[int], cache: KVCache) -> Tensor:
    """The logits of all positions, part by part through the cache."""
    edges = [0, *cuts, tokens_BS.shape[1]]
    parts = [tokens_BS[:, start:end] for start, end in itertools.pairwise(edges)]
    return torch.cat([model(part, cache).logits_BSV for part in parts], dim=1)


@zoo
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_one_token_at_a_time_gives_the_logits_of_all_at_once(name: str, dtype: torch.dtype, tolerance: float) -> None:
    model = build(ZOO[name], seed=1, dtype=dtype).eval()
    tokens_BS = tokens_of(model.architecture, (3, 14))
    with torch.no_grad():
        expected = model(tokens_BS).logits_BSV
    found = in_parts(model, tokens_BS, list(range(5, 14)), cache_for(model, 3, 14))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["dense", "memory_plus convolved beside"])
@settings(max_examples=30, deadline=None)
@given(cuts=st.sets(st.integers(1, 11)), room=st.integers(0, 3))
def test_any_cut_gives_the_same_logits(name: str, cuts: set[int], room: int) -> None:
    model = build(ZOO[name], seed=1, dtype=torch.float64).eval()
    tokens_BS = tokens_of(model.architecture, (2, 12))
    with torch.no_grad():
        expected = model(tokens_BS).logits_BSV
    found = in_parts(model, tokens_BS, sorted(cuts), cache_for(model, 2, 12 + room))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["dense", "memory convolved"])
@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4), num_more=st.integers(1, 3), data=st.data())
def test_rows_of_different_lengths_go_on_together(
    name: str, lengths: list[int], num_more: int, data: st.DataObject
) -> None:
    """Padded prompts, rewound to their real lengths; then more tokens in every row; then in some of the rows only."""
    model = build(ZOO[name], seed=1, dtype=torch.float64).eval()
    rows, capacity = list(range(len(lengths))), 7 + 2 * num_more
    tokens_BS = tokens_of(model.architecture, (len(lengths), capacity))
    padded_BS = tokens_BS[:, : max(lengths)].clone()
    for row, length in enumerate(lengths):
        padded_BS[row, length:] = 0
    cache = cache_for(model, len(lengths), capacity)
    with torch.no_grad():
        model(padded_BS, cache)
        cache.truncate(lengths)
        for _ in range(2):
            starts = cache.lengths
            more = [tokens_BS[row, start : start + num_more] for row, start in zip(rows, starts, strict=True)]
            found = model(torch.stack(more), cache).logits_BSV
            for row, start, logits_SV in zip(rows, starts, found, strict=True):
                expected = model(tokens_BS[row : row + 1, : start + num_more]).logits_BSV[0, start:]
                torch.testing.assert_close(logits_SV, expected, rtol=0, atol=1e-10)
            places = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
            cache.select_rows(places)
            rows = [rows[place] for place in places]


def test_too_little_room_another_number_of_rows_and_training_are_refused() -> None:
    model = build(ZOO["dense"], seed=1).eval()
    tokens_BS = tokens_of(model.architecture, (2, 5))
    with torch.no_grad():
        with pytest.raises(ConfigError, match=r"cache of 4 positions holds 0 tokens and cannot take 5 more"):
            model(tokens_BS, cache_for(model, 2, 4))
        cache = cache_for(model, 2, 8)
        model(tokens_BS, cache)
        with pytest.raises(ConfigError, match=r"cache of 8 positions holds 5 tokens"):
            model(tokens_BS, cache)
        assert cache.lengths == (5, 5)
        with pytest.raises(ConfigError, match=r"1 sequences were given to a cache of 2"):
            model(tokens_BS[:1], cache)
        with pytest.raises(ConfigError, match=r"call eval\(\)"):
            model.train()(tokens_BS, cache_for(model, 2, 8))
