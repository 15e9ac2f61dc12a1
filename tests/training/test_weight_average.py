"""Averaged weights: the mean of the weights at the stated steps, everywhere the result is used, whatever interrupts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from train_subprocess import do

from memscale.config.codec import from_plain, to_plain
from memscale.config.optimizer import Average
from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.models.transformer import Transformer
from memscale.planning.identity import Identities, run_id
from memscale.records.layout import RunPaths
from memscale.training import checkpoint
from memscale.training.buffers import persistent_buffers
from memscale.training.building import build_model
from memscale.training.metrics import Validator
from memscale.training.weight_average import average_steps

MakeRun = Callable[..., Run]
STEPS = (8, 10, 12)
"""Of `<family>_averaged`: every second of the last six of 12 steps."""


def trained(model: Transformer) -> dict[str, torch.Tensor]:
    held = {**dict(model.named_parameters()), **persistent_buffers(model)}
    return {name: tensor.detach().clone() for name, tensor in held.items()}


def sparsely_read(run: Run, **optimizer: str | float) -> Run:
    """With a table of which a batch reads a small part, so that rows have pending updates at the averaged steps."""
    if run.architecture.memory is None:
        return run
    memory = replace(run.architecture.memory, num_keys=40, knn=2)
    settings = replace(run.optimizer, table_weight_decay=0.1, **optimizer)
    return replace(run, architecture=replace(run.architecture, memory=memory), optimizer=settings)


@pytest.mark.parametrize("family", ["dense", "moe_bias", "pkm_batch", "memory_plus"])
def test_the_result_is_the_mean_of_the_weights_at_these_steps(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    run = sparsely_read(make_run(f"{family}_averaged"))
    averaged = trained(do(run, tmp_path / "averaged", prepared).model)
    plain = replace(run, average=None)
    taken = []
    for step in STEPS:  # the same run without averaging, looked at after each of the steps
        do(plain, tmp_path / "plain", prepared, stop_after=step - (STEPS[len(taken) - 1] if taken else 0))
        looked_at = build_model(plain)
        assert checkpoint.load_weights(RunPaths(tmp_path / "plain").checkpoints, plain, looked_at) == step
        taken.append(trained(looked_at))
    assert not torch.equal(averaged["embedding.weight"], taken[-1]["embedding.weight"])
    for name, mean in averaged.items():
        expected = torch.stack([weights[name] for weights in taken]).double().mean(dim=0)
        assert torch.allclose(mean.double(), expected, atol=2e-5), name


@pytest.mark.parametrize("family", ["moe_bias_averaged", "memory_plus_averaged"])
def test_stopped_anywhere_and_resumed_gives_the_same_bits(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    run = sparsely_read(make_run(family))
    undisturbed = do(run, tmp_path / "undisturbed", prepared)
    for stop_after in (7, 8, 11):  # before the first averaged step, just behind it, before the last
        root = tmp_path / str(stop_after)
        do(run, root, prepared, stop_after=stop_after)
        held = load_file(root / "checkpoints" / f"step-{stop_after}" / "optimizer.safetensors")
        assert any(name.startswith("average.") for name in held) == (stop_after >= STEPS[0])
        resumed = do(run, root, prepared)
        for name, tensor in trained(undisturbed.model).items():
            assert torch.equal(tensor, trained(resumed.model)[name]), name
        assert resumed.losses == undisturbed.losses


@pytest.mark.parametrize("storage", ["float32", "bfloat16_master", "bfloat16_stochastic"])
def test_what_is_validated_is_what_is_saved_and_loaded(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, storage: str
) -> None:
    run = sparsely_read(make_run("memory_plus_averaged"), table_storage=storage)
    done = do(run, tmp_path, prepared)
    loaded = build_model(run)
    assert checkpoint.load_weights(RunPaths(tmp_path).checkpoints, run, loaded) == 12
    for name, tensor in trained(done.model).items():
        assert torch.equal(tensor, trained(loaded)[name]), name
    again = Validator(prepared, run.sequence_length, torch.device("cpu")).measure(loaded, run.batch_sequences)
    assert again.mixture_nats == pytest.approx(done.losses["mixture"]["nats_per_token"], abs=1e-6)
    assert do(run, tmp_path, prepared).losses == done.losses  # taken up again from the very end
    plain = do(replace(run, average=None), tmp_path / "plain", prepared)
    assert again.mixture_nats != plain.losses["mixture"]["nats_per_token"]


def test_weights_of_a_checkpoint_inside_the_window_are_those_of_its_step(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun
) -> None:
    run = make_run("dense_averaged")
    stopped = do(run, tmp_path, prepared, stop_after=9)
    loaded = build_model(run)
    assert checkpoint.load_weights(RunPaths(tmp_path).checkpoints, run, loaded) == 9
    for name, tensor in trained(stopped.model).items():
        assert torch.equal(tensor, trained(loaded)[name]), name


@settings(deadline=None)
@given(st.floats(0, 1, exclude_min=True), st.integers(1, 30), st.integers(1, 400))
def test_averaged_steps_end_at_the_end_and_stay_in_the_window(fraction: float, every: int, num_steps: int) -> None:
    steps = average_steps(Average(fraction=fraction, every=every), num_steps)
    assert steps[-1] == num_steps
    assert steps[0] >= 1
    assert len(steps) == 1 or num_steps - steps[0] < fraction * num_steps
    assert {later - step for step, later in itertools.pairwise(steps)} <= {every}
    assert steps[0] - every < 1 or num_steps - (steps[0] - every) >= int(fraction * num_steps)
    assert average_steps(None, num_steps) == ()


def test_a_run_without_averaging_has_the_identity_and_the_files_of_versions_before_it(make_run: MakeRun) -> None:
    run = make_run()
    assert "average" not in to_plain(run)
    assert from_plain(Run, to_plain(run)) == run
    averaged = replace(run, average=Average(fraction=0.5, every=2))
    assert from_plain(Run, to_plain(averaged)) == averaged
    ids = {run_id(one) for one in (run, averaged, replace(run, average=Average(fraction=0.5)))}
    assert len(ids) == 3
    assert {Identities().run_id(one) for one in (run, averaged)} <= ids
