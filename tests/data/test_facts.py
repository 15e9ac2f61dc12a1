"""The facts: recounted from the documents alone, as a reader would."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
from data_fixtures import CHILD, facts
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.config.data import Facts
from memscale.data.facts import OPENING, People, arrangement, knowledge_bits
from memscale.data.facts_questions import facts_nll, facts_recall, facts_recall_control
from memscale.data.facts_words import ATTRIBUTES, FIRST, LAST
from memscale.errors import ConfigError, DataError

ATTRIBUTE_OF = {value: attribute.name for attribute in ATTRIBUTES for value in attribute.values}
SENTENCE = re.compile(r"[A-Z][^.]*\.")


def pattern(template: str) -> re.Pattern[str]:
    """A template as a reader sees it: a name, then the words, then the value."""
    text = re.escape(template).replace(r"\{who\}", r"(?P<who>[A-Z][a-z]+(?: [A-Z][a-z]+)*)")
    text = text.replace(r"\{whose\}", r"(?P<who>[A-Z][a-z]+(?: [A-Z][a-z]+)*)'s")
    return re.compile(text.replace(r"\{value\}", r"(?P<value>\w+)").replace(r"\{name\}", "(?P<who>[A-Z][a-z A-Z]+?)"))


def read_description(document: str) -> tuple[str, dict[str, str]]:
    """Who a description is about, and value by attribute, found by its words."""
    assert document.startswith(OPENING + " ")
    name, told = "", {}
    for sentence in SENTENCE.findall(document.removeprefix(OPENING)):
        found = [
            (attribute.name, match)
            for attribute in ATTRIBUTES
            for template in attribute.statements
            if (match := pattern(template).fullmatch(sentence))
        ]
        # 'X is a baker' and the like: exactly one attribute claims the sentence with a value of its own.
        ((attribute, match),) = [(a, m) for a, m in found if ATTRIBUTE_OF.get(m["value"]) == a]
        name = name or match["who"]
        assert match["who"] == name
        assert attribute not in told
        told[attribute] = match["value"]
    return name, told


def read_questions(document: str) -> list[tuple[str, str, str]]:
    """(name, attribute, value) of each line."""
    lines = []
    for line in document.split("\n"):
        match = re.fullmatch(r"Question: (?P<question>[^?]*\?) Answer: (?P<value>\w+)\.", line)
        assert match, line
        attribute = next(a for a in ATTRIBUTES if a.name == ATTRIBUTE_OF[match["value"]])
        (asked,) = [m for t in attribute.questions if (m := pattern(t).fullmatch(match["question"]))]
        lines.append((asked["who"], attribute.name, match["value"]))
    return lines


def test_words_are_distinct_and_fit_their_sentences() -> None:
    assert len(ATTRIBUTE_OF) == sum(len(attribute.values) for attribute in ATTRIBUTES) == 6 * 64
    assert len(set(FIRST)) == len(FIRST) == 64
    assert len(set(LAST)) == 64
    for attribute in ATTRIBUTES:
        assert len({*attribute.statements, attribute.held_out_statement}) == 5
        assert all(t.endswith(" {value}.") for t in (*attribute.statements, attribute.held_out_statement))
        assert len(set(attribute.questions)) == len(ATTRIBUTES[0].questions)
        assert all(re.fullmatch(r"[A-Za-z]+", value) for value in attribute.values)
        if any(" a {value}" in template for template in attribute.statements):
            assert not any(value[0] in "aeiou" for value in attribute.values)


def test_every_description_tells_the_six_facts_and_nothing_else() -> None:
    people = People(facts())
    truth = {p.name: dict(zip((a.name for a in ATTRIBUTES), p.values, strict=True)) for p in people.people}
    descriptions = [d for d in (*people.training(), *people.held_out()) if not d.startswith("Question:")]
    first_told = Counter()
    for document in descriptions:
        name, told = read_description(document)
        assert told == truth[name]
        first_told[next(iter(told))] += 1
    assert len(first_told) == 6  # any attribute may stand beside the name


def test_documents_are_as_many_as_configured_and_all_different() -> None:
    people = People(facts(num_people=60, num_documents=20, question_share=0.3, held_out_questions=0.5))
    training = list(people.training())
    held_out = list(people.held_out())
    assert len(training) == 60 * 20
    assert len({*training, *held_out}) == len(training) + len(held_out)
    per_person: dict[str, Counter[str]] = defaultdict(Counter)
    for document in training:
        asked = document.startswith("Question:")
        name = read_questions(document)[0][0] if asked else read_description(document)[0]
        per_person[name]["question" if asked else "description"] += 1
    assert all(counts.total() == 20 for counts in per_person.values())
    # Most have the configured share; who may be asked little has as many as differ.
    assert Counter(counts["question"] for counts in per_person.values()).most_common(1)[0][0] == 6
    assert len(held_out) == 60  # 5 % of 20 + 5 %


def test_one_person_seldom_follows_herself_and_every_round_has_an_order_of_its_own() -> None:
    people = People(facts(num_people=100, num_documents=6))
    order = [next(p.index for p in people.people if p.name in document) for document in people.training()]
    rounds = [tuple(order[start : start + 100]) for start in range(0, 600, 100)]
    assert len(set(rounds)) == 6
    assert all(sorted(one) == list(range(100)) for one in rounds)
    gaps = np.array(
        [second.index(i) + 100 - first.index(i) for first, second in itertools.pairwise(rounds) for i in first]
    )
    assert np.mean(gaps < 10) < 0.02


def test_held_out_questions_and_sentences_never_stand_in_training() -> None:
    config = facts(num_people=80, num_documents=15, question_share=0.5, held_out_questions=0.4)
    people = People(config)
    training = list(people.training())
    asked = {
        (name, attribute) for d in training if d.startswith("Question:") for name, attribute, _ in read_questions(d)
    }
    put = set()
    for item in facts_recall(people):
        (name,) = [person.name for person in people.people if person.name in item.question]
        put.add((name, item.attribute))
        assert not any(item.question in document for document in training)
    assert put
    assert not asked & put
    # Nor in any of the questions that could have been put: recounted from the mask.
    kept = {
        (person.name, ATTRIBUTES[a].name)
        for person, a in itertools.product(people.people, range(6))
        if people.held_out_questions[person.index, a]
    }
    assert len(kept) == round(0.4 * 80 * 6)
    assert put <= kept
    assert not asked & kept
    # With half of 15 documents of three questions each, all others are asked.
    assert len(asked) + len(kept) == 80 * 6
    for attribute in ATTRIBUTES:
        held_out = pattern(attribute.held_out_statement)
        assert not any(held_out.search(document) for document in training)


def test_knowledge_is_the_number_of_equally_likely_worlds() -> None:
    # Counted: over many seeds, each of the num_values^(6 x people) worlds must come up equally often.
    worlds = Counter(
        tuple(People(facts(num_people=10, num_values=2, num_choices=2, seed=seed)).values_PA[0].tolist())
        for seed in range(3_200)
    )
    assert len(worlds) == 64 == 2 ** knowledge_bits(1, 2)
    expected = 3_200 / 64
    chi_square = sum((count - expected) ** 2 / expected for count in worlds.values())
    assert chi_square < 110  # 63 degrees of freedom: p about 2e-4
    assert knowledge_bits(500, 64) == 500 * 36


def test_values_are_independent_of_names_and_of_each_other() -> None:
    values_PA = People(facts(num_people=6_000, num_values=4, num_choices=2)).values_PA
    for first, second in itertools.combinations(range(6), 2):
        table, _, _ = np.histogram2d(values_PA[:, first], values_PA[:, second], bins=4)
        assert ((table - 375) ** 2 / 375).sum() < 40  # 15 degrees of freedom: p about 5e-4


@pytest.mark.parametrize("num_people", [10, 4096, 4097, 20_000])
def test_names_are_distinct_at_any_size(num_people: int) -> None:
    people = People(facts(num_people=num_people)).people
    assert len({person.name for person in people}) == num_people
    words = Counter(len(person.name.split()) for person in people)
    assert words == {2 if num_people <= 4096 else 3: num_people}


@settings(deadline=None, max_examples=30)
@given(length=st.integers(1, 3), size=st.integers(3, 6))
def test_arrangements_are_all_ordered_selections(length: int, size: int) -> None:
    items = list(range(size))
    all_codes = [tuple(arrangement(items, length, code)) for code in range(math.perm(size, length))]
    assert sorted(all_codes) == sorted(itertools.permutations(items, length))


def test_choices_are_other_values_and_gold_is_true() -> None:
    people = People(facts(num_people=300, num_eval_questions=500))
    truth = {person.name: person.values for person in people.people}
    items = list(facts_recall(people))
    assert [item.form for item in items] == ["question"] * 500 + ["statement"] * 500
    for item in items:
        (name,) = [name for name in truth if name in item.question]
        values = {attribute.name: value for attribute, value in zip(ATTRIBUTES, truth[name], strict=True)}
        assert item.choices[item.gold] == item.answer == values[item.attribute]
        assert len(set(item.choices)) == 8
        assert {ATTRIBUTE_OF[choice] for choice in item.choices} == {item.attribute}
    golds = Counter(item.gold for item in items[:500])
    assert all(30 < golds[place] < 100 for place in range(8))  # 62.5 expected
    both = zip(items[:500], items[500:], strict=True)
    assert all((q.choices, q.answer) == (s.choices, s.answer) for q, s in both)
    pairs = [(line["prompt"], line["answer"]) for line in facts_nll(people)]
    assert pairs == [(item.question, item.answer) for item in items[:500]]


def test_the_control_is_at_chance_even_for_who_knows_everything() -> None:
    people = People(facts(num_people=400, num_eval_questions=960))
    real = list(facts_recall(people))[:960]
    control = list(facts_recall_control(people))
    assert [item.question for item in control] == [item.question for item in real]
    right = sum(c.gold == r.gold for c, r in zip(control, real, strict=True))
    assert abs(right - 120) < 4 * math.sqrt(960 * 1 / 8 * 7 / 8)
    assert all(item.choices[item.gold] == item.answer for item in control)


def test_extremes() -> None:
    # Every question held out: only descriptions are left. Two values, few choices.
    people = People(facts(held_out_questions=1.0, question_share=0.9, num_values=2, num_choices=2))
    assert not any(document.startswith("Question:") for document in people.training())
    assert len(list(facts_recall(people))) == 2 * 240
    with pytest.raises(DataError, match=r"num_people is not set.*num_people, such as"):
        People(Facts(name="facts"))
    with pytest.raises(ConfigError, match="num_documents is 3000000; it must be at most 1,000,000"):
        facts(num_documents=3_000_000)


def test_seeds_make_other_worlds_and_one_seed_the_same_one() -> None:
    first, again, other = (list(People(facts(seed=seed)).training()) for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


def test_the_planner_may_import_it() -> None:
    code = "import sys; from memscale.data import facts; print({'torch', 'datasets', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=CHILD)
    assert done.stdout.strip() == "set()"
