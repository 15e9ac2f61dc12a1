from __future__ import annotations

import subprocess
import sys

import pytest

from memscale.config.data import DenseFacts, Facts, PythonStdlib, TextFiles
from memscale.errors import ConfigError
from memscale.evaluation.catalogue import choose, offered

SOURCES = (Facts(name="facts"), DenseFacts(name="dense"), PythonStdlib(name="code"), TextFiles(name="books"))
ALL = [
    "facts_recall",
    "facts_nll",
    "facts_recall_statement",
    "facts_recall_shuffled",
    "dense_facts",
    "bits_per_byte_code",
    "bits_per_byte_books",
]


def test_each_source_offers_its_tasks() -> None:
    assert [task.name for task in offered(SOURCES)] == ALL
    assert [task.name for task in offered(SOURCES[2:3])] == ["bits_per_byte_code"]


def test_by_default_neither_control_nor_variant() -> None:
    names = [task.name for task in choose(offered(SOURCES), None)]
    assert names == ["facts_recall", "facts_nll", "dense_facts", "bits_per_byte_code", "bits_per_byte_books"]


def test_named_tasks_and_none_at_all() -> None:
    named = choose(offered(SOURCES), ("bits_per_byte_code", "facts_recall_shuffled"))
    assert [task.name for task in named] == ["facts_recall_shuffled", "bits_per_byte_code"]
    assert choose(offered(SOURCES), ()) == ()


def test_an_unknown_task_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(offered(SOURCES), ("facts_recal",))
    assert "'facts_recal'" in str(caught.value)
    assert all(name in str(caught.value) for name in ALL)
    assert "Did you mean 'facts_recall'?" in str(caught.value)


def test_parts_have_names_of_their_own() -> None:
    names = [part.name for task in offered(SOURCES) for part in task.parts]
    assert len(names) == len(set(names))


def test_a_plan_can_ask_without_torch() -> None:
    code = "import sys, memscale.evaluation.catalogue; print({'torch', 'lm_eval', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
