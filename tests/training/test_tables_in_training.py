"""Tables in training: the row optimizer against the dense one, narrow storage, files, and checkpoints in mid-run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_subprocess import do

from memscale.config.optimizer import Optimizer
from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.errors import ConfigError
from memscale.kernels.memory_table import MemoryTable
from memscale.records.layout import RunPaths
from memscale.training import checkpoint
from memscale.training.building import build_model
from memscale.training.optimizers import build_optimizer
from memscale.training.trainer import TrainResult

MakeRun = Callable[..., Run]


def sparsely_read(run: Run, **optimizer: str | float) -> Run:
    """The run with a table of which a batch looks up a small part, so that rows get no gradient for many steps."""
    larger = {"memory": {"num_keys": 40, "knn": 2}, "peer": {"num_keys": 40, "knn": 2}, "ngram": {"rows_per_head": 900}}
    parts = {name: replace(part, **larger.get(name, {})) for name, part in run.architecture.parts.items()}
    settings = replace(run.optimizer, table_weight_decay=0.1, **optimizer)
    return replace(run, architecture=replace(run.architecture, **parts), optimizer=settings)


def weights(trained: TrainResult) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trained.model.named_parameters()}


@pytest.mark.parametrize("family", ["pkm", "memory", "memory_plus", "peer", "ngram", "token_table"])
def test_the_lazy_optimizer_trains_as_the_dense_one_does(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    runs = {
        name: sparsely_read(make_run(family, num_steps=30), table_optimizer=name)
        for name in ("lazy_adamw", "dense_adamw")
    }
    found = {name: do(run, tmp_path / name, prepared, micro_batch_sequences=3) for name, run in runs.items()}
    start = dict(build_model(runs["lazy_adamw"]).named_parameters())
    lazy, dense = weights(found["lazy_adamw"]), weights(found["dense_adamw"])
    for name, tensor in dense.items():
        moved = (tensor - start[name]).abs().max()
        # Rounding may let a token choose another slot now and then; rows that did not pay would all be off by steps.
        assert (lazy[name] - tensor).abs().mean() <= 1e-3 * moved, name
    losses = [found[name].losses["mixture"]["nats_per_token"] for name in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


@pytest.mark.parametrize("family", ["memory_plus", "peer", "ngram", "mixture"])
def test_stopped_anywhere_and_resumed_gives_the_same_bits_with_updates_pending(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    run = sparsely_read(make_run(family))
    undisturbed = do(run, tmp_path / "undisturbed", prepared)
    for stop_after in (1, 5):
        root = tmp_path / str(stop_after)
        do(run, root, prepared, stop_after=stop_after)
        assert do(run, root, prepared, stop_after=2).step == stop_after + 2
        finished = do(run, root, prepared)
        for name, tensor in weights(undisturbed).items():
            assert torch.equal(tensor, weights(finished)[name]), name


def test_weights_of_a_checkpoint_in_mid_run_are_those_of_its_step(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun
) -> None:
    run = sparsely_read(make_run("memory_plus"))
    lazy, dense = (replace(run, optimizer=replace(run.optimizer, table_optimizer=name)) for name in
                   ("lazy_adamw", "dense_adamw"))  # fmt: skip
    stopped = do(lazy, tmp_path / "lazy", prepared, stop_after=7)
    reference = do(dense, tmp_path / "dense", prepared, stop_after=7)
    loaded = build_model(lazy)
    assert checkpoint.load_weights(RunPaths(tmp_path / "lazy").checkpoints, lazy, loaded) == 7
    raw = dict(stopped.model.named_parameters())["table"]
    table = dict(loaded.named_parameters())["table"]
    expected = dict(reference.model.named_parameters())["table"]
    assert (raw - expected).abs().max() > 1e-3  # updates are pending
    assert (table - expected).abs().max() < 1e-4
    assert isinstance(loaded.table, MemoryTable)
    assert loaded.table.row_optimizer is None


@pytest.mark.parametrize("family", ["memory_plus", "peer"])
def test_the_last_checkpoint_is_flushed_whatever_it_was_written_for(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    """It may be due by the clock just after the last step; a stop may come there too."""
    run = sparsely_read(make_run(family))
    saved = []
    for name, seconds in (("at the end", 1e9), ("by the clock", 1e-9)):
        do(run, tmp_path / name, prepared, checkpoint_seconds=seconds)
        saved.append(load_file(tmp_path / name / "checkpoints" / "step-12" / "model.safetensors"))
    done = dict(do(run, tmp_path / "by the clock", prepared).model.named_parameters())
    for name, tensor in saved[0].items():
        assert torch.equal(tensor, saved[1][name]), name
        assert name not in done or torch.equal(tensor, done[name]), name


@pytest.mark.parametrize("family", ["memory_plus", "peer"])
def test_a_table_in_a_file_gives_the_same_bits_and_leaves_nothing(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    run = sparsely_read(make_run(family))
    on_device = do(run, tmp_path / "device", prepared)
    in_file = do(run, tmp_path / "file", prepared, stop_after=6, table_memory="file")
    in_file = do(run, tmp_path / "file", prepared, table_memory="file")
    for name, tensor in weights(on_device).items():
        assert torch.equal(tensor, weights(in_file)[name]), name
    assert on_device.losses == in_file.losses
    assert not list((tmp_path / "file" / "tables").iterdir())


@pytest.mark.parametrize("storage", ["bfloat16_master", "bfloat16_stochastic"])
def test_narrow_tables_learn_resume_and_are_saved_as_they_are(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, storage: str
) -> None:
    run = sparsely_read(make_run("memory_plus"), table_storage=storage)
    undisturbed = do(run, tmp_path / "undisturbed", prepared)
    assert undisturbed.model.table is not None
    assert undisturbed.model.table.dtype == torch.bfloat16
    do(run, tmp_path / "stopped", prepared, stop_after=5)
    resumed = do(run, tmp_path / "stopped", prepared)
    for name, tensor in weights(undisturbed).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    wide = do(sparsely_read(make_run("memory_plus")), tmp_path / "wide", prepared)
    near = undisturbed.losses["mixture"]["nats_per_token"]
    assert near == pytest.approx(wide.losses["mixture"]["nats_per_token"], abs=0.02)
    loaded = build_model(run)
    checkpoint.load_weights(RunPaths(tmp_path / "undisturbed").checkpoints, run, loaded)
    assert torch.equal(loaded.table, undisturbed.model.table)


def test_one_second_moment_a_row_is_another_optimizer_with_less_state(make_run: MakeRun) -> None:
    run = sparsely_read(make_run("memory_plus"))
    sizes = {}
    for name in ("lazy_adamw", "lazy_adamw_by_row"):
        config = replace(run.optimizer, table_optimizer=name)
        state = build_optimizer(build_model(run), config).state()
        sizes[name] = sum(tensor.numel() for key, tensor in state.items() if key.endswith("moments.table"))
    slots, width = 1600, 16
    assert sizes == {"lazy_adamw": 2 * slots * width, "lazy_adamw_by_row": slots * (width + 1)}


def test_settings_that_no_row_optimizer_runs_are_refused() -> None:
    rates = {"learning_rate": 1e-3, "table_learning_rate": 1e-3}
    with pytest.raises(ConfigError, match=r"needs beta1 <= beta2.*set table_optimizer to dense_adamw"):
        Optimizer(**rates, beta1=0.99, beta2=0.9)
    assert Optimizer(**rates, beta1=0.99, beta2=0.9, table_optimizer="dense_adamw")
    assert Optimizer(learning_rate=1e-3, beta1=0.99, beta2=0.9)  # there is no table
    with pytest.raises(ConfigError, match="dense_adamw needs float32"):
        Optimizer(**rates, table_optimizer="dense_adamw", table_storage="bfloat16_master")
    with pytest.raises(ConfigError, match="Did you mean 'lazy_adamw'"):
        Optimizer(**rates, table_optimizer="lazy_adam")
