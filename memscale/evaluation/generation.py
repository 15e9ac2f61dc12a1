"""Greedy generation from prompts, up to a stop string, the end-of-document token or a limit.

With a KV cache, a prompt is read once and every further token alone. A text longer than the model's sequence length is
read again for each token, since the cached keys and values depend on the oldest token, which has left the window. So is
every text of a model without a cache.
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
    """A prompt and where its continuation ends."""

    tokens: Sequence[int]
    """The prompt's tokens, at least one."""
    stop_strings: tuple[str, ...]
    """The answer ends before the first of these that occurs."""
    max_tokens: int


@dataclass
class _PartialAnswer:
    """An incomplete answer."""

    number: int
    prompt: Prompt
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.prompt.tokens) + len(self.tokens)

    @property
    def longest(self) -> int:
        """Largest number of tokens to read; the last generated token is not read."""
        return len(self.prompt.tokens) + self.prompt.max_tokens - 1


class _Answers:
    """Collects the answers: each step appends one token to every incomplete answer."""

    def __init__(self, num_prompts: int, decode: Callable[[list[int]], str], end_token: int) -> None:
        self.texts = [""] * num_prompts
        self._decode, self._end_token = decode, end_token

    def take(self, batch: Sequence[_PartialAnswer], tokens: Sequence[int]) -> list[int]:
        """Append the next token of each answer; return the indices of those that are still incomplete."""
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
    """Generate a continuation of each prompt greedily.

    Args:
        model: As in `memscale.evaluation.scoring.score`; a `Transformer` uses a KV cache.
        prompts: Prompts of any length; the newest `sequence_length` tokens are read.
        decode: Converts tokens to text.
        end_token: The end-of-document token.
        sequence_length: Largest number of tokens that the model reads at once.
        batch_tokens: Largest number of padded tokens of a batch, in a forward pass and in the cache; a single prompt
            may exceed it.

    Returns:
        The text for each prompt, up to but without the stop string or end token.
    """
    answers = _Answers(len(prompts), decode, end_token)
    waiting = [_PartialAnswer(number, prompt) for number, prompt in enumerate(prompts) if prompt.max_tokens > 0]
    if isinstance(model, Transformer):
        fitting = [answer for answer in waiting if answer.length <= sequence_length]
        waiting = [answer for answer in waiting if answer.length > sequence_length]
        for batch in _batches(fitting, lambda answer: min(answer.longest, sequence_length), batch_tokens):
            waiting += _cached(model, batch, answers, sequence_length)
    while waiting:
        still: list[_PartialAnswer] = []
        for batch in _batches(waiting, lambda answer: min(answer.length, sequence_length), batch_tokens):
            still += [batch[place] for place in answers.take(batch, _read_again(model, batch, sequence_length))]
        waiting = still
    return answers.texts


def _cached(
    model: Transformer, batch: list[_PartialAnswer], answers: _Answers, sequence_length: int
) -> list[_PartialAnswer]:
    """Generate until every answer is complete or as long as the sequence length; return the latter."""
    weight = model.embedding.weight
    capacity = min(max(answer.longest for answer in batch), sequence_length)
    cache = KVCache(
        model.architecture, num_rows=len(batch), capacity=capacity, device=weight.device, dtype=weight.dtype
    )
    outgrown: list[_PartialAnswer] = []
    rows = [answer.prompt.tokens for answer in batch]
    while batch:
        starts = cache.lengths
        logits_BSV = model(padded(rows, weight.device), cache).logits_BSV
        ends = [start + len(row) for start, row in zip(starts, rows, strict=True)]
        cache.truncate(ends)
        last_B = torch.tensor([len(row) - 1 for row in rows], device=weight.device)
        tokens = logits_BSV[torch.arange(len(rows), device=weight.device), last_B].argmax(-1).tolist()
        still = answers.take(batch, tokens)
        outgrown += [batch[place] for place in still if ends[place] == sequence_length]
        still = [place for place in still if ends[place] < sequence_length]
        if len(still) < len(batch):
            cache.select_rows(still)
        batch = [batch[place] for place in still]
        rows = [answer.tokens[-1:] for answer in batch]
    return outgrown


def _read_again(model: nn.Module, batch: Sequence[_PartialAnswer], sequence_length: int) -> list[int]:
    """Return the next token of each answer after reading its newest `sequence_length` tokens."""
    device = next(model.parameters()).device
    rows = [[*answer.prompt.tokens, *answer.tokens][-sequence_length:] for answer in batch]
    last_B = torch.tensor([len(row) - 1 for row in rows], device=device)
    logits_BSV = model(padded(rows, device)).logits_BSV
    tokens: list[int] = logits_BSV[torch.arange(len(rows), device=device), last_B].argmax(-1).tolist()
    return tokens


def _finished(answer: _PartialAnswer, decode: Callable[[list[int]], str], end_token: int) -> str | None:
    """Return the text of a complete answer, else None."""
    ended = answer.tokens[-1] == end_token
    text = decode(answer.tokens[:-1] if ended else answer.tokens)
    stops = [place for stop in answer.prompt.stop_strings if (place := text.find(stop)) >= 0]
    if stops:
        return text[: min(stops)]
    return text if ended or len(answer.tokens) >= answer.prompt.max_tokens else None


def _batches(
    answers: list[_PartialAnswer], size: Callable[[_PartialAnswer], int], batch_tokens: int
) -> Iterator[list[_PartialAnswer]]:
    """Group answers, the shortest first, into batches of at most `batch_tokens` padded tokens, or of one answer."""
    batch: list[_PartialAnswer] = []
    for answer in sorted(answers, key=size):
        if batch and (len(batch) + 1) * size(answer) > batch_tokens:
            yield batch
            batch = []
        batch.append(answer)
    if batch:
        yield batch
