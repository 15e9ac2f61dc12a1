"""A small world to train in: real text, prepared once a session, and one tiny run per family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from memscale.config.architecture import Architecture
from memscale.config.data import Data, Facts, PythonStdlib, TokenizerConfig
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.optimizer import Average, Optimizer, Schedule
from memscale.config.run import Run
from memscale.config.token_layers import NGram, TokenTable
from memscale.data.prepared import Prepared, prepare

SEQUENCE_LENGTH = 32
BATCH_SEQUENCES = 6

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Two sources of unequal weight in a vocabulary of 300."""
    data = Data(
        name="tiny",
        sources=(
            PythonStdlib(name="code", weight=1.0, held_out=0.3, max_bytes=150_000),
            Facts(name="facts", weight=3.0, num_people=40, num_documents=4, num_eval_questions=20),
        ),
        tokenizer=TokenizerConfig(vocab_size=300, train_bytes=50_000),
        validation_tokens=20 * SEQUENCE_LENGTH,
    )
    return prepare(data, tmp_path_factory.mktemp("prepared"))


def architecture(name: str, *, balance_weight: float = 0.01, tied: bool = False) -> Architecture:
    """A model of two or three layers and a few thousand parameters: a family's, or a variant of it."""
    keys: dict[str, Any] = {"layers": (0, 2), "num_keys": 12, "num_heads": 2, "knn": 4, "key_width": 8}
    unweighted = MoE(layers=(0, 1), num_experts=4, experts_per_token=2, expert_hidden=16)
    moe = replace(unweighted, balance_weight=balance_weight)
    pkm = Memory(**keys, value_width=16, shared_table=False, gated=False, query_norm="batch")
    # Without the signed root, whose slope has no bound at zero: a rounding error there would grow from step to step.
    ngram = NGram(layers=(1,), num_heads=2, rows_per_head=60, row_width=4, signed_root=False)
    parts: dict[str, dict[str, Any]] = {
        "dense": {},
        "moe": {"moe": moe},
        "moe_bias": {"moe": replace(moe, balance="bias", bias_rate=0.01, scores="sigmoid", shared_experts=1)},
        "moe_choice": {"moe": replace(moe, routing="expert_choice", balance="none", renormalise=False)},
        "moe_hash": {"moe": replace(unweighted, routing="hash", renormalise=False, balance="none", z_weight=0.0)},
        "pkm": {"memory": replace(pkm, query_norm="layer")},
        "pkm_batch": {"memory": pkm},
        "memory": {"memory": Memory(**{**keys, "layers": (1,)}, value_width=16, gated=False)},
        "memory_plus": {"memory": Memory(**keys, value_width=16, qk_norm=True)},
        "memory_ultramem": {
            "memory": Memory(
                **{**keys, "layers": (0, 1)},
                value_width=8,
                gated=False,
                projection=True,
                expansion=4,
                core_rank=2,
                weights="none",
                query_norm="layer",
                query_conv=4,
                place="beside",
                skip=1,
            )
        },
        "peer": {"peer": Peer(**keys, query_norm="batch")},
        "ngram": {"ngram": replace(ngram, layers=(0, 2), conv_width=3)},
        "token_table": {"token_table": TokenTable(layers=(0, 2), row_width=8)},
        "mixture": {
            "moe": replace(moe, layers=(0,)),
            "memory": Memory(**{**keys, "layers": (2,)}, value_width=16, qk_norm=True),
            "ngram": ngram,
        },
        "looped": {"loop": Loop(prelude=1, recurrent=1, coda=1, recurrences=3)},
    }
    return Architecture(
        family=name.removesuffix("_bias")
        .removesuffix("_choice")
        .removesuffix("_hash")
        .removesuffix("_batch")
        .removesuffix("_ultramem"),
        d_model=16,
        num_layers=2 if name.startswith(("dense", "moe")) else 3,
        num_heads=2,
        num_kv_heads=1,
        head_width=8,
        ffn_hidden=32,
        vocab_size=300,
        tied_embeddings=tied,
        **parts[name],
    )


def tiny_run(prepared: Prepared, family: str = "dense", *, num_steps: int = 12, learning_rate: float = 1e-2) -> Run:
    """A run of a family; `<family>_averaged` averages its weights over the second half, `<family>_muon` uses Muon."""
    batch_tokens = SEQUENCE_LENGTH * BATCH_SEQUENCES
    built = architecture(family.removesuffix("_averaged").removesuffix("_muon"))
    return Run(
        architecture=built,
        optimizer=Optimizer(
            learning_rate=learning_rate,
            table_learning_rate=2 * learning_rate if built.has_table else None,
            matrix_optimizer="muon" if family.endswith("_muon") else "adamw",
        ),
        schedule=Schedule(),
        tokens=num_steps * batch_tokens,
        batch_tokens=batch_tokens,
        sequence_length=SEQUENCE_LENGTH,
        seed=1,
        validations=3,
        digests=prepared.manifest.digests,
        average=Average(fraction=0.5, every=2) if family.endswith("_averaged") else None,
    )


@pytest.fixture
def make_run(prepared: Prepared) -> Callable[..., Run]:
    """`tiny_run` on the session's data."""

    def make(family: str = "dense", **changes: int | float) -> Run:
        return tiny_run(prepared, family, **changes)

    return make


@pytest.fixture(scope="session")
def data_folder(prepared: Prepared) -> Path:
    return prepared.folder
