"""A trained model, put to the tasks its data offer, through lm-eval's evaluator.

Decides what is run and how lm-eval's results become scores. The closed forms of standard errors only: nothing is
resampled. Refuses task names the data do not offer and evaluation sets that are missing.
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
from memscale.evaluation.scores import Score, number_or_none, ratio_stderr


def evaluate(
    model: nn.Module,
    prepared: Prepared,
    tasks: Sequence[str] | None,
    *,
    sequence_length: int,
    batch_sequences: int,
    device: torch.device | str,
) -> dict[str, dict[str, Score]]:
    """Return the scores of each task by metric; `tasks` None: those of the data that run by default.

    The model reads at most `sequence_length` tokens at once, in batches of at most `batch_sequences` times as many;
    scores depend on neither but by rounding. It is left on `device`, in the mode (training or evaluation) it came in.
    Raises ConfigError for an unknown task, DataError for an unusable evaluation set.
    """
    chosen = choose(offered(prepared.manifest.sources), tasks)
    parts = [part for task in chosen for part in task.parts]
    if not parts:
        return {}
    go_offline(prepared.folder.parent / "huggingface")
    results = _run(
        model.to(device),
        prepared,
        parts,
        sequence_length=sequence_length,
        batch_tokens=sequence_length * batch_sequences,
    )
    return {
        task.name: {name: score for part in task.parts for name, score in _scores(results, part).items()}
        for task in chosen
    }


def _run(
    model: nn.Module, prepared: Prepared, parts: Sequence[LmEvalTask], *, sequence_length: int, batch_tokens: int
) -> dict[str, Any]:
    """Return what lm-eval's evaluator reports, with its samples."""
    # Not at the top: lm-eval and `datasets` read the environment when they are imported.
    from lm_eval.evaluator import evaluate as lm_evaluate

    from memscale.evaluation.adapter import LanguageModel
    from memscale.evaluation.loading import load

    adapter = LanguageModel(model, prepared.tokenizer(), sequence_length=sequence_length, batch_tokens=batch_tokens)
    was_training = model.training
    model.eval()
    try:
        with tempfile.TemporaryDirectory(prefix="memscale-evaluation-") as scratch:
            # lm-eval computes standard errors, closed forms too, only where it may resample at least once; none of our
            # metrics is one that it resamples.
            results = lm_evaluate(adapter, load(prepared, parts, Path(scratch)), bootstrap_iters=1, log_samples=True)
    finally:
        model.train(was_training)
    if results is None:
        raise DataError("lm-eval returned no results; evaluate on one process only (LOCAL_RANK must be 0 or unset)")
    return dict(results)


def _scores(results: dict[str, Any], part: LmEvalTask) -> dict[str, Score]:
    """Return the scores of one lm-eval task; its keys read 'acc,none' and 'acc_stderr,none'."""
    reported, samples = results["results"][part.name], results["samples"][part.name]
    scores = {}
    for key, value in reported.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        stderr = number_or_none(reported.get(f"{metric}_stderr,{filtered}"))
        values = [sample[metric] for sample in samples]
        if isinstance(values[0], tuple):  # (nats, bytes) of a document: lm-eval knows no standard error for it
            nats = ratio_stderr(*zip(*values, strict=True))
            stderr = None if nats is None else nats / math.log(2)
        scores[metric] = Score(value=float(value), stderr=stderr, num_samples=len(values))
    return scores
