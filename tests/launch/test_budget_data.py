"""Each budget's own data on disk: what the plan was given digests of, under one tokenizer, prepared once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memscale.config.data import Data, DenseFacts, TokenizerConfig
from memscale.config.load import load_sweep
from memscale.config.sweep import Sweep
from memscale.launch.budget_data import data_folders, data_of_run, plan_digests, prepare_plan
from memscale.launch.convert import run_file
from memscale.planning.plan import make_plan
from memscale.records.layout import RunPaths

SHAPE = "d_model: 32, num_layers: 4, num_heads: 2"


@pytest.fixture
def sweep() -> Sweep:
    budgets = ("0.5", "1", "1")
    listed = ", ".join(
        f"{{name: b{number}, exposures: {5 + number}, bits_per_parameter: {bits}, {SHAPE}}}"
        for number, bits in enumerate(budgets)
    )
    small = [
        "scale.sequence_length=32",
        "scale.batch_tokens=256",
        "matching.total_over_dense=3",
        f"scale.budgets=[{listed}]",
    ]
    sweep = load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop", *small]).sweep
    tokenizer = TokenizerConfig(vocab_size=800, train_bytes=20_000)
    return replace(sweep, data=Data(name="entries", sources=(DenseFacts(name="entries"),), tokenizer=tokenizer))


def test_every_budget_finds_the_data_that_its_runs_were_planned_for(sweep: Sweep, tmp_path: Path) -> None:
    digests = plan_digests(sweep)
    plan = make_plan(sweep, digests)
    found = prepare_plan(plan, tmp_path)
    assert set(found) == {"b0", "b1", "b2"}
    assert found["b1"] is found["b2"]  # the same facts, read more often
    folders = {found[name].folder for name in found}
    assert (
        set(data_folders(plan, tmp_path)) == folders == {path.parent for path in tmp_path.glob("data/*/manifest.json")}
    )
    assert len({(folder / "tokenizer.json").read_bytes() for folder in folders}) == 1
    for run in plan.stage("tune"):
        assert run.run is not None
        paths = RunPaths(tmp_path / sweep.name / "run")
        assert data_of_run(paths, run.run.digests) == found[run.budget].folder
        assert found[run.budget].digests == run.run.digests
        file = run_file(plan, run)
        assert file.data == plan.by_budget[run.budget].data
        assert file.dense_params_non_embedding == plan.by_budget[run.budget].params_non_embedding


def test_a_run_reads_each_fact_as_often_as_the_plan_says(sweep: Sweep, tmp_path: Path) -> None:
    plan = make_plan(sweep, plan_digests(sweep))
    for name, prepared in prepare_plan(plan, tmp_path).items():
        baseline = plan.by_budget[name]
        (source,) = baseline.data.sources
        assert isinstance(source, DenseFacts)
        tokens = prepared.manifest.sources[0].train.num_tokens
        read = baseline.tokens / tokens * source.num_passes  # the tokens of a fact, counted from the files
        assert read == pytest.approx(5 + int(name[1:]), rel=0.01)
