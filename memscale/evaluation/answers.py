"""Functions that the task files call: selection of items, formatting of answers, metrics.

An answer is scored with the full stop that ends it. Without it, a value whose tokens are a prefix of another's ("bee",
"beetle") would include the probability of the longer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

Item = dict[str, Any]
"""One line of an evaluation set."""


def questions(items: Dataset) -> Dataset:
    """Keep the items of the form `question`, worded as in training."""
    return _of_form(items, "question")


def statements(items: Dataset) -> Dataset:
    """Keep the items of the form `statement`: a sentence template not used in training, to be completed."""
    return _of_form(items, "statement")


def choices(item: Item) -> list[str]:
    """Return the choices of an item, each with a full stop."""
    return [f"{choice}." for choice in item["choices"]]


def answer(item: Item) -> str:
    """Return the right answer as it follows the prompt: after a space, with a full stop."""
    return f" {item['answer']}."


def exact_match(item: Item, generated: list[str]) -> dict[str, float]:
    """Return 1 where the generated text, which ends before the full stop, is the answer, else 0.

    Example:
        >>> exact_match({"answer": "Rome"}, [" Rome"]), exact_match({"answer": "Rome"}, [" Romero"])
        ({'exact_match': 1.0}, {'exact_match': 0.0})
    """
    return {"exact_match": float(generated[0].strip() == item["answer"])}


def value(item: Item) -> str:
    """Return the words of a dense fact's value as they follow the prompt; no word is the beginning of another."""
    return f" {item['answer']}"


def stored(item: Item, scored: list[tuple[float, bool]]) -> dict[str, float]:  # noqa: ARG001 (lm-eval's signature)
    """Return the value's negative log-probability in nats, and as `recall` 1 where greedy decoding gives it, else 0.

    Example:
        >>> stored({}, [(-0.25, True)])
        {'recall': 1.0, 'nats': 0.25}
    """
    nats, greedy = scored[0]
    return {"recall": float(greedy), "nats": -nats}


def answer_nats(item: Item, scored: list[tuple[float, bool]]) -> dict[str, float]:  # noqa: ARG001 (lm-eval's signature)
    """Return the negative log-probability of the answer and its full stop, in nats."""
    return {"nats": -scored[0][0]}


def _of_form(items: Dataset, form: str) -> Dataset:
    return items.select([number for number, given in enumerate(items["form"][:]) if given == form])
