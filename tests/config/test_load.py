"""Composing the shipped sweeps, and refusing what a person may mistype."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from memscale.config.family import MemoryPlusFamily
from memscale.config.load import load_sweep, sweep_names
from memscale.errors import ConfigError
from tests.planning.shipped import SCALES, is_offered

SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.fixture(autouse=True)
def _without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def _fake_sbatch(folder: Path, status: int) -> None:
    command = folder / "sbatch"
    command.write_text(f"#!/bin/sh\nexit {status}\n")
    command.chmod(0o755)


@pytest.mark.parametrize("name", sweep_names(SWEEPS))
@pytest.mark.parametrize("scale", SCALES)
def test_every_shipped_sweep_composes_at_every_scale_that_it_offers(name: str, scale: str) -> None:
    if not is_offered(name, scale):
        with pytest.raises(ConfigError, match=f"Could not find 'at/{name}_{scale}'"):
            load_sweep(name, [f"scale={scale}"], folder=SWEEPS)
        return
    loaded = load_sweep(name, [f"scale={scale}"], folder=SWEEPS)
    assert loaded.sweep.name == name
    assert loaded.sweep.scale.name == scale


def test_without_slurm_a_sweep_runs_here_at_laptop_scale_and_says_so() -> None:
    loaded = load_sweep("memory_vs_moe", folder=SWEEPS)
    assert (loaded.sweep.launcher.name, loaded.sweep.scale.name) == ("local", "laptop")
    assert "no SLURM here" in " ".join(loaded.notes)
    assert "SCALE=node" in " ".join(loaded.notes)


def test_where_sbatch_answers_a_sweep_goes_to_slurm_at_node_scale(tmp_path: Path) -> None:
    os.symlink(shutil.which("sh", path="/bin:/usr/bin") or "/bin/sh", tmp_path / "sh")
    _fake_sbatch(tmp_path, 0)
    chosen = load_sweep("memory_vs_moe", folder=SWEEPS).sweep
    assert (chosen.launcher.name, chosen.scale.name) == ("slurm", "node")
    asked = load_sweep("memory_vs_moe", ["scale=laptop", "launcher=local"], folder=SWEEPS).sweep
    assert (asked.launcher.name, asked.scale.name) == ("local", "laptop")
    _fake_sbatch(tmp_path, 1)
    assert load_sweep("memory_vs_moe", folder=SWEEPS).sweep.launcher.name == "local"


def test_a_former_key_is_refused_with_its_new_name() -> None:
    with pytest.raises(ConfigError, match=r"launcher\.slots \(command line\) is now called launcher\.workers"):
        load_sweep("memory_vs_moe", ["launcher.slots=2"], folder=SWEEPS)
    assert load_sweep("memory_vs_moe", ["launcher.workers=2"], folder=SWEEPS).sweep.launcher.workers == 2


def test_overrides_reach_their_place() -> None:
    overrides = ["families.memory_plus.knn=8", "recipe.clip_norm=0.5", "data=text_files", "data.files=x/*.txt"]
    sweep = load_sweep("memory_vs_moe", overrides, folder=SWEEPS).sweep
    memory = next(family for family in sweep.families if isinstance(family, MemoryPlusFamily))
    assert (memory.knn, sweep.recipe.clip_norm, sweep.data.files) == (8, 0.5, ("x/*.txt",))


def test_a_key_that_no_file_sets_can_be_set() -> None:
    sweep = load_sweep(
        "memory_vs_moe", ["data.tokenizer.train_bytes=20000", "scale.budgets.0.exposures=60"], folder=SWEEPS
    ).sweep
    assert sweep.data.tokenizer.train_bytes == 20_000
    assert sweep.scale.budgets[0].exposures == 60


def test_a_family_can_be_left_out() -> None:
    sweep = load_sweep("memory_vs_moe", ["families.moe=null"], folder=SWEEPS).sweep
    assert [family.family for family in sweep.families] == ["dense", "memory_plus"]


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["scale=laptp"], ["'laptp'", "laptop, node", "Did you mean 'laptop'"]),
        (["recipe.clip_nrom=1"], ["recipe.clip_nrom (command line)", "Did you mean 'clip_norm'"]),
        (["recipee.clip_norm=1"], ["recipee", "Did you mean 'recipe'"]),
        (["clip_norm"], ["clip_norm"]),
        (["recipe.clip_norm=abc"], ["recipe.clip_norm (command line)", "'abc'", "a number"]),
        (["scale.seeds=[0,0]"], ["scale", "twice"]),
        (["data=text_files"], ["data.files", "no value"]),
        (["+families.moe.width=3"], ["families.moe.width", "experts_per_token"]),
        (["families.moe.experts_per_token=1.5"], ["a whole number", "1.5"]),
        (["scale.budgets=[]"], ["budgets, ladders and isoflops are all empty"]),
        (["recipe.tune_seed=1"], ["tune_seed", "scale.seeds"]),
        (["launcher=slurm", "launcher.resources=[{families:[mo]}]"], ["launcher.resources names", "'mo'", "'moe'"]),
        (["launcher=slurm", "launcher.resources=[{memry:9G}]"], ["launcher.resources", "memry", "'memory'"]),
        (
            ["launcher=slurm", "launcher.resources=[{gpus_per_run:-1}]"],
            ["launcher.resources[0].gpus_per_run (command line) is -1"],
        ),
    ],
)
def test_a_mistake_is_refused_with_key_value_and_what_is_valid(overrides: list[str], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep("memory_vs_moe", overrides, folder=SWEEPS)
    for part in said:
        assert part in str(caught.value)


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    shutil.copytree(SWEEPS, folder)
    recipe = folder / "recipe" / "default.yaml"
    recipe.write_text(recipe.read_text().replace("clip_norm: 1.0", "clip_norm: much"))
    with pytest.raises(ConfigError, match=r"recipe\.clip_norm \(.*recipe/default\.yaml\) is 'much'; it needs a number"):
        load_sweep("memory_vs_moe", folder=folder)
    own = folder / "memory_vs_moe.yaml"
    own.write_text(own.read_text().replace("tolerance: ", "tolerence: "))
    with pytest.raises(ConfigError, match=r"Did you mean 'tolerance'"):
        load_sweep("memory_vs_moe", ["recipe.clip_norm=1"], folder=folder)


def test_what_a_sweep_sets_at_one_scale_comes_after_its_own_file_and_before_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    shutil.copytree(SWEEPS, folder)
    at = folder / "at" / "memory_vs_moe_laptop.yaml"
    at.write_text("# @package _global_\nmatching: {tolerance: 0.02}\nscale: {seeds: [7]}\n")
    sweep = load_sweep("memory_vs_moe", folder=folder).sweep
    assert (sweep.matching.tolerance, sweep.scale.seeds, sweep.scale.name) == (0.02, (7,), "laptop")
    assert load_sweep("memory_vs_moe", ["matching.tolerance=0.03"], folder=folder).sweep.matching.tolerance == 0.03
    assert load_sweep("memory_vs_moe", ["scale=node"], folder=folder).sweep.scale.seeds == (0, 1)
    at.write_text("# @package _global_\nmatching: {tolerance: much}\n")
    with pytest.raises(ConfigError, match=r"matching\.tolerance \(.*at/memory_vs_moe_laptop\.yaml\) is 'much'"):
        load_sweep("memory_vs_moe", folder=folder)


def test_an_unknown_sweep_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"memory_vs_moe.*Did you mean 'memory_vs_moe'"):
        load_sweep("memory_vs_mo", folder=SWEEPS)
