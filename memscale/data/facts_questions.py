"""The closed-book questions about the facts: multiple choice, a shuffled control, and prompts with answers.

They ask only the held-out questions, in two forms: `question`, worded as in training, and `statement`, a sentence
template that training never uses. An answer follows its prompt after one space.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from memscale.config.data import NUM_ATTRIBUTES
from memscale.data.facts import People, question_prompt, statement_prompt
from memscale.data.facts_words import ATTRIBUTES
from memscale.data.philox import random_below, random_permutation

FORMS = ("question", "statement")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One multiple-choice question: a line of the JSONL file."""

    form: str
    attribute: str
    question: str
    """The prompt, without a trailing space."""
    choices: tuple[str, ...]
    """Different values of the attribute; the true one has the index `gold`."""
    gold: int
    answer: str


def facts_recall(people: People) -> Iterator[Item]:
    """Yield the questions, first all in the form `question`, then the same ones as `statement`."""
    chosen = _chosen(people)
    for form in FORMS:
        for pair in chosen:
            yield _item(people, pair, form)


def facts_recall_control(people: People) -> Iterator[Item]:
    """Yield the `question` items with a uniformly random `gold`, on which every model must score at chance.

    `answer` is the choice at that index.
    """
    for pair in _chosen(people):
        item = _item(people, pair, "question")
        gold = int(random_below(len(item.choices), 1, "facts", people.facts.seed, "control", pair)[0])
        yield replace(item, gold=gold, answer=item.choices[gold])


def facts_nll(people: People) -> Iterator[dict[str, str]]:
    """Yield prompts and answers of the same questions, in the form `question`."""
    for item in (_item(people, pair, "question") for pair in _chosen(people)):
        yield {"attribute": item.attribute, "prompt": item.question, "answer": item.answer}


def evaluation_sets(people: People) -> dict[str, list[dict[str, object]]]:
    """Return the lines of every evaluation set, by name."""
    return {
        "facts_recall": [asdict(item) for item in facts_recall(people)],
        "facts_recall_control": [asdict(item) for item in facts_recall_control(people)],
        "facts_nll": [dict(line) for line in facts_nll(people)],
    }


def _chosen(people: People) -> list[int]:
    """Return the held-out pairs to ask, each as person x 6 + attribute, in a seeded order."""
    pairs = np.flatnonzero(people.held_out_questions.ravel())
    order = random_permutation(len(pairs), "facts", people.facts.seed, "evaluation")
    chosen: list[int] = pairs[order[: people.facts.num_eval_questions]].tolist()
    return chosen


def _item(people: People, pair: int, form: str) -> Item:
    """Build one item; its random numbers depend on the pair alone, so both forms have the same choices."""
    index, attribute = divmod(pair, NUM_ATTRIBUTES)
    person, facts = people.people[index], people.facts
    key = ("facts", facts.seed, "item", pair)
    true = int(people.values_PA[index, attribute])
    order = random_permutation(facts.num_values, *key, "distractors").tolist()
    offered = [value for value in order if value != true][: facts.num_choices - 1]
    gold = int(random_below(facts.num_choices, 1, *key, "gold")[0])
    offered.insert(gold, true)
    what = ATTRIBUTES[attribute]
    template = int(random_below(len(what.questions), 1, *key, "template")[0])
    asked = statement_prompt(person, attribute) if form == "statement" else question_prompt(person, attribute, template)
    return Item(
        form=form,
        attribute=what.name,
        question=asked,
        choices=tuple(what.values[value] for value in offered),
        gold=gold,
        answer=what.values[true],
    )
