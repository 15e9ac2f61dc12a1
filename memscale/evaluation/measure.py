"""Evaluates a trained model on the tasks of its data with lm-eval's evaluator.

Standard errors are closed forms; nothing is resampled. Refuses task names that the data do not offer and missing
evaluation sets.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memscale.data.prepared import Prepared
from memscale.errors import DataError
from memscale.evaluation.catalogue import LmEvalTask, choose, offered
from memscale.evaluation.environment import go_offline
from memscale.evaluation.scores import Answer, Score, number_or_none, ratio_stderr


def evaluate(
    model: nn.Module,
    prepared: Prepared,
    tasks: Sequence[str] | None,
    *,
    sequence_length: int,
    batch_sequences: int,
    device: torch.device | str,
) -> dict[str, dict[str, Score]]:
    """Evaluate a model.

    Args:
        model: A causal language model; it is moved to `device`, and its training mode is restored at the end.
        prepared: The data that the model was trained on.
        tasks: Names of tasks (`memscale.evaluation.catalogue.offered`); None: those that run by default.
        sequence_length: Largest number of tokens that the model reads at once.
        batch_sequences: A batch has at most `batch_sequences` x `sequence_length` tokens. Scores depend on it only by
            rounding.
        device: Where to evaluate.

    Returns:
        The scores by task and metric.

    Raises:
        ConfigError: A task is unknown.
        DataError: An evaluation set is missing or unreadable.

    Example:
        >>> from memscale.config.architecture import Architecture
        >>> from memscale.config.data import Data, Facts, TokenizerConfig
        >>> from memscale.data.prepared import prepare
        >>> from memscale.models.transformer import Transformer
        >>> facts = Facts(name="facts", num_people=20, num_documents=4, num_eval_questions=10)
        >>> tokenizer = TokenizerConfig(vocab_size=300, train_bytes=10_000)
        >>> data = prepare(Data(name="example", sources=(facts,), tokenizer=tokenizer), Path("runs"))
        >>> model = Transformer(Architecture(family="dense", d_model=32, num_layers=1, num_heads=2, num_kv_heads=2,
        ...                                  head_width=16, ffn_hidden=64, vocab_size=300))
        >>> scores = evaluate(model, data, ["facts_nll"], sequence_length=128, batch_sequences=8, device="cpu")
        >>> score = scores["facts_nll"]["nats"]
        >>> score.num_samples, score.value > 1  # an untrained model: up to ln 300 nats per token of an answer
        (10, True)
    """
    return evaluate_with_answers(
        model,
        prepared,
        tasks,
        sequence_length=sequence_length,
        batch_sequences=batch_sequences,
        device=device,
    )[0]


def evaluate_with_answers(
    model: nn.Module,
    prepared: Prepared,
    tasks: Sequence[str] | None,
    *,
    sequence_length: int,
    batch_sequences: int,
    device: torch.device | str,
) -> tuple[dict[str, dict[str, Score]], list[Answer]]:
    """Evaluate a model as `evaluate` does; return also what it answered about each dense fact, by increasing fact."""
    chosen = choose(offered(prepared.manifest.sources), tasks)
    parts = [part for task in chosen for part in task.parts]
    if not parts:
        return {}, []
    go_offline(prepared.folder.parent / "huggingface")
    results = _run(
        model.to(device),
        prepared,
        parts,
        sequence_length=sequence_length,
        batch_tokens=sequence_length * batch_sequences,
    )
    scores = {
        task.name: {name: score for part in task.parts for name, score in _scores(results, part).items()}
        for task in chosen
    }
    return scores, [answer for part in parts if part.template == "dense_facts" for answer in _answers(results, part)]


def _run(
    model: nn.Module, prepared: Prepared, parts: Sequence[LmEvalTask], *, sequence_length: int, batch_tokens: int
) -> dict[str, Any]:
    """Return the results of lm-eval's evaluator, with samples."""
    # Not at the top: lm-eval and `datasets` read the environment at import.
    from lm_eval.evaluator import evaluate as lm_evaluate

    from memscale.evaluation.adapter import LanguageModel
    from memscale.evaluation.loading import load

    adapter = LanguageModel(model, prepared.tokenizer(), sequence_length=sequence_length, batch_tokens=batch_tokens)
    was_training = model.training
    model.eval()
    try:
        with tempfile.TemporaryDirectory(prefix="memscale-evaluation-") as scratch:
            # lm-eval omits even closed-form standard errors where bootstrap_iters is 0; none of our metrics is
            # bootstrapped.
            results = lm_evaluate(adapter, load(prepared, parts, Path(scratch)), bootstrap_iters=1, log_samples=True)
    finally:
        model.train(was_training)
    if results is None:
        raise DataError("lm-eval returned no results; evaluate on one process only (LOCAL_RANK must be 0 or unset)")
    return dict(results)


def _answers(results: dict[str, Any], part: LmEvalTask) -> list[Answer]:
    samples = sorted(results["samples"][part.name], key=lambda sample: sample["doc"]["fact"])
    return [
        Answer(fact=sample["doc"]["fact"], nats=float(sample["nats"]), right=bool(sample["recall"]))
        for sample in samples
    ]


def _scores(results: dict[str, Any], part: LmEvalTask) -> dict[str, Score]:
    """Return the scores of one lm-eval task, whose keys are like 'acc,none' and 'acc_stderr,none'."""
    reported, samples = results["results"][part.name], results["samples"][part.name]
    scores = {}
    for key, value in reported.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        stderr = number_or_none(reported.get(f"{metric}_stderr,{filtered}"))
        values = [sample[metric] for sample in samples]
        if isinstance(values[0], tuple):  # (nats, bytes) of a document: lm-eval has no standard error for it
            nats = ratio_stderr(*zip(*values, strict=True))
            stderr = None if nats is None else nats / math.log(2)
        scores[metric] = Score(value=float(value), stderr=stderr, num_samples=len(values))
    return scores
