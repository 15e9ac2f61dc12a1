"""Log-probabilities of token continuations, with as few forward passes as possible.

An input that is a prefix of another needs no forward pass of its own, since in a causal model the first positions of
the longer one have the same logits. So one row serves all one-token choices of a prompt, a question that two tasks ask,
and a prompt with and without its answer. Rows are padded on the right, which a causal model cannot see: a score depends
only on the request's own tokens.

Shapes: B rows, S padded length, V vocabulary, P scored tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memscale.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """Tokens to score, and the tokens before them."""

    context: Sequence[int]
    """At least one token; cut on the left where context and continuation exceed the sequence length."""
    tokens: Sequence[int]
    """At least one token, at most the model's sequence length."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The score of one continuation."""

    nats: float
    """Sum of the log-probabilities of the continuation's tokens, in nats (negative)."""
    greedy: bool
    """Whether every token is the most probable one."""


@dataclass(frozen=True)
class _Row:
    tokens: Sequence[int]
    requests: list[int]


def score(
    model: nn.Module, continuations: Sequence[Continuation], *, sequence_length: int, batch_tokens: int
) -> list[Scored]:
    """Score each continuation after its context.

    Args:
        model: Maps int64 tokens [B, S] to an output with unnormalised `logits_BSV`; causal and in evaluation mode.
        continuations: Contexts and the tokens to score.
        sequence_length: Largest number of tokens that the model reads at once.
        batch_tokens: Largest number of tokens of a batch with padding; a single row may exceed it.

    Returns:
        The scores in the order of `continuations`.

    Raises:
        DataError: A context or continuation is empty, or a continuation is longer than `sequence_length`.
    """
    inputs = [_input(continuation, sequence_length) for continuation in continuations]
    nats, greedy = [0.0] * len(inputs), [True] * len(inputs)
    device = next(model.parameters()).device
    rows = sorted(_shared_rows(inputs), key=lambda row: len(row.tokens), reverse=True)
    for batch in batches(rows, batch_tokens):
        # For each token to score: the request, its row, the position that predicts it, and the token.
        asked = [
            (request, number, len(inputs[request]) - len(continuations[request].tokens) + offset, token)
            for number, row in enumerate(batch)
            for request in row.requests
            for offset, token in enumerate(continuations[request].tokens)
        ]
        row_P, position_P, target_P = torch.tensor(asked, device=device)[:, 1:].unbind(1)
        logits_BSV = model(padded([row.tokens for row in batch], device)).logits_BSV
        nats_PV = logits_BSV[row_P, position_P].float().log_softmax(-1)
        nats_P = nats_PV.gather(1, target_P[:, None])[:, 0]
        greedy_P = nats_PV.argmax(-1) == target_P
        for (request, *_), value, is_best in zip(asked, nats_P.tolist(), greedy_P.tolist(), strict=True):
            nats[request] += value
            greedy[request] &= is_best
    return [Scored(nats=value, greedy=best) for value, best in zip(nats, greedy, strict=True)]


def batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Group rows, sorted longest first, into batches of at most `batch_tokens` padded tokens, or of one row."""
    batch: list[_Row] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(batch[0].tokens) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return int64 tokens [B, S], padded on the right with token 0 to the longest row."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows], device=device)


def _input(continuation: Continuation, sequence_length: int) -> tuple[int, ...]:
    """Return the tokens to read: all but the last, the newest `sequence_length` of them."""
    num_tokens = len(continuation.tokens)
    if not continuation.context or not num_tokens:
        raise DataError(
            "an evaluation request has no context or no continuation; the adapter gives both at least one token"
        )
    if num_tokens > sequence_length:
        raise DataError(
            f"an answer of the evaluation data is {num_tokens} tokens long, but the model reads sequences of "
            f"{sequence_length}; leave its task out (evaluate.tasks) or train with longer sequences"
        )
    return (*continuation.context, *continuation.tokens[:-1])[-sequence_length:]


def _shared_rows(inputs: Sequence[tuple[int, ...]]) -> Iterator[_Row]:
    """Yield the fewest rows such that each input is a prefix of the row that lists it.

    In lexicographic order an input that is a prefix of any other is a prefix of its successor, so one pass from the
    last to the first finds all of them.
    """
    row = _Row((), [])
    for request in sorted(range(len(inputs)), key=inputs.__getitem__, reverse=True):
        tokens = inputs[request]
        if row.tokens[: len(tokens)] != tokens:
            if row.requests:
                yield row
            row = _Row(tokens, [])
        row.requests.append(request)
    if row.requests:
        yield row
