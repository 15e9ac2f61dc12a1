"""Invented people with six attributes each, drawn uniformly and independently: the knowledge is known to the bit.

Decides who the people are, what is true of them, which documents tell it in training, and which questions are never
asked there. A pure function of the configuration. Cheap to import (NumPy only), as the planner
sizes the knowledge with it. Refuses facts whose number of people the planner has not filled in yet.

Training holds, for every person, `num_documents` documents, all different: descriptions (all six facts in random
order, each in a random training sentence) and question-and-answer documents. Documents go round by round, each round
through all people in a new order, so that one person's documents never stand together in a sequence, where they could
be copied instead of remembered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memscale.config.data import NUM_ATTRIBUTES, Facts
from memscale.data.facts_words import ATTRIBUTES, FIRST, LAST
from memscale.data.philox import below, permutation
from memscale.errors import DataError

QUESTIONS_PER_DOCUMENT = 3
OPENING = "Facts:"
"""Begins a description, so that a name follows a space there as in questions, and is the same tokens."""
assert len(ATTRIBUTES) == NUM_ATTRIBUTES, "config and vocabulary must agree"
_NUM_STATEMENTS = len(ATTRIBUTES[0].statements)
_NUM_QUESTIONS = len(ATTRIBUTES[0].questions)
_NUM_ORDERS = math.factorial(NUM_ATTRIBUTES)
_NUM_DESCRIPTIONS = _NUM_ORDERS * _NUM_STATEMENTS**NUM_ATTRIBUTES
"""Different descriptions of one person: 720 orders x 4^6 choices of sentences."""


def knowledge_bits(num_people: int, num_values: int) -> float:
    """Return the entropy of the facts: each of 6 attributes of each person is uniform over `num_values`."""
    return num_people * NUM_ATTRIBUTES * math.log2(num_values)


@dataclass(frozen=True)
class Person:
    """One invented person, by row number."""

    index: int
    name: str
    values: tuple[str, ...]
    """One of each attribute, in the order of ATTRIBUTES."""


class People:
    """The people of a configuration, what is true of them, and their documents."""

    def __init__(self, facts: Facts) -> None:
        if facts.num_people is None:
            raise DataError(
                f"source '{facts.name}': num_people is not set, so the facts cannot be made. A sweep sizes it when it "
                f"is planned; outside a sweep give data.sources.{facts.name}.num_people, such as 500"
            )
        if facts.num_documents + self._num_held_out(facts) > _NUM_DESCRIPTIONS:
            raise DataError(
                f"source '{facts.name}': num_documents is {facts.num_documents}; a person has {_NUM_DESCRIPTIONS} "
                "different descriptions, some of which are held out. Give fewer; later epochs repeat them"
            )
        self.facts, self.num_people = facts, facts.num_people
        self._key = ("facts", facts.seed)
        self.values_PA = below(facts.num_values, self.num_people * NUM_ATTRIBUTES, *self._key, "values").reshape(
            self.num_people, NUM_ATTRIBUTES
        )
        """Index of each person's value among the attribute's values, [people, attributes]."""

    @cached_property
    def people(self) -> list[Person]:
        return [
            self._person(index, name, row)
            for index, (name, row) in enumerate(zip(self._names, self.values_PA.tolist(), strict=True))
        ]

    @cached_property
    def held_out_questions(self) -> NDArray[np.bool_]:
        """Questions never asked in training, [people, attributes]: the configured share, rounded, at least one."""
        total = self.num_people * NUM_ATTRIBUTES
        count = max(1, round(self.facts.held_out_questions * total))
        chosen = np.zeros(total, dtype=np.bool_)
        chosen[permutation(total, *self._key, "held-out questions")[:count]] = True
        return chosen.reshape(self.num_people, NUM_ATTRIBUTES)

    def training(self) -> Iterator[str]:
        """Yield num_people x num_documents documents, no two alike."""
        askable = [np.flatnonzero(~row).tolist() for row in self.held_out_questions]
        num_documents = self.facts.num_documents
        most_questions = round(num_documents * self.facts.question_share)
        num_questions = [min(most_questions, _num_question_documents(len(asked))) for asked in askable]
        for round_number in range(num_documents):
            for index in permutation(self.num_people, *self._key, "order", round_number).tolist():
                person = self.people[index]
                slot = (round_number + index) % num_documents  # people have their question documents in other rounds
                if slot < num_questions[index]:
                    yield self._questions(person, askable[index], slot)
                else:
                    yield self._description(person, slot)

    def held_out(self) -> Iterator[str]:
        """Yield the descriptions kept for validation: the configured share of each person's, at least one."""
        first = self.facts.num_documents
        for round_number in range(first, first + self._num_held_out(self.facts)):
            for index in permutation(self.num_people, *self._key, "order", round_number).tolist():
                yield self._description(self.people[index], round_number)

    @staticmethod
    def _num_held_out(facts: Facts) -> int:
        return max(1, round(facts.num_documents * facts.held_out / (1 - facts.held_out)))

    @property
    def _names(self) -> list[str]:
        """Distinct full names: first, as few middle names as give enough combinations, last."""
        num_middle = 0
        while len(FIRST) ** (num_middle + 1) * len(LAST) < self.num_people:
            num_middle += 1
        capacity = len(FIRST) ** (num_middle + 1) * len(LAST)
        names = []
        for number in permutation(capacity, *self._key, "names")[: self.num_people].tolist():
            number, last = divmod(number, len(LAST))
            words = [LAST[last]]
            for _ in range(num_middle + 1):
                number, first = divmod(number, len(FIRST))
                words.append(FIRST[first])
            names.append(" ".join(reversed(words)))
        return names

    @staticmethod
    def _person(index: int, name: str, row: list[int]) -> Person:
        return Person(
            index=index,
            name=name,
            values=tuple(attribute.values[value] for attribute, value in zip(ATTRIBUTES, row, strict=True)),
        )

    @cached_property
    def _walks(self) -> list[list[int]]:
        """Start and step of each person's walk through the document codes, [people, 2].

        A step prime to 2, 3 and 5 is prime to every number of codes (all are products of these), so that the walk
        meets each code once before it repeats: documents differ by construction, without a list of those used.
        """
        starts = below(_NUM_DESCRIPTIONS, self.num_people, *self._key, "starts")
        units = np.array([1, 7, 11, 13, 17, 19, 23, 29])
        steps = 30 * below(_NUM_DESCRIPTIONS // 30, self.num_people, *self._key, "steps")
        steps = steps + units[below(len(units), self.num_people, *self._key, "units")]
        walks: list[list[int]] = np.stack([starts, steps], axis=1).tolist()
        return walks

    def _code(self, person: Person, slot: int, num_codes: int) -> int:
        start, step = self._walks[person.index]
        return (start + slot * step) % num_codes

    def _description(self, person: Person, slot: int) -> str:
        """Return six sentences after OPENING, each with the full name."""
        code, order = divmod(self._code(person, slot, _NUM_DESCRIPTIONS), _NUM_ORDERS)
        sentences: list[str] = []
        for attribute in arrangement(list(range(NUM_ATTRIBUTES)), NUM_ATTRIBUTES, order):
            code, template = divmod(code, _NUM_STATEMENTS)
            sentences.append(_statement(person, attribute, template))
        return " ".join([OPENING, *sentences])

    def _questions(self, person: Person, askable: list[int], slot: int) -> str:
        """Return up to three lines of question and answer about different attributes among the askable ones."""
        num_lines = min(QUESTIONS_PER_DOCUMENT, len(askable))
        num_orders = math.perm(len(askable), num_lines)
        code, order = divmod(self._code(person, slot, _num_question_documents(len(askable))), num_orders)
        lines = []
        for attribute in arrangement(askable, num_lines, order):
            code, template = divmod(code, _NUM_QUESTIONS)
            lines.append(f"{question_prompt(person, attribute, template)} {person.values[attribute]}.")
        return "\n".join(lines)


def arrangement(items: list[int], length: int, code: int) -> list[int]:
    """Return ordered selection number `code` of `length` of the items (code in [0, n! / (n - length)!))."""
    left, chosen = list(items), []
    for _ in range(length):
        code, position = divmod(code, len(left))
        chosen.append(left.pop(position))
    return chosen


def statement_prompt(person: Person, attribute: int) -> str:
    """Return OPENING and the sentence that is held out from training, up to where the value stands."""
    text = ATTRIBUTES[attribute].held_out_statement.format(who=person.name, whose=f"{person.name}'s", value="\0")
    return f"{OPENING} {text.split(chr(0))[0].rstrip()}"


def question_prompt(person: Person, attribute: int, template: int) -> str:
    """Return 'Question: ... Answer:', to be followed by a space and the value."""
    return f"Question: {ATTRIBUTES[attribute].questions[template].format(name=person.name)} Answer:"


def _statement(person: Person, attribute: int, template: int) -> str:
    text = ATTRIBUTES[attribute].statements[template]
    return text.format(who=person.name, whose=f"{person.name}'s", value=person.values[attribute])


def _num_question_documents(num_askable: int) -> int:
    """Different question documents of a person with so many questions that may be asked."""
    num_lines = min(QUESTIONS_PER_DOCUMENT, num_askable)
    return math.perm(num_askable, num_lines) * _NUM_QUESTIONS**num_lines if num_lines else 0
