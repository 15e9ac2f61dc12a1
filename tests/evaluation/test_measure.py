"""Whole evaluations: every reported number is counted again from the evaluation files and single forward passes."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import Causal
from torch import Tensor, nn

from memscale.config.data import Data, DenseFacts, Facts, TextFiles, TokenizerConfig
from memscale.data.prepared import Prepared, prepare
from memscale.errors import ConfigError, DataError
from memscale.evaluation.catalogue import LmEvalTask
from memscale.evaluation.loading import TASKS, load
from memscale.evaluation.measure import evaluate, evaluate_with_answers
from memscale.evaluation.scores import Score

LENGTH = 48
NUM_CHOICES = 8


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Facts with 100 questions and a few texts of the user's, some shorter, some longer than a sequence."""
    root = tmp_path_factory.mktemp("prepared")
    for number in range(12):
        words = " ".join(f"word{(number * 7 + place) % 23}" for place in range(6 + 11 * number))
        (root / f"{number}.txt").write_text(f"Text {number}: {words} \u00e9.\n", encoding="utf-8")
    data = Data(
        name="small",
        sources=(
            Facts(name="facts", num_people=60, num_documents=4, num_eval_questions=100, num_choices=NUM_CHOICES),
            TextFiles(name="texts", files=(str(root / "*.txt"),), held_out=0.4),
        ),
        tokenizer=TokenizerConfig(vocab_size=400, train_bytes=20_000),
    )
    return prepare(data, root)


@pytest.fixture(scope="session")
def causal(prepared: Prepared) -> Causal:
    return Causal(seed=3, vocab_size=prepared.vocab_size).eval()


@pytest.fixture(scope="session")
def scores(prepared: Prepared, causal: Causal) -> dict[str, dict[str, Score]]:
    return measured(causal, prepared, None) | measured(causal, prepared, ("facts_recall_statement",))


def measured(model: nn.Module, prepared: Prepared, tasks: tuple[str, ...] | None) -> dict[str, dict[str, Score]]:
    return evaluate(model, prepared, tasks, sequence_length=LENGTH, batch_sequences=8, device="cpu")


