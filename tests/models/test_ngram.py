"""Addresses of n-gram memory: a function of the last tokens of a document, and of nothing else."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.data.tokenizer import END_ID
from memscale.models.ngram import DOCUMENT_END, NGramAddresses
from tests.models.naive_model import ngram_rows
from tests.models.zoo import ngram

VOCABULARY = 61
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12)


def rows_of(tokens: list[int], **changes: object) -> list[list[int]]:
    addresses = NGramAddresses(ngram(**changes), 0, VOCABULARY)
    found: list[list[int]] = addresses(torch.tensor([tokens]))[0].tolist()
    return found


@given(TOKENS, st.sampled_from([(2,), (2, 3), (3, 5)]), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_addresses_are_those_of_whole_numbers(tokens: list[int], orders: tuple[int, ...], num_heads: int) -> None:
    config = ngram(orders=orders, num_heads=num_heads)
    assert rows_of(tokens, orders=orders, num_heads=num_heads) == ngram_rows(config, 0, VOCABULARY, tokens)


@given(TOKENS, TOKENS, TOKENS)
@settings(max_examples=100, deadline=None)
def test_a_document_is_read_as_if_it_stood_alone(before: list[int], other: list[int], document: list[int]) -> None:
    alone = rows_of(document)
    for earlier in (before, other):
        assert rows_of([*earlier, DOCUMENT_END, *document])[-len(document) :] == alone


@given(TOKENS, TOKENS)
@settings(max_examples=100, deadline=None)
def test_no_address_depends_on_more_than_the_last_tokens_of_the_largest_order(one: list[int], two: list[int]) -> None:
    shared = [5, 6, 7]
    assert rows_of([*one, *shared])[-1] == rows_of([*two, *shared])[-1]


def test_the_largest_vocabulary_and_ids_do_not_overflow() -> None:
    vocabulary = 2**24
    config = ngram(orders=(2, 3))
    addresses = NGramAddresses(config, 1, vocabulary)
    tokens = [vocabulary - 1] * 5
    found = addresses(torch.tensor([tokens]))[0].tolist()
    assert found == ngram_rows(config, 2, vocabulary, tokens)
    assert min(min(rows) for rows in found) >= 0


def test_the_end_of_a_document_is_the_tokenizers() -> None:
    assert DOCUMENT_END == END_ID


def test_layers_and_seeds_hash_differently_and_spread_over_all_rows() -> None:
    tokens = torch.randint(1, VOCABULARY, (1, 4000), generator=torch.Generator().manual_seed(0))
    found = [
        NGramAddresses(ngram(rows_per_head=101, hash_seed=seed), which, VOCABULARY)(tokens)[0]
        for which, seed in ((0, 0), (1, 0), (0, 1))
    ]
    for other in found[1:]:
        assert (found[0] == other).double().mean() < 0.05
    sizes = ngram(rows_per_head=101).table_sizes(0)
    for column, size in enumerate(sizes):
        counts = torch.bincount(found[0][:, column] - sum(sizes[:column]), minlength=size)
        assert len(counts) == size
        assert (counts > 0).double().mean() > 0.95
