"""Generation through the cache against one that reads everything again, prompt by prompt, written out here."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fakes import END, Letters, successor_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from memscale.evaluation.generation import Prompt, generate
from memscale.models.transformer import Transformer, build
from tests.models.zoo import ZOO

LETTERS = Letters()


def model_of(name: str, dtype: torch.dtype = torch.float64) -> Transformer:
    """A model whose tokens are letters, and whose attention counts, so that it does not say one letter for ever."""
    model = build(dataclasses.replace(ZOO[name], vocab_size=LETTERS.vocab_size), seed=2, dtype=dtype).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.mul_(20.0)
    return model


@torch.no_grad()
def recounted(model: nn.Module, prompt: Prompt, sequence_length: int) -> str:
    """Greedy, one unbatched forward pass over the newest `sequence_length` tokens for every token."""
    tokens, made = list(prompt.tokens), []
    while len(made) < prompt.max_tokens:
        token = int(model(torch.tensor([tokens[-sequence_length:]])).logits_BSV[0, -1].argmax())
        if token == END:
            break
        tokens.append(token)
        made.append(token)
        text = LETTERS.decode(made)
        if any(stop in text for stop in prompt.stop_strings):
            return text[: min(text.find(stop) for stop in prompt.stop_strings if stop in text)]
    return LETTERS.decode(made)


def generated(model: nn.Module, prompts: list[Prompt], *, sequence_length: int, batch_tokens: int) -> list[str]:
    with torch.inference_mode():
        return generate(
            model, prompts, LETTERS.decode, end_token=END, sequence_length=sequence_length, batch_tokens=batch_tokens
        )


PROMPTS = st.lists(
    st.builds(
        Prompt,
        tokens=st.lists(st.integers(0, 127), min_size=1, max_size=12),
        stop_strings=st.lists(st.text("abcdefgh", min_size=1, max_size=2), max_size=2).map(tuple),
        max_tokens=st.integers(0, 9),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", ZOO)
def test_every_family_generates_through_the_cache_what_it_generates_without(name: str) -> None:
    model = model_of(name)
    generator = torch.Generator().manual_seed(0)
    prompts = [
        Prompt(tokens=torch.randint(1, 128, (length,), generator=generator).tolist(), stop_strings=(), max_tokens=more)
        for length, more in ((3, 20), (9, 20), (1, 20), (9, 5), (14, 20))
    ]
    found = generated(model, prompts, sequence_length=24, batch_tokens=1000)
    assert found == [recounted(model, prompt, 24) for prompt in prompts]
    assert len(set("".join(found))) > 8  # letters that differ, or nothing was tested


@settings(max_examples=60, deadline=None)
@given(prompts=PROMPTS, sequence_length=st.integers(4, 24), batch_tokens=st.integers(1, 120))
def test_any_prompts_stops_limits_and_batches(prompts: list[Prompt], sequence_length: int, batch_tokens: int) -> None:
    model = model_of("dense")
    found = generated(model, prompts, sequence_length=sequence_length, batch_tokens=batch_tokens)
    assert found == [recounted(model, prompt, sequence_length) for prompt in prompts]


def test_a_prompt_is_read_once_and_then_one_token_at_a_time() -> None:
    model, seen = model_of("dense"), []
    model.register_forward_hook(lambda _, arguments, __: seen.append(tuple(arguments[0].shape)))
    prompts = [
        Prompt(tokens=[5, 6, 7], stop_strings=(), max_tokens=6),
        Prompt(tokens=[8], stop_strings=(), max_tokens=4),
    ]
    generated(model, prompts, sequence_length=64, batch_tokens=1000)
    assert seen == [(2, 3), *[(2, 1)] * 3, *[(1, 1)] * 2]


def test_a_batch_stays_within_its_tokens() -> None:
    model, seen = model_of("dense"), []
    model.register_forward_hook(lambda _, arguments, __: seen.append(arguments[0].numel()))
    prompts = [Prompt(tokens=[5] * length, stop_strings=(), max_tokens=6) for length in (3, 9, 12, 12, 2, 5)]
    generated(model, prompts, sequence_length=16, batch_tokens=32)
    assert max(seen) <= 32
    assert (2 * 12) in seen  # and two that fit together are read together


def test_of_two_stops_that_appear_together_the_earlier_ends_the_text() -> None:
    model = successor_pairs("Paris")
    prompt = Prompt(tokens=[ord("P")], stop_strings=("is", "ris"), max_tokens=8)
    assert generated(model, [prompt], sequence_length=16, batch_tokens=100) == ["a"]
