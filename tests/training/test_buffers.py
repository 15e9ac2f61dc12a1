"""What no gradient moves, biases and running statistics, is trained, kept and taken up again like the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import BATCH_SEQUENCES, SEQUENCE_LENGTH, architecture
from train_subprocess import do

from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.models.transformer import Transformer, build
from memscale.records.layout import RunPaths
from memscale.training import checkpoint, trainer
from memscale.training.buffers import after_step_hooks, persistent_buffers, preserve_buffers
from memscale.training.checkpoint import State
from memscale.training.micro_batch import activation_bytes
from memscale.training.optimizers import build_optimizer

MakeRun = Callable[..., Run]
buffered = pytest.mark.parametrize("name", ["moe_bias", "moe_hash", "pkm_batch", "peer"])


def everything(model: Transformer) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def assert_same(one: Transformer, other: Transformer) -> None:
    expected = everything(other)
    assert everything(one).keys() == expected.keys()
    for name, value in everything(one).items():
        assert value.dtype == expected[name].dtype
        assert torch.equal(value, expected[name]), name


def shaken(model: Transformer) -> Transformer:
    """`model` with every buffer filled with numbers of its own."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) * 1000)
    return model


@buffered
def test_persistent_buffers_are_saved_and_come_back_bit_for_bit(tmp_path: Path, make_run: MakeRun, name: str) -> None:
    run = make_run(name)
    saved, loaded, weights_only = (build(run.architecture, seed=seed) for seed in (0, 1, 2))
    optimizer = build_optimizer(shaken(saved), run.optimizer)
    checkpoint.save(tmp_path, run, saved, optimizer, State(step=3, micro_batch_sequences=1, hardware="here"))
    assert checkpoint.restore(tmp_path, run, loaded, build_optimizer(loaded, run.optimizer)) is not None
    assert checkpoint.load_weights(tmp_path, run, weights_only) == 3
    kept = persistent_buffers(saved)
    assert len(kept) >= 2
    for model in (loaded, weights_only):
        for key, value in kept.items():
            assert torch.equal(persistent_buffers(model)[key], value), key
    passing = set(dict(saved.named_buffers())) - set(kept)
    assert {key.rpartition(".")[2] for key in passing} == ({"step_load"} if name == "moe_bias" else set())


@pytest.mark.parametrize("name", ["moe_bias", "moe_hash", "pkm_batch", "peer", "moe_choice"])
def test_stopped_and_resumed_gives_the_same_weights_and_buffers(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, name: str
) -> None:
    run = make_run(name)
    undisturbed = do(run, tmp_path / "undisturbed", prepared)
    for stop_after in (1, 7):
        root = tmp_path / str(stop_after)
        assert do(run, root, prepared, stop_after=stop_after).step == stop_after
        assert_same(do(run, root, prepared).model, undisturbed.model)
    final = build(run.architecture, seed=9)
    checkpoint.load_weights(RunPaths(tmp_path / "undisturbed").checkpoints, run, final)
    assert_same(final, undisturbed.model)


def test_every_step_moves_the_biases_once_by_their_rate(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run = make_run("moe_bias")
    for steps in (1, 5):
        model = do(run, tmp_path / str(steps), prepared, stop_after=steps, micro_batch_sequences=4).model
        for block in model.blocks:
            moves_E = block.slot.balance_bias / 0.01
            assert moves_E.any()
            assert (moves_E.abs() < steps + 0.01).all()
            torch.testing.assert_close(moves_E, moves_E.round(), rtol=0, atol=1e-3)
            assert not block.slot.step_load.any()


def test_the_bias_sees_the_load_of_the_whole_batch(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run, biases = make_run("moe_bias"), []
    for sequences in (1, 4, BATCH_SEQUENCES):
        trained = do(run, tmp_path / str(sequences), prepared, stop_after=1, micro_batch_sequences=sequences)
        biases.append(torch.cat([block.slot.balance_bias for block in trained.model.blocks]))
    assert biases[0].any()
    assert torch.equal(biases[0], biases[1])
    assert torch.equal(biases[0], biases[2])


@buffered
def test_validations_leave_no_trace(tmp_path: Path, prepared: Prepared, make_run: MakeRun, name: str) -> None:
    run = make_run(name, num_steps=6)
    once = do(replace(run, validations=1), tmp_path / "once", prepared)
    assert_same(do(replace(run, validations=6), tmp_path / "often", prepared).model, once.model)


@buffered
def test_sizing_a_micro_batch_changes_nothing(name: str) -> None:
    model, untouched = build(architecture(name), seed=0), build(architecture(name), seed=0)
    assert activation_bytes(model, SEQUENCE_LENGTH) > 0
    assert_same(model, untouched)
    with pytest.raises(RuntimeError, match="scalar"), preserve_buffers(model):  # that it fails makes no difference
        model(torch.zeros(1, SEQUENCE_LENGTH, dtype=torch.int64)).logits_BSV.backward()
    assert_same(model, untouched)
    model(torch.zeros(1, SEQUENCE_LENGTH, dtype=torch.int64))
    changed = any(not torch.equal(a, b) for a, b in zip(model.buffers(), untouched.buffers(), strict=True))
    assert changed == (name != "moe_hash")


def test_parts_that_are_done_again_after_running_out_of_memory_count_once(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = trainer.micro_batch.accumulate_gradients

    def small_gpu(model: Transformer, tokens_BT: torch.Tensor, sequences: int, *others: object) -> object:
        if sequences > 3:
            healthy(model, tokens_BT[:2], 2)  # it had got this far
            raise torch.OutOfMemoryError("CUDA out of memory")
        return healthy(model, tokens_BT, sequences, *others)

    for name in ("moe", "moe_bias", "pkm_batch"):
        run = make_run(name)
        undisturbed = do(run, tmp_path / name / "undisturbed", prepared, micro_batch_sequences=3)
        with monkeypatch.context() as patch:
            patch.setattr(trainer.micro_batch, "accumulate_gradients", small_gpu)
            assert_same(do(run, tmp_path / name / "small", prepared).model, undisturbed.model)


def test_only_layers_with_something_to_do_are_called_after_a_step() -> None:
    assert after_step_hooks(build(architecture("dense"), seed=0)) == []
    assert len(after_step_hooks(build(architecture("moe_bias"), seed=0))) == 2
