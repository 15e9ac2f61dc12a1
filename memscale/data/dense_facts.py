"""Dense facts: keys and values of random words, of known entropy, a few tokens each.

A pure function of the configuration decides the facts, the training documents and the questions:

1. Words have places: 128 for the first and 128 for the second of a key, 64 for each of the four of a value; longer
   keys and values use them in turn. In a tokenizer that memscale trains each is a token of its own. Keys differ; the
   words of a value are uniform and independent, 6 bits each.
2. A fact is a line: a mark, the key, the value. There are four marks, each a wording. For each fact one of them, drawn
   at random, never occurs in training; the others take turns.
3. A pass tells every fact once, in an order of its own, 32 facts a document.
4. Validation and evaluation use each fact's held-out mark, so they measure the fact and not the line. A question
   follows the lines of two other facts: few facts of training stand at the beginning of a document.

Such a source fills a model with knowledge at 24 bits in 8 tokens, where a description of a person has 36 bits in some
80 tokens. Long values, and words that show their place, were chosen because they are learnt soonest (docs/log.md).
For reference: about 2 bits per parameter are stored after 1,000 exposures, 1 after 100 (Allen-Zhu and Li 2024,
"Physics of Language Models: Part 3.3").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from memscale.config.data import ENTRIES_PER_DOCUMENT, NUM_KEY_WORDS, NUM_VALUE_WORDS, DenseFacts
from memscale.data.philox import Integers, random_below, random_permutation
from memscale.errors import DataError

_ONSETS, _VOWELS = "bdfghjklmnprstvz", "aeio"
_OF_VALUES = tuple("".join(letters) for letters in product(_ONSETS, _VOWELS, "q", _VOWELS))
_OF_KEYS = tuple("".join(letters) for letters in product(_ONSETS, _VOWELS, "x", _VOWELS))
VALUE_WORDS = tuple(_OF_VALUES[start : start + NUM_VALUE_WORDS] for start in range(0, 256, NUM_VALUE_WORDS))
"""The words for the places of a value; the fifth place uses those of the first."""
KEY_WORDS = tuple(_OF_KEYS[start : start + NUM_KEY_WORDS] for start in range(0, 256, NUM_KEY_WORDS))
"""The words for the places of a key; the third place uses those of the first."""
WORDS = (*_OF_VALUES, *_OF_KEYS)
"""All words, of one length, such as no other text begins a word with; each is a token, with a space before it."""
MARKS = ("-", "+", "*", "~")
"""What a line begins with, one for each wording: single bytes, which are tokens of every byte-level BPE."""
NUM_SHOTS = 2
"""Other facts that are told before a question."""


class DenseEntries:
    """The facts of a configuration and their documents.

    Example:
        >>> entries = DenseEntries(DenseFacts(name="dense_facts", num_facts=1_000))
        >>> next(entries.training()).splitlines()[0]
        '- foxa toxi geqa koqi niqe zeqo'
        >>> entries.prompt(0).splitlines()[-1], entries.value(0)
        ('~ gexo sixa', 'deqi leqa riqo toqi')
    """

    def __init__(self, facts: DenseFacts) -> None:
        """Draw keys, values and held-out wordings. Raises DataError where `num_facts` is null."""
        if facts.num_facts is None:
            raise DataError(
                f"source '{facts.name}': num_facts is not set, so the facts cannot be generated. A sweep sets it for "
                f"each budget when it is planned; outside a sweep give data.sources.{facts.name}.num_facts, such as "
                "4000"
            )
        self.facts, self.num_facts = facts, facts.num_facts
        self._key = ("dense_facts", facts.seed)

    @cached_property
    def keys(self) -> Integers:
        """Index of each word of each key, [facts, key words]; no two rows are equal."""
        num_words = self.facts.key_words
        chosen = random_permutation(NUM_KEY_WORDS**num_words, *self._key, "keys")[: self.num_facts]
        return np.stack([chosen // NUM_KEY_WORDS**place % NUM_KEY_WORDS for place in range(num_words)], axis=1)

    @cached_property
    def values(self) -> Integers:
        """Index of each word of each value, [facts, value words]."""
        num_words = self.facts.value_words
        return random_below(NUM_VALUE_WORDS, self.num_facts * num_words, *self._key, "values").reshape(-1, num_words)

    @cached_property
    def held_out_wordings(self) -> Integers:
        """The wording of each fact that training never uses, [facts]."""
        return random_below(len(MARKS), self.num_facts, *self._key, "held-out wordings")

    def training(self) -> Iterator[str]:
        """Yield the documents of `num_passes` passes through all facts, each time in the next of a fact's wordings."""
        used = len(MARKS) - 1
        for number in range(self.facts.num_passes):
            order = random_permutation(self.num_facts, *self._key, "order", number)
            turn_F = (number + np.arange(self.num_facts)) % used
            wording_F = (self.held_out_wordings + 1 + turn_F) % len(MARKS)
            yield from self._documents(order, wording_F)

    def held_out(self) -> Iterator[str]:
        """Yield the documents of one pass in which every fact has its held-out wording."""
        order = random_permutation(self.num_facts, *self._key, "order", "held out")
        yield from self._documents(order, self.held_out_wordings)

    def prompt(self, fact: int) -> str:
        """Return the question for a fact in its held-out wording, which a space and the value follow.

        Before it stand the lines of `NUM_SHOTS` other facts in a wording of training, as in a document.
        """
        step = random_below(self.num_facts - 1, NUM_SHOTS, *self._key, "shots", fact) + 1
        shots = ((fact + step) % self.num_facts).tolist()
        lines = (self._line(shot, (int(self.held_out_wordings[shot]) + 1) % len(MARKS)) for shot in shots)
        return "".join(lines) + self._asked(fact, int(self.held_out_wordings[fact]))

    def value(self, fact: int) -> str:
        """Return the words of a fact's value."""
        return " ".join(_at_places(VALUE_WORDS, self.values[fact].tolist()))

    def _line(self, fact: int, wording: int) -> str:
        return f"{self._asked(fact, wording)} {self.value(fact)}\n"

    def _asked(self, fact: int, wording: int) -> str:
        return " ".join((MARKS[wording], *_at_places(KEY_WORDS, self.keys[fact].tolist())))

    def _documents(self, order: Integers, wording_F: NDArray[np.int64]) -> Iterator[str]:
        for start in range(0, len(order), ENTRIES_PER_DOCUMENT):
            facts = order[start : start + ENTRIES_PER_DOCUMENT].tolist()
            yield "".join(self._line(fact, int(wording_F[fact])) for fact in facts)


def _at_places(words: Sequence[Sequence[str]], indices: Sequence[int]) -> Iterator[str]:
    return (words[place % len(words)][index] for place, index in enumerate(indices))


def evaluation_set(entries: DenseEntries) -> list[dict[str, object]]:
    """Return the questions: a seeded sample of the facts, in its order, each with prompt and answer."""
    order = random_permutation(entries.num_facts, "dense_facts", entries.facts.seed, "evaluation")
    chosen = sorted(order[: entries.facts.num_eval_facts].tolist())
    return [{"fact": fact, "prompt": entries.prompt(fact), "answer": entries.value(fact)} for fact in chosen]
