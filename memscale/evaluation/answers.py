"""What the task files ask of Python: which items a task takes, how an answer is put, and what it scores.

An answer is scored with the full stop that ends it. Without it a value whose tokens begin another's ("bee", "beetle")
would hold the longer one's probability too, and win the choice by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

Item = dict[str, Any]
"""One line of an evaluation set."""


def questions(items: Dataset) -> Dataset:
    """Keep the items that ask in words known from training."""
    return _of_form(items, "question")


def statements(items: Dataset) -> Dataset:
    """Keep the items that put the question as a sentence never seen in training, to be completed."""
    return _of_form(items, "statement")


def choices(item: Item) -> list[str]:
    return [f"{choice}." for choice in item["choices"]]


def answer(item: Item) -> str:
    return f" {item['answer']}."


def exact_match(item: Item, generated: list[str]) -> dict[str, float]:
    """1 where the text generated up to the full stop is the answer, else 0."""
    return {"exact_match": float(generated[0].strip() == item["answer"])}


def answer_nats(item: Item, scored: list[tuple[float, bool]]) -> dict[str, float]:  # noqa: ARG001 (lm-eval's signature)
    """Negative log-probability of the answer and its full stop, natural logarithm."""
    return {"nats": -scored[0][0]}


def _of_form(items: Dataset, form: str) -> Dataset:
    return items.select([number for number, given in enumerate(items["form"][:]) if given == form])
