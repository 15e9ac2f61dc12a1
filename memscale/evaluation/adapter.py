"""An adapter from memscale's models to lm-eval's `TemplateLM`: loglikelihood, rolling loglikelihood, greedy generation.

Every text starts after the end-of-document token, as documents do in training, so the first token of a document is
predicted too. Import this only after `memscale.evaluation.environment.go_offline`. Refuses sampling and empty
continuations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import nn

from memscale.errors import ConfigError
from memscale.evaluation.generation import Prompt, generate
from memscale.evaluation.scoring import Continuation, score


class TextTokenizer(Protocol):
    """The tokenizer interface that the adapter needs."""

    @property
    def end_id(self) -> int:
        """The end-of-document token."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, without any special token."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of `tokens`."""


class LanguageModel(TemplateLM):  # type: ignore[misc]  # lm_eval is not typed
    """A causal model and its tokenizer for lm-eval. The model must be in evaluation mode."""

    def __init__(self, model: nn.Module, tokenizer: TextTokenizer, *, sequence_length: int, batch_tokens: int) -> None:
        """`model` as in `memscale.evaluation.scoring.score`; a batch holds at most `batch_tokens` padded tokens."""
        super().__init__()
        self._model, self._texts = model, tokenizer
        self._sequence_length, self._batch_tokens = sequence_length, batch_tokens
        # A prompt occurs once for each of its choices, and in several tasks.
        self._encoded: dict[str, list[int]] = {}

    @property
    def eot_token_id(self) -> int:
        """The end-of-document token."""
        return self._texts.end_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:  # noqa: ARG002
        """Return the tokens of `string`, preceded by the end-of-document token unless `add_special_tokens` is False."""
        if string not in self._encoded:
            self._encoded[string] = self._texts.encode(string)
        tokens = self._encoded[string]
        return list(tokens) if add_special_tokens is False else [self.eot_token_id, *tokens]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return log-probability (in nats) and greediness of each continuation after its context."""
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return answers

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        **kwargs: Any,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        return self._score([Continuation(context=context, tokens=tokens) for _, context, tokens in requests])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002
        """Return the log-probability of each whole text in nats; every token is scored once.

        Texts are cut into windows of the model's sequence length. The first starts after the end-of-document token,
        each later one with the last token of the one before, and the last is filled up with context on its left.
        """
        windows: list[Continuation] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            for pair in get_rolling_token_windows(tokens, self.prefix_token_id, self._sequence_length, 1):
                context, predicted = make_disjoint_window(pair)
                windows.append(Continuation(context=context, tokens=predicted))
                owners.append(number)
        nats = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._score(windows), strict=True):
            nats[owner] += value
        return nats

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002
        """Return each prompt's most probable continuation up to a stop string, the end token or `max_gen_toks`."""
        prompts = [_prompt(self.tok_encode(request.args[0]), request.args[1]) for request in requests]
        with torch.inference_mode():
            return generate(
                self._model,
                prompts,
                self._texts.decode,
                end_token=self.eot_token_id,
                sequence_length=self._sequence_length,
                batch_tokens=self._batch_tokens,
            )

    def _score(self, continuations: Sequence[Continuation]) -> list[tuple[float, bool]]:
        with torch.inference_mode():
            scored = score(
                self._model,
                continuations,
                sequence_length=self._sequence_length,
                batch_tokens=self._batch_tokens,
            )
        return [(each.nats, each.greedy) for each in scored]


def _prompt(tokens: list[int], settings: dict[str, Any]) -> Prompt:
    """Read a task's `generation_kwargs`. Raises ConfigError where they ask for sampling or name no limit."""
    if settings.get("do_sample") or settings.get("temperature"):
        raise ConfigError("generation_kwargs asks for sampling; memscale generates greedily: set do_sample: false")
    if "max_gen_toks" not in settings:
        raise ConfigError(f"generation_kwargs is {settings}; it needs max_gen_toks, the most tokens to generate")
    until = settings.get("until") or []
    return Prompt(
        tokens=tokens,
        stop_strings=(until,) if isinstance(until, str) else tuple(until),
        max_tokens=int(settings["max_gen_toks"]),
    )