def lines(prepared: Prepared, name: str) -> list[dict[str, Any]]:
    with open(prepared.folder / "evaluation" / f"{name}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def nats(model: nn.Module, tokens: list[int], num_last: int) -> float:
    """Log-probability of the last `num_last` tokens after those before them."""
    nats_SV = torch.log_softmax(model(torch.tensor([tokens[:-1]])).logits_BSV[0].double(), -1)
    return sum(nats_SV[place - 1, tokens[place]].item() for place in range(len(tokens) - num_last, len(tokens)))


def answer_nats(model: nn.Module, prepared: Prepared, prompt: str, answer: str) -> float:
    tokenizer = prepared.tokenizer()
    answer_tokens = tokenizer.encode(f" {answer}.")
    return nats(model, [tokenizer.end_id, *tokenizer.encode(prompt), *answer_tokens], len(answer_tokens))


def mean_and_stderr(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def same(score: Score, values: list[float]) -> bool:
    value, stderr = mean_and_stderr(values)
    assert score.stderr is not None
    return math.isclose(score.value, value, abs_tol=1e-4) and math.isclose(score.stderr, stderr, abs_tol=1e-4)


def test_every_task_has_its_metrics(scores: dict[str, dict[str, Score]]) -> None:
    assert {task: set(metrics) for task, metrics in scores.items()} == {
        "facts_recall": {"acc", "exact_match"},
        "facts_recall_statement": {"acc"},
        "facts_nll": {"nats"},
        "bits_per_byte_texts": {"bits_per_byte"},
    }


@pytest.mark.parametrize(("task", "form"), [("facts_recall", "question"), ("facts_recall_statement", "statement")])
def test_accuracy_recounted(
    task: str, form: str, prepared: Prepared, causal: Causal, scores: dict[str, dict[str, Score]]
) -> None:
    items = [item for item in lines(prepared, "facts_recall") if item["form"] == form]
    right = []
    with torch.no_grad():
        for item in items:
            choices = [answer_nats(causal, prepared, item["question"], choice) for choice in item["choices"]]
            right.append(float(np.argmax(choices) == item["choices"].index(item["answer"])))
    assert scores[task]["acc"].num_samples == len(items) == 100
    assert same(scores[task]["acc"], right)


def test_nats_of_the_answer_recounted(prepared: Prepared, causal: Causal, scores: dict[str, dict[str, Score]]) -> None:
    with torch.no_grad():
        surprise = [
            -answer_nats(causal, prepared, item["prompt"], item["answer"]) for item in lines(prepared, "facts_nll")
        ]
    assert same(scores["facts_nll"]["nats"], surprise)


def test_bits_per_byte_recounted(prepared: Prepared, causal: Causal, scores: dict[str, dict[str, Score]]) -> None:
    tokenizer, texts = prepared.tokenizer(), [line["text"] for line in lines(prepared, "held_out_texts")]
    totals = []
    with torch.no_grad():
        for text in texts:
            tokens = [tokenizer.end_id, *tokenizer.encode(text)]
            total, done = 0.0, 1
            while done < len(tokens):
                stop = min(len(tokens), done + LENGTH)
                total += nats(causal, tokens[max(0, stop - LENGTH - 1) : stop], stop - done)
                done = stop
            totals.append(-total / math.log(2))
    num_bytes = [len(text.encode()) for text in texts]
    assert max(num_bytes) > 4 * LENGTH  # some text needs several windows
    score = scores["bits_per_byte_texts"]["bits_per_byte"]
    assert score.value == pytest.approx(sum(totals) / sum(num_bytes), abs=1e-4)
    assert score.num_samples == len(texts)
    residuals = np.array(totals) - score.value * np.array(num_bytes)
    variance = len(texts) / (len(texts) - 1) * float(residuals @ residuals) / sum(num_bytes) ** 2
    assert score.stderr == pytest.approx(math.sqrt(variance), rel=1e-3)


class Knowing(nn.Module):
    """A model that has learnt answers by heart: after a prompt it spells the answer, and knows nothing else."""

    def __init__(self, prepared: Prepared, answers: dict[str, str]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.vocab_size, tokenizer = prepared.vocab_size, prepared.tokenizer()
        self.following: dict[tuple[int, ...], int] = {}
        for prompt, answer in answers.items():
            tokens = [tokenizer.end_id, *tokenizer.encode(prompt)]
            for token in tokenizer.encode(f" {answer}."):
                self.following[tuple(tokens)] = token
                tokens.append(token)

    def forward(self, tokens_BS: Tensor) -> SimpleNamespace:
        logits_BSV = torch.zeros(*tokens_BS.shape, self.vocab_size)
        for number, row in enumerate(tokens_BS.tolist()):
            for place in range(len(row)):
                token = self.following.get(tuple(row[: place + 1]))
                if token is not None:
                    logits_BSV[number, place, token] = 30.0
        return SimpleNamespace(logits_BSV=logits_BSV)


def test_a_model_that_knows_scores_full_and_the_control_at_chance(prepared: Prepared) -> None:
    answers = {item["question"]: item["answer"] for item in lines(prepared, "facts_recall")}
    tasks = ("facts_recall", "facts_recall_statement", "facts_nll", "facts_recall_shuffled")
    scores = measured(Knowing(prepared, answers), prepared, tasks)
    for task in tasks[:2]:
        assert scores[task]["acc"].value == 1.0
    assert scores["facts_recall"]["exact_match"].value == 1.0
    assert scores["facts_nll"]["nats"].value < 1e-6
    at_chance(scores["facts_recall_shuffled"]["acc"])


def test_a_model_that_knows_nothing_scores_at_chance(prepared: Prepared, causal: Causal) -> None:
    scores = measured(causal, prepared, ("facts_recall", "facts_recall_shuffled"))
    at_chance(scores["facts_recall"]["acc"])
    at_chance(scores["facts_recall_shuffled"]["acc"])
    assert scores["facts_recall"]["exact_match"].value <= 0.02


def at_chance(score: Score) -> None:
    chance = 1 / NUM_CHOICES
    assert abs(score.value - chance) <= 3 * math.sqrt(chance * (1 - chance) / score.num_samples)


def test_wrong_answers_are_no_exact_match(prepared: Prepared) -> None:
    """Half of the answers are learnt with a letter too many."""
    items = [item for item in lines(prepared, "facts_recall") if item["form"] == "question"]
    answers = {item["question"]: item["answer"] + ("s" if n % 2 else "") for n, item in enumerate(items)}
    scores = measured(Knowing(prepared, answers), prepared, ("facts_recall",))
    assert scores["facts_recall"]["exact_match"].value == 0.5


def test_dense_facts_recounted_and_answered_one_by_one(tmp_path: Path) -> None:
    """A model that knows half of the facts: nats and recall of each by single forward passes, and their means."""
    source = DenseFacts(name="dense", num_facts=80, num_eval_facts=50)
    data = prepare(Data(name="d", sources=(source,), tokenizer=TokenizerConfig(vocab_size=780)), tmp_path)
    asked = lines(data, "dense_facts")
    assert len(asked) == 50
    tokenizer = data.tokenizer()
    model = Knowing(data, {})
    for item in asked[::2]:
        tokens = [tokenizer.end_id, *tokenizer.encode(item["prompt"])]
        for token in tokenizer.encode(f" {item['answer']}"):
            model.following[tuple(tokens)] = token
            tokens.append(token)
    scores, answers = evaluate_with_answers(model, data, None, sequence_length=LENGTH, batch_sequences=8, device="cpu")
    expected = []
    for item in asked:
        prompt, answer = tokenizer.encode(item["prompt"]), tokenizer.encode(f" {item['answer']}")
        expected.append(-nats(model, [tokenizer.end_id, *prompt, *answer], len(answer)))
    assert [answer.fact for answer in answers] == [item["fact"] for item in asked]
    assert [answer.nats for answer in answers] == pytest.approx(expected, abs=1e-4)
    assert [answer.right for answer in answers] == [number % 2 == 0 for number in range(50)]
    assert same(scores["dense_facts"]["nats"], expected)
    assert scores["dense_facts"]["recall"].value == 0.5
    assert expected[1] == pytest.approx(4 * math.log(780), abs=1e-4)  # who knows nothing has no bit of it


def test_the_model_comes_back_in_its_mode(prepared: Prepared) -> None:
    model = Causal(vocab_size=prepared.vocab_size)
    assert model.training
    measured(model, prepared, ("bits_per_byte_texts",))
    assert model.training


def test_no_tasks_no_scores(prepared: Prepared, causal: Causal) -> None:
    assert measured(causal, prepared, ()) == {}


def test_an_unknown_task_is_refused(prepared: Prepared, causal: Causal) -> None:
    with pytest.raises(ConfigError, match=r"'facts_recal'.*valid: facts_recall.*Did you mean 'facts_recall'"):
        measured(causal, prepared, ("facts_recal",))


def test_a_missing_evaluation_set_is_refused(prepared: Prepared, causal: Causal, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prepared.folder, copy)
    damaged = Prepared.open(copy)
    (copy / "evaluation" / "facts_nll.jsonl").unlink()
    with pytest.raises(DataError, match=r"facts_nll\.jsonl.*is missing or empty"):
        measured(causal, damaged, ("facts_nll",))


def test_a_folder_of_any_name_holds_the_same_sets(
    prepared: Prepared, causal: Causal, scores: dict[str, dict[str, Score]], tmp_path: Path
) -> None:
    odd = tmp_path / "it's [1]::a of 100 % é # *"
    shutil.copytree(prepared.folder, odd)
    found = measured(causal, Prepared.open(odd), ("facts_nll",))
    assert found["facts_nll"]["nats"] == scores["facts_nll"]["nats"]


def test_a_malformed_task_file_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    templates, scratch = tmp_path / "tasks", tmp_path / "scratch"
    shutil.copytree(TASKS, templates)
    scratch.mkdir()
    (templates / "facts_nll.yaml").write_text("task: [facts_nll\n", encoding="utf-8")
    parts = [
        LmEvalTask(name="facts_nll", template="facts_nll", evaluation_set="facts_nll"),
        LmEvalTask(name="facts_recall", template="facts_recall", evaluation_set="facts_recall"),
    ]
    with pytest.raises(DataError, match=r"cannot read the task file of facts_nll .*readable by name: facts_recall"):
        load(prepared, parts, scratch, templates=templates)


def test_one_sample_has_no_standard_error(tmp_path: Path) -> None:
    facts = Facts(name="facts", num_people=10, num_documents=2, num_eval_questions=1)
    alone = prepare(Data(name="one", sources=(facts,), tokenizer=TokenizerConfig(vocab_size=300)), tmp_path)
    scores = measured(Causal(vocab_size=300), alone, ("facts_recall", "facts_nll"))
    assert scores["facts_recall"]["acc"].stderr is None
    assert scores["facts_nll"]["nats"].stderr is None
    assert scores["facts_nll"]["nats"].num_samples == 1


def test_nothing_is_fetched_and_nothing_written_at_home(prepared: Prepared, tmp_path: Path) -> None:
    code = """
        import socket, sys
        def refuse(*arguments, **names):
            raise AssertionError(f"reached for the network: {arguments}")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
        from pathlib import Path
        from memscale.data.prepared import Prepared
        from memscale.evaluation.measure import evaluate, evaluate_with_answers
        from fakes import Causal
        prepared = Prepared.open(Path(sys.argv[1]))
        model = Causal(vocab_size=prepared.vocab_size)
        scores = evaluate(
            model, prepared, ("facts_nll", "bits_per_byte_texts"), sequence_length=48, batch_sequences=8, device="cpu"
        )
        print(sorted(scores))
    """
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "TRANSFORMERS_"))}
    before = sorted(prepared.folder.parent.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(prepared.folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=kept | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": f".:{Path(__file__).parent}"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['bits_per_byte_texts', 'facts_nll']"
    assert done.stderr == ""
    assert list(home.rglob("*")) == []
    assert list(temporary.rglob("*")) == []
    assert sorted(prepared.folder.parent.rglob("*")) == before
