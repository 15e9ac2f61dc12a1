"""Compiling ahead leaves nothing for a later process to compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str, cache: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_a_model_step_after_compiling_ahead_compiles_nothing(tmp_path: Path) -> None:
    run("from memscale.kernels.compile import compile_kernels; compile_kernels()", tmp_path)
    kept = {path.name for path in tmp_path.rglob("*.nbc")}
    step = """
import torch
from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, Peer
from memscale.models.transformer import build
keys = dict(layers=(0,), num_keys=9, num_heads=2, knn=3, key_width=4)
shape = dict(d_model=8, num_layers=1, num_heads=2, num_kv_heads=2, head_width=4, ffn_hidden=8, vocab_size=11)
for family, part in (("memory_plus", {"memory": Memory(value_width=5, **keys)}), ("peer", {"peer": Peer(**keys)})):
    model = build(Architecture(family=family, **part, **shape), seed=0)
    model(torch.zeros(2, 4, dtype=torch.int64)).logits_BSV.square().sum().backward()
"""
    run(step, tmp_path)
    assert len(kept) >= 5
    assert {path.name for path in tmp_path.rglob("*.nbc")} == kept
