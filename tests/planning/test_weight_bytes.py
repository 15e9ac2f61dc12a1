"""Bytes read, against a recount over the matrices of a model, and against what must happen when a knob is turned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.errors import ConfigError
from memscale.planning.accounting import count
from memscale.planning.weight_bytes import decode_bytes, kv_cache_bytes, training_bytes
from tests.planning.architectures import architectures

DENSE = Architecture(
    family="dense", d_model=8, num_layers=3, num_heads=4, num_kv_heads=2, head_width=2, ffn_hidden=10, vocab_size=50
)
OUTSIDE = 3 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 2 * 8) + 8 + 8 * 50
"""Attention and norms of three layers, the last norm, and the head."""
FFN = 3 * 8 * 10
KEYS = 8 * 2 * 6 + 2 * 6 + 2 * 5 * 6
"""Queries with their bias, and keys: 2 heads, 5 half keys a set, width 6."""
READ = {
    "dense": (DENSE, 3 * FFN),
    "moe": (
        replace(
            DENSE,
            family="moe",
            moe=MoE(layers=(0, 2), num_experts=7, experts_per_token=2, expert_hidden=6, shared_experts=1),
        ),
        FFN + 2 * (8 * 7 + (2 + 1) * 3 * 8 * 6),
    ),
    "memory_plus": (
        replace(
            DENSE,
            family="memory_plus",
            memory=Memory(layers=(1, 2), num_keys=5, num_heads=2, knn=3, key_width=6, value_width=4),
        ),
        FFN + 2 * (KEYS + 2 * 3 * 4 + 2 * 8 * 4),
    ),
    "pkm": (
        replace(
            DENSE,
            family="pkm",
            memory=Memory(
                layers=(1,), num_keys=5, num_heads=2, knn=3, key_width=6, value_width=8, gated=False,
                shared_table=False, query_norm="batch",
            ),
        ),
        2 * FFN + KEYS + 2 * 2 * 6 + 2 * 3 * 8,
    ),
    "peer": (
        replace(DENSE, family="peer", peer=Peer(layers=(1,), num_keys=5, num_heads=2, knn=3, key_width=6)),
        2 * FFN + KEYS + 2 * 2 * 3 * 8,
    ),
    # One layer of the three is read four times, and so is the injection.
    "looped": (
        replace(DENSE, family="looped", loop=Loop(prelude=1, recurrent=1, coda=1, recurrences=4)),
        6 * FFN + (OUTSIDE - 8 - 8 * 50) + 4 * 2 * 8 * 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", READ)
def test_a_decoded_token_reads_its_matrices_and_its_rows(family: str) -> None:
    architecture, slots = READ[family]
    assert decode_bytes(architecture, 16) == 2 * (OUTSIDE + 8 + slots)
    assert decode_bytes(architecture, 16, bytes_per_weight=0.5) == (OUTSIDE + 8 + slots) / 2


@pytest.mark.parametrize("family", READ)
def test_a_trained_token_reads_its_rows_and_its_share_of_the_matrices(family: str) -> None:
    architecture, slots = READ[family]
    rows = {"memory_plus": 2 * 2 * 3 * 4, "pkm": 2 * 3 * 8, "peer": 2 * 2 * 3 * 8}.get(family, 0)
    dense = OUTSIDE + slots - rows
    if family == "moe":
        # Five tokens meet 7 (1 - (5 / 7)**5) experts of 7 if each takes two at random.
        dense += 2 * 3 * 8 * 6 * (7 * (1 - (5 / 7) ** 5) - 2)
    assert training_bytes(architecture, 16, 5) == pytest.approx(2 * (8 + 2 * rows + 2 * dense / 5), rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(architectures(), st.integers(1, 2000))
def test_more_tokens_at_once_share_the_weights_but_not_the_rows(a: Architecture, tokens: int) -> None:
    one, many, endless = (training_bytes(a, 16, number) for number in (tokens, 2 * tokens, 10**15))
    assert one > many > endless
    # What remains: the embedding's row, and the table's rows in both directions.
    rows = 0
    for part in (a.memory, a.peer):
        if part is not None:
            width = a.memory.value_width if part is a.memory else 2 * a.d_model
            rows += len(part.layers) * min(part.num_slots, part.num_heads * part.knn) * width
    if a.ngram is not None:
        rows += len(a.ngram.layers) * a.ngram.memory_width
    if a.token_table is not None:
        rows += len(a.token_table.layers) * a.token_table.row_width
    assert endless == pytest.approx(2 * (a.d_model + 2 * rows), rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(architectures())
def test_decoding_reads_no_more_than_there_is(a: Architecture) -> None:
    counts = count(a, 16)
    head = a.d_model * a.vocab_size
    repeated = counts.params_table * (len(a.memory.layers) if a.memory is not None else 1) - counts.params_table
    if a.loop is not None:
        repeated += counts.params_non_embedding * (a.loop.recurrences - 1)
    assert 0 < decode_bytes(a, 16, bytes_per_weight=1) <= counts.params_total + repeated + a.d_model
    if a.family == "dense":
        assert decode_bytes(a, 16, bytes_per_weight=1) == counts.params_non_embedding + head + a.d_model


def test_the_cache_of_keys_and_values_grows_with_the_context() -> None:
    # Two tensors, three layers, two key/value heads of width two.
    assert kv_cache_bytes(DENSE, 10) == 2 * (2 * 3 * 2 * 2) * 10
    assert kv_cache_bytes(DENSE, 0) == 0
    looped = replace(DENSE, family="looped", loop=Loop(prelude=0, recurrent=2, coda=1, recurrences=5))
    assert kv_cache_bytes(looped, 10) == 2 * (2 * (5 * 2 + 1) * 2 * 2) * 10


def test_convolved_queries_cache_their_last_inputs() -> None:
    memory = Memory(
        layers=(0, 2), num_keys=5, num_heads=2, knn=2, key_width=6, value_width=8, gated=False, query_conv=4
    )
    convolved = replace(DENSE, family="memory", memory=memory)
    for context, inputs in ((0, 0), (2, 2), (10, 3)):
        assert kv_cache_bytes(convolved, context) == kv_cache_bytes(DENSE, context) + 2 * 2 * inputs * 8


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="bytes_per_weight is 0"):
        decode_bytes(DENSE, 16, bytes_per_weight=0)
    with pytest.raises(ConfigError, match="batch_tokens is 0"):
        training_bytes(DENSE, 16, 0)
    with pytest.raises(ConfigError, match="context is -1"):
        kv_cache_bytes(DENSE, -1)
