"""Greedy continuation of prompts, until a stop string, the end-of-document token or a limit.

Each step reads the whole sequence again: with short answers that costs less than a cache would in code. Refuses
nothing but sampling, which the adapter checks: one prompt has one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from memscale.evaluation.scoring import padded


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

    `model` as in `memscale.evaluation.scoring.score`. The newest `sequence_length` tokens are read.
    """
    texts = [""] * len(prompts)
    unfinished = [_Open(number, prompt) for number, prompt in enumerate(prompts) if prompt.max_tokens > 0]
    while unfinished:
        unfinished.sort(key=lambda answer: answer.length)
        still: list[_Open] = []
        for batch in _batches(unfinished, sequence_length, batch_tokens):
            for answer, token in zip(batch, _next_tokens(model, batch, sequence_length), strict=True):
                answer.tokens.append(token)
                text = _finished(answer, decode, end_token)
                if text is None:
                    still.append(answer)
                else:
                    texts[answer.number] = text
        unfinished = still
    return texts


def _next_tokens(model: nn.Module, batch: Sequence[_Open], sequence_length: int) -> list[int]:
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


def _batches(answers: Sequence[_Open], sequence_length: int, batch_tokens: int) -> list[list[_Open]]:
    """Cut answers, shortest first, into batches of at most `batch_tokens` padded tokens, or of one row."""
    cut: list[list[_Open]] = []
    for answer in answers:
        longest = min(answer.length, sequence_length)
        if cut and (len(cut[-1]) + 1) * longest <= batch_tokens:
            cut[-1].append(answer)
        else:
            cut.append([answer])
    return cut
