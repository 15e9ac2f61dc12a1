"""`memscale export` on a real sweep: what it writes is the run's final weights, and what it refuses it says."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from memscale.cli.main import main
from memscale.models.transformer import build
from memscale.records.layout import RunPaths
from memscale.records.run_file import read_run_file
from memscale.records.seal import write_sealed
from memscale.training.checkpoint import State, load_weights, save
from memscale.training.checkpoint_files import numbered
from memscale.training.optimizers import build_optimizer
from tests.sweeps import FEWER, NAME, memscale, small_sweep, write_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of a dense and an MoE model, done; its rates are tuned in two rounds, with one extension of the grid."""
    folder = tmp_path_factory.mktemp("exported")
    fewer = (*FEWER, "~families.memory_plus", "recipe.tune.learning_rates=[0.01,0.02]", "recipe.tune.extensions=1")
    memscale(
        "sweep", NAME, *small_sweep(write_text(folder), flops="[1e9]", seeds="[0]", more=fewer), runs=folder / "runs"
    )
    return folder / "runs"


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def folder_of(runs: Path, name: str) -> RunPaths:
    (found,) = runs.glob(f"{NAME}/{name}-*")
    return RunPaths(found)


def refused(runs: Path, name: str, folder: Path) -> str:
    """What the verb says; in this process, for a refusal starts with seconds of imports otherwise."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as said:
        patch.setenv("MEMSCALE_RUNS", str(runs))
        assert main(["export", NAME, name, str(folder)]) == 2
    assert "Traceback" not in said.getvalue()
    assert not list(folder.parent.glob(f".{folder.name}*"))
    return said.getvalue()


@pytest.mark.parametrize("family, kind", [("dense", "LlamaForCausalLM"), ("moe", "MixtralForCausalLM")])
def test_a_finished_run_becomes_a_folder_that_transformers_runs(
    family: str, kind: str, finished: Path, tmp_path: Path
) -> None:
    name, folder = f"{family}-1e9-s0", tmp_path / "deep" / "model"
    told = json.loads(memscale("export", NAME, name, str(folder), "--json", runs=finished).stdout)
    paths = folder_of(finished, name)
    run = read_run_file(paths.run).run
    assert told == {
        "format": 1, "run_id": paths.root.name.rpartition("-")[2], "step": run.num_steps, "folder": str(folder),
        "type": kind,
    }  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["memscale"]["run"] == name
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert type(theirs).__name__ == kind
    ours = build(run.architecture, seed=0).eval()
    load_weights(paths.checkpoints, run, ours)
    tokens = torch.randint(run.architecture.vocab_size, (2, run.sequence_length))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens).logits_BSV, rtol=0, atol=1e-4)


def test_unknown_and_unfinished_runs_and_folders_that_hold_something_are_refused(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert "Did you mean 'dense-1e9-s0'" in refused(runs, "dense-1e9-s1", folder)
    folder_of(runs, "moe-1e9-s0").result.unlink()
    assert "only a finished run is exported" in refused(runs, "moe-1e9-s0", folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine").write_text("kept")
    assert "not empty" in refused(runs, "dense-1e9-s0", folder)
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_run_whose_final_weights_are_gone_is_refused(runs: Path, tmp_path: Path) -> None:
    name, folder = "dense-1e9-s0", tmp_path / "out"
    checkpoints, run = folder_of(runs, name).checkpoints, read_run_file(folder_of(runs, name).run).run
    step, newest = numbered(checkpoints)[-1]
    assert step == run.num_steps
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (newest / "model.safetensors").write_bytes(bytes(weights))
    assert "SHA-256" in refused(runs, name, folder)
    shutil.rmtree(checkpoints)
    model = build(run.architecture, seed=0)
    earlier = State(step=step - 1, micro_batch_sequences=1, hardware="here")
    save(checkpoints, run, model, build_optimizer(model, run.optimizer), earlier)
    assert f"of step {step - 1} of {step}: its final weights are gone" in refused(runs, name, folder)
    shutil.rmtree(checkpoints)
    assert "holds no checkpoint" in refused(runs, name, folder)
    assert not folder.exists()


def test_a_run_whose_tokenizer_is_gone_or_another_is_refused(finished: Path, tmp_path: Path) -> None:
    plan = json.loads(next((finished / NAME / "plans").glob("*.json")).read_text())
    data = finished / "data" / plan["data_folders"][0]
    manifest = (data / "manifest.json").read_text()
    moved = data.rename(data.with_name("moved"))
    try:
        assert str(data) in refused(finished, "moe-1e9-s0", tmp_path / "out")
    finally:
        moved.rename(data)
    try:
        content = json.loads(manifest)
        content["digests"]["tokenizer"] = "0" * 64
        kept = {key: value for key, value in content.items() if key not in ("format", "digest")}
        write_sealed(data / "manifest.json", kept, format=content["format"])
        assert "another tokenizer" in refused(finished, "moe-1e9-s0", tmp_path / "out")
    finally:
        (data / "manifest.json").write_text(manifest)
    assert not (tmp_path / "out").exists()


def test_the_exported_runs_were_trained_at_the_rates_that_the_last_round_chose(finished: Path) -> None:
    """The whole way: two rates and one beyond the better of them, then the best two with two other seeds."""
    with open(finished / NAME / "results.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == "dense"]
    assert {row["status"] for row in rows} == {"done"}
    losses: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        losses.setdefault(row["stage"], {}).setdefault(float(row["learning_rate"]), []).append(float(row["loss_nats"]))
    first = losses["tune"] | losses["tune-extended"]
    better = min(losses["tune"], key=lambda rate: losses["tune"][rate])
    assert set(losses["tune-extended"]) == {0.04 if better == 0.02 else 0.005}
    assert set(losses["tune-2"]) == set(sorted(first, key=lambda rate: first[rate])[:2])
    assert {len(found) for found in losses["tune-2"].values()} == {2}
    means = {rate: sum(found) / 2 for rate, found in losses["tune-2"].items()}
    assert set(losses["compare"]) == {min(means, key=lambda rate: means[rate])}
    assert len({row["seed"] for row in rows}) == 4
