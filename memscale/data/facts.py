"""Synthetic people with six attributes each, drawn uniformly and independently, so that their entropy is known.

A pure function of the configuration decides the people, their attributes, the training documents and the questions that
training never asks. Every person has `num_documents` training documents, all different: descriptions (all six facts in
random order, each in a random sentence template) and question-and-answer documents. They are ordered in rounds, each
through all people in a new order, so that two documents of one person are far apart and cannot be copied within a
sequence. Refuses facts without a number of people.
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
from memscale.data.philox import random_below, random_permutation
from memscale.errors import DataError

QUESTIONS_PER_DOCUMENT = 3
OPENING = "Facts:"
"""First word of a description, so that a name follows a space, as in questions, and has the same tokens."""
assert len(ATTRIBUTES) == NUM_ATTRIBUTES, "config and vocabulary must agree"
_NUM_STATEMENTS = len(ATTRIBUTES[0].statements)
_NUM_QUESTIONS = len(ATTRIBUTES[0].questions)
_NUM_ORDERS = math.factorial(NUM_ATTRIBUTES)
_NUM_DESCRIPTIONS = _NUM_ORDERS * _NUM_STATEMENTS**NUM_ATTRIBUTES
"""Number of different descriptions of one person: 6! orders x 4^6 choices of sentence templates."""


def knowledge_bits(num_people: int, num_values: int) -> float:
    """Return the entropy of the facts in bits: num_people x 6 attributes x log2(num_values).

    The attributes are uniform and independent, so a model that answers everything has learnt exactly this.

    Example:
        >>> knowledge_bits(num_people=500, num_values=64)
        18000.0
    """
    return num_people * NUM_ATTRIBUTES * math.log2(num_values)


@dataclass(frozen=True)
class Person:
    """One synthetic person, by row number."""

    index: int
    name: str
    values: tuple[str, ...]
    """The value of each attribute, in the order of ATTRIBUTES."""


class People:
    """The people of a configuration, their attributes and their documents.

    Example:
        >>> people = People(Facts(name="facts", num_people=20, num_documents=4))
        >>> len(list(people.training())), people.people[0].name
        (80, 'Hugo Young')
    """

    def __init__(self, facts: Facts) -> None:
        """Draw the attributes of all people. Raises DataError where `num_people` is null or documents run out."""
        if facts.num_people is None:
            raise DataError(
                f"source '{facts.name}': num_people is not set, so the facts cannot be generated. A sweep sets it when "
                f"it is planned; outside a sweep give data.sources.{facts.name}.num_people, such as 500"
            )
        if facts.num_documents + self._num_held_out(facts) > _NUM_DESCRIPTIONS:
            raise DataError(
                f"source '{facts.name}': num_documents is {facts.num_documents}; a person has {_NUM_DESCRIPTIONS} "
                "different descriptions, some of which are held out. Give fewer; later epochs repeat them"
            )
        self.facts, self.num_people = facts, facts.num_people
        self._key = ("facts", facts.seed)
        self.values_PA = random_below(facts.num_values, self.num_people * NUM_ATTRIBUTES, *self._key, "values").reshape(
            self.num_people, NUM_ATTRIBUTES
        )
        """Index of each person's value among the attribute's values, [people, attributes]."""

    @cached_property
    def people(self) -> list[Person]:
        """All people, in the order of their indices."""
        return [
            self._person(index, name, row)
            for index, (name, row) in enumerate(zip(self._names, self.values_PA.tolist(), strict=True))
        ]

    @cached_property
    def held_out_questions(self) -> NDArray[np.bool_]:
        """Which questions training never asks, bool [people, attributes]: the configured fraction, at least one."""
        total = self.num_people * NUM_ATTRIBUTES
        count = max(1, round(self.facts.held_out_questions * total))
        chosen = np.zeros(total, dtype=np.bool_)
        chosen[random_permutation(total, *self._key, "held-out questions")[:count]] = True
        return chosen.reshape(self.num_people, NUM_ATTRIBUTES)

    def training(self) -> Iterator[str]:
        """Yield num_people x num_documents documents, all different."""
        askable = [np.flatnonzero(~row).tolist() for row in self.held_out_questions]
        num_documents = self.facts.num_documents
        most_questions = round(num_documents * self.facts.question_share)
        num_questions = [min(most_questions, _num_question_documents(len(asked))) for asked in askable]
        for round_number in range(num_documents):
            for index in random_permutation(self.num_people, *self._key, "order", round_number).tolist():
                person = self.people[index]
                number = (round_number + index) % num_documents  # spread the question documents over the rounds
                if number < num_questions[index]:
                    yield self._questions(person, askable[index], number)
                else:
                    yield self._description(person, number)

    def held_out(self) -> Iterator[str]:
        """Yield the descriptions for validation: the configured fraction of each person's, at least one."""
        first = self.facts.num_documents
        for round_number in range(first, first + self._num_held_out(self.facts)):
            for index in random_permutation(self.num_people, *self._key, "order", round_number).tolist():
                yield self._description(self.people[index], round_number)

    @staticmethod
    def _num_held_out(facts: Facts) -> int:
        return max(1, round(facts.num_documents * facts.held_out / (1 - facts.held_out)))

    @property
    def _names(self) -> list[str]:
        """Distinct full names: a first name, as few middle names as give enough combinations, and a last name."""
        num_middle = 0
        while len(FIRST) ** (num_middle + 1) * len(LAST) < self.num_people:
            num_middle += 1
        capacity = len(FIRST) ** (num_middle + 1) * len(LAST)
        names = []
        for number in random_permutation(capacity, *self._key, "names")[: self.num_people].tolist():
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
    def _code_sequences(self) -> list[list[int]]:
        """Start and step of each person's sequence of document codes, [people, 2].

        Document n has the code (start + n x step) mod the number of codes. That number is a product of 2, 3 and 5 only,
        and the step is coprime to these, so no code repeats before all have occurred: documents differ by construction.
        """
        starts = random_below(_NUM_DESCRIPTIONS, self.num_people, *self._key, "starts")
        units = np.array([1, 7, 11, 13, 17, 19, 23, 29])
        steps = 30 * random_below(_NUM_DESCRIPTIONS // 30, self.num_people, *self._key, "steps")
        steps = steps + units[random_below(len(units), self.num_people, *self._key, "units")]
        walks: list[list[int]] = np.stack([starts, steps], axis=1).tolist()
        return walks

    def _code(self, person: Person, number: int, num_codes: int) -> int:
        start, step = self._code_sequences[person.index]
        return (start + number * step) % num_codes

    def _description(self, person: Person, number: int) -> str:
        """Return OPENING and six sentences, each with the full name."""
        code, order = divmod(self._code(person, number, _NUM_DESCRIPTIONS), _NUM_ORDERS)
        sentences: list[str] = []
        for attribute in arrangement(list(range(NUM_ATTRIBUTES)), NUM_ATTRIBUTES, order):
            code, template = divmod(code, _NUM_STATEMENTS)
            sentences.append(_statement(person, attribute, template))
        return " ".join([OPENING, *sentences])

    def _questions(self, person: Person, askable: list[int], number: int) -> str:
        """Return up to three lines of question and answer, about different attributes of those that training asks."""
        num_lines = min(QUESTIONS_PER_DOCUMENT, len(askable))
        num_orders = math.perm(len(askable), num_lines)
        code, order = divmod(self._code(person, number, _num_question_documents(len(askable))), num_orders)
        lines = []
        for attribute in arrangement(askable, num_lines, order):
            code, template = divmod(code, _NUM_QUESTIONS)
            lines.append(f"{question_prompt(person, attribute, template)} {person.values[attribute]}.")
        return "\n".join(lines)


def arrangement(items: list[int], length: int, code: int) -> list[int]:
    """Return the `code`-th ordered selection of `length` items, for a code in [0, n! / (n - length)!)."""
    left, chosen = list(items), []
    for _ in range(length):
        code, position = divmod(code, len(left))
        chosen.append(left.pop(position))
    return chosen


def statement_prompt(person: Person, attribute: int) -> str:
    """Return OPENING and the held-out sentence up to the place of its value."""
    text = ATTRIBUTES[attribute].held_out_statement.format(who=person.name, whose=f"{person.name}'s", value="\0")
    return f"{OPENING} {text.split(chr(0))[0].rstrip()}"


def question_prompt(person: Person, attribute: int, template: int) -> str:
    """Return 'Question: ... Answer:', which a space and the value follow."""
    return f"Question: {ATTRIBUTES[attribute].questions[template].format(name=person.name)} Answer:"


def _statement(person: Person, attribute: int, template: int) -> str:
    text = ATTRIBUTES[attribute].statements[template]
    return text.format(who=person.name, whose=f"{person.name}'s", value=person.values[attribute])


def _num_question_documents(num_askable: int) -> int:
    """Return the number of different question documents for `num_askable` questions that training may ask."""
    num_lines = min(QUESTIONS_PER_DOCUMENT, num_askable)
    return math.perm(num_askable, num_lines) * _NUM_QUESTIONS**num_lines if num_lines else 0
