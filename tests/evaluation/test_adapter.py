"""What the adapter reports, counted again by one unbatched forward pass a request, without its code."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from fakes import END, Causal, Letters, random_pairs, successor_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from torch import nn

from memscale.errors import ConfigError, DataError
from memscale.evaluation.adapter import LanguageModel

TEXTS = st.text(alphabet="abc .", min_size=0, max_size=12)
ANSWERS = st.text(alphabet="abc.", min_size=1, max_size=5)


def adapter(model: nn.Module, sequence_length: int = 64, batch_tokens: int = 256) -> LanguageModel:
    return LanguageModel(model, Letters(), sequence_length=sequence_length, batch_tokens=batch_tokens)


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=each, idx=number) for number, each in enumerate(arguments)]


def recounted(model: nn.Module, context: str, answer: str) -> tuple[float, bool]:
    """The log-probability of `answer` after the end token and `context`, one token at a time."""
    tokens = [END, *(ord(letter) for letter in context)]
    nats, greedy = 0.0, True
    for letter in answer:
        probabilities = torch.softmax(model(torch.tensor([tokens])).logits_BSV[0, -1].double(), -1)
        nats += math.log(probabilities[ord(letter)].item())
        greedy &= int(probabilities.argmax()) == ord(letter)
        tokens.append(ord(letter))
    return nats, greedy


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, ANSWERS), min_size=1, max_size=8), batch_tokens=st.integers(1, 300))
def test_loglikelihood_equals_a_direct_forward_pass(pairs: list[tuple[str, str]], batch_tokens: int) -> None:
    model = Causal().eval()
    scored = adapter(model, batch_tokens=batch_tokens).loglikelihood(requests("loglikelihood", *pairs))
    for (nats, greedy), (context, answer) in zip(scored, pairs, strict=True):
        # lm-eval moves spaces at the end of a prompt to the answer.
        kept = context.rstrip()
        expected_nats, expected_greedy = recounted(model, kept, context[len(kept) :] + answer)
        if context and not kept:  # nothing but spaces
            expected_nats, expected_greedy = recounted(model, "", context + answer)
        assert nats == pytest.approx(expected_nats, abs=1e-4)
        assert greedy == expected_greedy


def test_the_greedy_flag_marks_the_most_probable_answer_only() -> None:
    model = successor_pairs("Paris")
    pairs = [("P", "aris"), ("P", "aros"), ("P", "is")]
    flags = [greedy for _, greedy in adapter(model).loglikelihood(requests("loglikelihood", *pairs))]
    assert flags == [True, False, False]


def test_order_and_batch_size_change_nothing() -> None:
    model = Causal().eval()
    pairs = [(f"{'ab' * (n % 7)}q{n}", f"x{n % 3}") for n in range(40)]
    forwards = adapter(model, batch_tokens=4096).loglikelihood(requests("loglikelihood", *pairs))
    backwards = adapter(model, batch_tokens=1).loglikelihood(requests("loglikelihood", *reversed(pairs)))
    for (nats, greedy), (other_nats, other_greedy) in zip(forwards, reversed(backwards), strict=True):
        assert nats == pytest.approx(other_nats, abs=1e-5)
        assert greedy == other_greedy


def test_choices_of_one_token_share_one_row() -> None:
    model = random_pairs()
    adapter(model).loglikelihood(requests("loglikelihood", *[("a prompt", letter) for letter in "abcdefgh"]))
    assert model.num_rows == 1
    assert model.num_tokens == 1 + len("a prompt")


def test_a_batch_stays_within_its_tokens() -> None:
    model = random_pairs()
    seen: list[int] = []
    model.register_forward_hook(lambda _, arguments, __: seen.append(arguments[0].numel()))
    pairs = [("abc" * (n % 5 + 1), str(n)) for n in range(30)]
    adapter(model, batch_tokens=50).loglikelihood(requests("loglikelihood", *pairs))
    assert max(seen) <= 50


def test_a_long_prompt_loses_its_beginning() -> None:
    model = Causal().eval()
    context, answer, length = "abcdefghijklmnop", "xyz", 8
    ((nats, _),) = adapter(model, sequence_length=length).loglikelihood(requests("loglikelihood", (context, answer)))
    tokens = [ord(letter) for letter in context + answer][-(length + 1) :]
    logits_SV = model(torch.tensor([tokens[:-1]])).logits_BSV[0]
    expected = sum(torch.log_softmax(logits_SV, -1)[place, tokens[place + 1]].item() for place in range(5, 8))
    assert nats == pytest.approx(expected, abs=1e-4)


def test_an_answer_longer_than_the_sequence_is_refused() -> None:
    with pytest.raises(DataError, match=r"9 tokens long.*sequences of 8"):
        adapter(random_pairs(), sequence_length=8).loglikelihood(requests("loglikelihood", ("a", "x" * 9)))


@settings(max_examples=40, deadline=None)
@given(text=st.text(alphabet="abcdefg \n", max_size=70), sequence_length=st.integers(1, 20))
def test_rolling_predicts_every_token_exactly_once(text: str, sequence_length: int) -> None:
    """A model of pairs scores a text the same however it is cut, as long as each pair is met once."""
    model = random_pairs()
    (nats,) = adapter(model, sequence_length).loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    tokens = [END, *(ord(letter) for letter in text)]
    table_VV = torch.log_softmax(model.logits_VV.double(), -1)
    expected = sum(table_VV[before, after].item() for before, after in itertools.pairwise(tokens))
    assert nats == pytest.approx(expected, abs=1e-4)


def test_rolling_fills_the_last_window_with_context() -> None:
    model, length = Causal().eval(), 8
    text = "abcdefghijk"  # 11 tokens: one window of 8, one of 3 with 5 tokens of context
    (nats,) = adapter(model, length).loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    tokens = [END, *(ord(letter) for letter in text)]
    expected = 0.0
    for start, first in ((0, 0), (3, 5)):
        window = tokens[start : start + length + 1]
        nats_SV = torch.log_softmax(model(torch.tensor([window[:-1]])).logits_BSV[0], -1)
        expected += sum(nats_SV[place, window[place + 1]].item() for place in range(first, length))
    assert nats == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "then", "until", "expected"),
    [
        ("aris", ord("."), [".", "\n"], "aris"),
        ("aris", ord("\n"), [".", "\n"], "aris"),
        ("aris", END, [".", "\n"], "aris"),
        ("arisbcdefghk", END, [".", "\n"], "arisbcde"),  # the limit of 8 tokens
        ("aris", END, ["is"], "ar"),
    ],
)
def test_generation_stops(text: str, then: int, until: list[str], expected: str) -> None:
    model = successor_pairs("P" + text, then=then)
    wanted = {"until": until, "do_sample": False, "max_gen_toks": 8}
    assert adapter(model).generate_until(requests("generate_until", ("in P", wanted))) == [expected]


def test_generation_is_greedy_and_independent_of_the_batch() -> None:
    model = Causal().eval()
    wanted = {"until": ["."], "do_sample": False, "max_gen_toks": 6}
    prompts = ["a" * n + "b" for n in range(12)]
    together = adapter(model).generate_until(requests("generate_until", *[(each, wanted) for each in prompts]))
    for prompt, text in zip(prompts, together, strict=True):
        tokens = [END, *(ord(letter) for letter in prompt)]
        produced = ""
        for _ in range(6):
            token = int(model(torch.tensor([tokens])).logits_BSV[0, -1].argmax())
            if token == END or chr(token) == ".":
                break
            tokens.append(token)
            produced += chr(token)
        assert text == produced


@pytest.mark.parametrize(
    ("wanted", "word"), [({"do_sample": True, "max_gen_toks": 4}, "greedily"), ({"until": ["."]}, "max_gen_toks")]
)
def test_sampling_and_no_limit_are_refused(wanted: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        adapter(random_pairs()).generate_until(requests("generate_until", ("a", wanted)))
