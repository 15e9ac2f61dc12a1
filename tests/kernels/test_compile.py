"""Compiling ahead leaves nothing for a later process to compile, and nothing old is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memscale
from memscale.kernels import numba_jit

STEPS = """
import torch
from memscale.config.architecture import Architecture
from memscale.config.layers import Memory, Peer
from memscale.config.optimizer import Optimizer
from memscale.models.transformer import build
from memscale.training.optimizers import build_optimizer
keys = dict(layers=(0,), num_keys=9, num_heads=2, knn=3, key_width=4)
shape = dict(d_model=8, num_layers=1, num_heads=2, num_kv_heads=2, head_width=4, ffn_hidden=8, vocab_size=11)
for family, part in (("memory_plus", {"memory": Memory(value_width=5, **keys)}), ("peer", {"peer": Peer(**keys)})):
    for table_optimizer in ("lazy_adamw", "lazy_adamw_by_row", "dense_adamw"):
        model = build(Architecture(family=family, **part, **shape), seed=0)
        config = Optimizer(learning_rate=0.01, table_learning_rate=0.03, table_optimizer=table_optimizer)
        optimizer = build_optimizer(model, config)
        for tokens, clip_norm in ((200, 1e-3), (4, 1e6), (4, 0.0)):
            torch.set_num_threads(2 if tokens == 200 else 1)
            for _ in range(2):
                model(torch.zeros(2, tokens, dtype=torch.int64)).logits_BSV.square().mean().backward()
            optimizer.clip(clip_norm)
            optimizer.step(1.0)
            optimizer.clear_gradients()
        with torch.no_grad():
            model(torch.zeros(2, 4, dtype=torch.int64))
        optimizer.flush()
"""


def run(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_training_after_compiling_ahead_compiles_nothing(tmp_path: Path) -> None:
    run("from memscale.kernels.compile import compile_kernels; compile_kernels()", NUMBA_CACHE_DIR=str(tmp_path))
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")}
    run(STEPS, NUMBA_CACHE_DIR=str(tmp_path))
    assert len(kept) >= 20
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb[ci]")} == kept


def copied_package(folder: Path) -> Path:
    """Copy the package into a folder and return its kernels'."""
    source = Path(memscale.__file__).parent
    shutil.copytree(source, folder / "memscale", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "memscale" / "kernels"


def test_what_is_kept_lies_in_a_folder_named_by_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = copied_package(tmp_path)
    monkeypatch.setattr(numba_jit, "__file__", str(kernels / "numba_jit.py"))
    folder = numba_jit._folder.__wrapped__
    first = folder()
    assert Path(first).parent == kernels / "__pycache__"
    assert folder() == first
    with (kernels / "prefetch.py").open("a") as file:
        file.write("# changed\n")
    second = folder()
    assert len({first, second}) == 2
    monkeypatch.setenv("MEMSCALE_CODE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Path(folder()).parent == tmp_path / "cache" / "memscale"


@pytest.mark.slow
def test_a_changed_source_is_compiled_again(tmp_path: Path) -> None:
    """Also in a function that it was inlined into, whose own file is as it was."""
    kernels = copied_package(tmp_path)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import torch
from memscale.kernels import bags_numba, numba_jit
assert numba_jit.__file__.startswith({str(tmp_path)!r})
assert not numba_jit.settings.CACHE_DIR
print(bags_numba.unique_slots(torch.tensor([2, 5, 2]), 9).tolist())
"""
    assert run(code) == "[2, 5]\n"
    (first,) = (kernels / "__pycache__").glob("numba-*")
    num_kept = len(list(first.rglob("*.nbc")))
    assert num_kept >= 2
    with (kernels / "prefetch.py").open("a") as file:
        file.write("# changed\n")
    assert run(code) == "[2, 5]\n"
    (second,) = set((kernels / "__pycache__").glob("numba-*")) - {first}
    assert len(list(second.rglob("*.nbc"))) == num_kept
