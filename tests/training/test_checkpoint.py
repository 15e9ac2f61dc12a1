"""Checkpoints come back bit for bit, whole or not at all; damaged ones fall back or are refused."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memscale.config.run import Run
from memscale.errors import CheckpointError, MemscaleError
from memscale.models.transformer import Transformer, build
from memscale.training import checkpoint
from memscale.training.checkpoint import State
from memscale.training.disk import DiskFullError
from memscale.training.metrics import WindowSums
from memscale.training.optimizers import AdamW, build_optimizer

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
Built = tuple[Transformer, AdamW]


def new(run: Run, seed: int = 0) -> Built:
    model = build(run.architecture, seed=seed)
    return model, build_optimizer(model, run.optimizer)


def stepped(run: Run, steps: int = 2) -> Built:
    model, optimizer = new(run)
    generator = torch.Generator().manual_seed(9)
    for _ in range(steps):
        tokens = torch.randint(run.architecture.vocab_size, (1, 3), generator=generator)  # few: some rows go unread
        model(tokens).logits_BSV.square().sum().backward()
        optimizer.step(1.0)
        optimizer.clear_gradients()
    return model, optimizer


def state_of(step: int) -> State:
    sums = WindowSums(loss=0.1 + 0.2, auxiliary_loss=1 / 3, gradient_norm=1e-17, num_steps=3)
    return State(step=step, micro_batch_sequences=5, hardware="here", train_seconds=1 / 7, window=sums)


def everything(built: Built) -> dict[str, torch.Tensor]:
    model, optimizer = built
    return {**dict(model.named_parameters()), **optimizer.state()}


@pytest.mark.parametrize("family", ["dense", "moe", "memory_plus", "memory_ultramem", "looped"])
def test_comes_back_bit_for_bit(tmp_path: Path, make_run: Callable[..., Run], family: str) -> None:
    run = make_run(family)
    saved, loaded = stepped(run), new(run, seed=1)
    checkpoint.save(tmp_path, run, *saved, state_of(2))
    assert checkpoint.restore(tmp_path, run, *loaded) == state_of(2)
    before, after = everything(saved), everything(loaded)
    assert before.keys() == after.keys()
    # Two moments of each parameter, and of a table the steps that its rows are of.
    assert len(after) == 3 * len(list(loaded[0].parameters())) + 2 * family.startswith("memory")
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
        assert after[name].data_ptr() % 64 == 0 or after[name].numel() == 0
    for model, optimizer in (saved, loaded):  # the step count, too, has come back: the next step is the same
        model(torch.arange(20).view(2, 10)).logits_BSV.square().sum().backward()
        optimizer.step(1.0)
    for a, b in zip(saved[0].parameters(), loaded[0].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_format_1_is_read(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    """Its state.json has `place` and `interval` for what are `hardware` and `window` by now."""
    run = make_run("memory_plus")
    saved, loaded = stepped(run), new(run, seed=1)
    path = checkpoint.save(tmp_path, run, *saved, state_of(2))
    content = json.loads((path / "state.json").read_text())
    assert content["format"] == 2
    content["format"] = 1
    for old, name in (("place", "hardware"), ("interval", "window")):
        content["state"][old] = content["state"].pop(name)
    (path / "state.json").write_text(json.dumps(content))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["format"] = 1
    manifest["sha256"]["state.json"] = hashlib.sha256((path / "state.json").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.restore(tmp_path, run, *loaded) == state_of(2)
    for name, tensor in everything(saved).items():
        assert torch.equal(tensor, everything(loaded)[name]), name


def test_tied_embeddings_are_saved_once_and_stay_tied(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    run = replace(run, architecture=replace(run.architecture, tied_embeddings=True))
    saved, loaded = stepped(run), new(run, seed=1)
    checkpoint.save(tmp_path, run, *saved, state_of(2))
    checkpoint.restore(tmp_path, run, *loaded)
    tokens_BS = torch.arange(20).view(2, 10)
    assert torch.equal(saved[0](tokens_BS).logits_BSV, loaded[0](tokens_BS).logits_BSV)


def test_no_checkpoint_is_no_error(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    assert checkpoint.restore(tmp_path / "none", make_run(), *new(make_run())) is None


def test_keeps_the_last_two(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    for step in (2, 9, 10, 100):
        checkpoint.save(tmp_path, run, *stepped(run), state_of(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-100"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_a_damaged_newest_falls_back_to_the_one_before(
    tmp_path: Path, make_run: Callable[..., Run], caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    run = make_run()
    older = stepped(run, 1)
    checkpoint.save(tmp_path, run, *older, state_of(1))
    hurt(checkpoint.save(tmp_path, run, *stepped(run, 2), state_of(2)) / name, damage)
    loaded = new(run, seed=1)
    with caplog.at_level(logging.WARNING):
        state = checkpoint.restore(tmp_path, run, *loaded)
    assert state is not None
    assert state.step == 1
    for key, tensor in everything(older).items():
        assert torch.equal(tensor, everything(loaded)[key])
    assert "step-2" in caplog.text
    assert "resuming from step 1" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-step-2", "step-1"]


def hurt(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    path = checkpoint.save(tmp_path, run, *stepped(run), state_of(2))
    generator = torch.Generator().manual_seed(0)
    for name in FILES[:3]:
        whole = (path / name).read_bytes()
        for position in torch.randint(0, len(whole), (8,), generator=generator).tolist():
            (path / name).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(CheckpointError):
                checkpoint.load_weights(tmp_path, run, new(run)[0])
        (path / name).write_bytes(whole)
    assert checkpoint.load_weights(tmp_path, run, new(run)[0]) == 2


def test_none_good_is_refused_with_every_reason(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    for step in (1, 2):
        hurt(checkpoint.save(tmp_path, run, *stepped(run), state_of(step)) / "model.safetensors", "truncate")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore(tmp_path, run, *new(run))
    message = str(caught.value)
    for part in ("none of the 2 checkpoints", "step-1", "step-2", "SHA-256", "remove that folder"):
        assert part in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-2"]


def test_another_runs_checkpoint_is_refused_by_what_differs(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    checkpoint.save(tmp_path, run, *stepped(run), state_of(2))
    other = replace(run, seed=run.seed + 1)
    with pytest.raises(CheckpointError, match="another run: it differs in seed"):
        checkpoint.restore(tmp_path, other, *new(other))


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    path = checkpoint.save(tmp_path, run, *stepped(run), state_of(2))
    for leftover in (".step-3.tmp", ".removed-step-1"):
        shutil.copytree(path, tmp_path / leftover)
        (tmp_path / leftover / "manifest.json").unlink()
    state = checkpoint.restore(tmp_path, run, *new(run))
    assert state is not None
    assert state.step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 400 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_leaves_the_previous_checkpoint(
    small_disk: Path, make_run: Callable[..., Run]
) -> None:
    run = make_run()
    first = stepped(run, 1)
    checkpoint.save(small_disk, run, *first, state_of(1))
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 20_000))
    with pytest.raises(DiskFullError, match="No space left on device") as caught:
        checkpoint.save(small_disk, run, *first, state_of(2))
    assert isinstance(caught.value, MemscaleError)
    assert "MEMSCALE_RUNS" in str(caught.value)
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "step-1"]
    loaded = new(run, seed=1)
    assert checkpoint.restore(small_disk, run, *loaded) == state_of(1)
    for name, tensor in everything(first).items():
        assert torch.equal(tensor, everything(loaded)[name])
