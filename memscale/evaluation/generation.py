"""Greedy continuation of prompts, until a stop string, the end-of-document token or a limit.

Where the model keeps a cache, a prompt is read once and every further token alone. A prompt that has outgrown the
model's sequence length is read again for each token, as is any of a model without a cache: its oldest token falls out,
and what a cache holds of the others was computed with that token in sight. Refuses nothing but sampling, which the
adapter checks: one prompt has one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from memscale.evaluation.scoring import padded
from memscale.models.cache import KVCache
from memscale.models.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Prompt:
    tokens: Sequence[int]
    """At least one."""
    stop_strings: tuple[str, ...]
    """Generation ends before the first of these to appear."""
    max_tokens: int


@dataclass
class _Open:
    """An answer under way."""

    number: int
    prompt: Prompt
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.prompt.tokens) + len(self.tokens)

    @property
    def longest(self) -> int:
        """Tokens read at most, for its last token is not read again."""
        return len(self.prompt.tokens) + self.prompt.max_tokens - 1


class _Answers:
    """The answers as they come in: one token each to those that are open, until a text is complete."""

    def __init__(self, num_prompts: int, decode: Callable[[list[int]], str], end_token: int) -> None:
        self.texts = [""] * num_prompts
        self._decode, self._end_token = decode, end_token

    def take(self, batch: Sequence[_Open], tokens: Sequence[int]) -> list[int]:
        """Give each answer its next token; return the places of those that are still open."""
        still = []
        for place, (answer, token) in enumerate(zip(batch, tokens, strict=True)):
            answer.tokens.append(token)
            text = _finished(answer, self._decode, self._end_token)
            if text is None:
                still.append(place)
            else:
                self.texts[answer.number] = text
        return still


def generate(
    model: nn.Module,
    prompts: Sequence[Prompt],
    decode: Callable[[list[int]], str],
    *,
    end_token: int,
    sequence_length: int,
    batch_tokens: int,
) -> list[str]:
    """Return the text generated for each prompt, without what stopped it.

    `model` as in `memscale.evaluation.scoring.score`; a Transformer keeps a cache. The newest `sequence_length` tokens
    are read. A batch reads at most `batch_tokens` padded tokens at once and has room for as many in its cache, or is a
    single prompt. Needs no gradients.
    """
    answers = _Answers(len(prompts), decode, end_token)
    waiting = [_Open(number, prompt) for number, prompt in enumerate(prompts) if prompt.max_tokens > 0]
    if isinstance(model, Transformer):
        fitting = [answer for answer in waiting if answer.length <= sequence_length]
        waiting = [answer for answer in waiting if answer.length > sequence_length]
        for batch in _batches(fitting, lambda answer: min(answer.longest, sequence_length), batch_tokens):
            waiting += _cached(model, batch, answers, sequence_length)
    while waiting:
        still: list[_Open] = []
        for batch in _batches(waiting, lambda answer: min(answer.length, sequence_length), batch_tokens):
            still += [batch[place] for place in answers.take(batch, _read_again(model, batch, sequence_length))]
        waiting = still
    return answers.texts


def _cached(model: Transformer, batch: list[_Open], answers: _Answers, sequence_length: int) -> list[_Open]:
    """Generate until every answer is complete or outgrows the sequence; return those that do."""
    weight = model.embedding.weight
    capacity = min(max(answer.longest for answer in batch), sequence_length)
    cache = KVCache(
        model.architecture, num_rows=len(batch), capacity=capacity, device=weight.device, dtype=weight.dtype
    )
    outgrown: list[_Open] = []
    rows = [answer.prompt.tokens for answer in batch]
    while batch:
        starts = cache.lengths
        logits_BSV = model(padded(rows, weight.device), cache).logits_BSV
        ends = [start + len(row) for start, row in zip(starts, rows, strict=True)]
        cache.rewind(ends)
        last_B = torch.tensor([len(row) - 1 for row in rows], device=weight.device)
        tokens = logits_BSV[torch.arange(len(rows), device=weight.device), last_B].argmax(-1).tolist()
        still = answers.take(batch, tokens)
        outgrown += [batch[place] for place in still if ends[place] == sequence_length]
        still = [place for place in still if ends[place] < sequence_length]
        if len(still) < len(batch):
            cache.keep(still)
        batch = [batch[place] for place in still]
        rows = [answer.tokens[-1:] for answer in batch]
    return outgrown


def _read_again(model: nn.Module, batch: Sequence[_Open], sequence_length: int) -> list[int]:
    """Return each answer's next token, after its newest `sequence_length` tokens."""
    device = next(model.parameters()).device
    rows = [[*answer.prompt.tokens, *answer.tokens][-sequence_length:] for answer in batch]
    last_B = torch.tensor([len(row) - 1 for row in rows], device=device)
    logits_BSV = model(padded(rows, device)).logits_BSV
    tokens: list[int] = logits_BSV[torch.arange(len(rows), device=device), last_B].argmax(-1).tolist()
    return tokens


def _finished(answer: _Open, decode: Callable[[list[int]], str], end_token: int) -> str | None:
    """The answer's text where it is complete, else None."""
    ended = answer.tokens[-1] == end_token
    text = decode(answer.tokens[:-1] if ended else answer.tokens)
    stops = [place for stop in answer.prompt.stop_strings if (place := text.find(stop)) >= 0]
    if stops:
        return text[: min(stops)]
    return text if ended or len(answer.tokens) >= answer.prompt.max_tokens else None


def _batches(answers: list[_Open], size: Callable[[_Open], int], batch_tokens: int) -> Iterator[list[_Open]]:
    """Cut answers, the smallest first, into batches of at most `batch_tokens` padded tokens, or of one row."""
    batch: list[_Open] = []
    for answer in sorted(answers, key=size):
        if batch and (len(batch) + 1) * size(answer) > batch_tokens:
            yield batch
            batch = []
        batch.append(answer)
    if batch:
        yield batch
