"""Fifty steps on real text lower the held-out loss, for every family and variant, on every seed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SEQUENCE_LENGTH, tiny_run

from memscale.config.architecture import FAMILIES
from memscale.config.data import Data, TextFiles, TokenizerConfig
from memscale.data.prepared import Prepared, prepare
from memscale.models.transformer import build
from memscale.records.layout import RunPaths
from memscale.training.metrics import Validator
from memscale.training.trainer import Execution, train

ROOT = Path(__file__).parents[2]
TEXT = Path(os.environ.get("MEMSCALE_DATA_DIR") or ROOT.parent / "shared" / "data") / "text"

pytestmark = pytest.mark.skipif(not TEXT.is_dir(), reason=f"no real text at {TEXT}")


@pytest.fixture(scope="module")
def wikipedia(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    data = Data(
        name="wikitext",
        sources=(TextFiles(name="text", files=(str(TEXT / "wikitext2_valid.txt"),)),),
        tokenizer=TokenizerConfig(vocab_size=300, train_bytes=50_000),
        validation_tokens=40 * SEQUENCE_LENGTH,
    )
    return prepare(data, tmp_path_factory.mktemp("wikipedia"))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", [*FAMILIES, "moe_bias", "moe_choice", "moe_hash", "pkm_batch"])
def test_fifty_steps_lower_the_loss(name: str, seed: int, wikipedia: Prepared, tmp_path: Path) -> None:
    run = replace(tiny_run(wikipedia, name, num_steps=50), seed=seed)
    validator = Validator(wikipedia, run.sequence_length, torch.device("cpu"))
    before = validator.measure(build(run.architecture, seed=seed), 4).mixture_nats
    trained = train(
        run,
        RunPaths(tmp_path),
        wikipedia,
        Execution(device="cpu"),
        on_progress=lambda _: None,
        should_stop=lambda: False,
    )
    assert trained.validation is not None
    assert trained.validation.mixture_nats < before - 0.5
    assert trained.validation.mixture_nats > 2.0  # no later token is seen: nothing so small learns English in 50 steps
