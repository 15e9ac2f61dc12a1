"""The plan: a pure function with a hash, two stages, and a golden file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from memscale.config.codec import to_plain
from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.errors import PlanError
from memscale.launch.convert import plan_row
from memscale.planning.budgets import size_knowledge
from memscale.planning.plan import Plan, choose_rates, make_plan, number_name, open_compare

SWEEPS = Path(__file__).parents[2] / "sweeps"
GOLDEN = Path(__file__).parent / "golden"
DIGESTS = Digests(data="d" * 64, tokenizer="t" * 64, evaluation="e" * 64)


def shipped(*overrides: str) -> Sweep:
    return size_knowledge(load_sweep("memory_vs_moe", ["launcher=local", *overrides], folder=SWEEPS).sweep)


def opened(plan: Plan) -> Plan:
    losses = {run.run_id or "": float(i % 7) for i, run in enumerate(plan.stage("tune"))}
    return open_compare(plan, choose_rates(plan, losses))


@pytest.mark.parametrize("scale", ["laptop", "node"])
def test_the_shipped_plan_is_the_golden_one(scale: str) -> None:
    plan = opened(make_plan(shipped(f"scale={scale}"), DIGESTS))
    content = {"plan_hash": plan.plan_hash, "runs": [to_plain(plan_row(plan.sweep, run)) for run in plan.runs]}
    path = GOLDEN / f"memory_vs_moe-{scale}.json"
    text = json.dumps(content, indent=1) + "\n"
    assert path.read_text() == text, f"the plan changed; if that is meant, write it anew: {path}"


@pytest.mark.parametrize("scale", ["laptop", "node"])
def test_every_row_is_matched_within_a_percent(scale: str) -> None:
    plan = make_plan(shipped(f"scale={scale}"), DIGESTS)
    for run in plan.runs:
        assert abs(run.flops_off) <= 0.01
        assert run.tokens % plan.sweep.scale.batch_tokens == 0
    for budget in {run.budget_flops for run in plan.runs}:
        runs = [run for run in plan.stage("compare") if run.budget_flops == budget]
        assert len({run.tokens for run in runs}) == 1
        sparse = {run.counts.params_total for run in runs if run.family != "dense"}
        assert max(sparse) / min(sparse) - 1 <= 0.01
        dense = next(run.counts.params_total for run in runs if run.family == "dense")
        assert all(run.counts.params_table >= 8 * dense for run in runs if run.family == "memory_plus")


def test_a_plan_is_the_same_in_another_process() -> None:
    code = (
        "from tests.planning.test_plan import *\n"
        "p = opened(make_plan(shipped(), DIGESTS)); print(p.plan_hash, [r.run_id for r in p.runs])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    }
    plan = opened(make_plan(shipped(), DIGESTS))
    assert outputs == {f"{plan.plan_hash} {[run.run_id for run in plan.runs]}\n"}


def test_the_compare_stage_waits_for_the_tune_stage() -> None:
    plan = make_plan(shipped(), DIGESTS)
    assert all(run.run_id is not None for run in plan.stage("tune"))
    assert all(run.run_id is None for run in plan.stage("compare"))
    seeds = {run.seed for run in plan.stage("tune")}
    assert seeds.isdisjoint(plan.sweep.scale.seeds)
    assert {run.budget_flops for run in plan.stage("tune")} == {min(b.flops for b in plan.sweep.scale.budgets)}


def test_the_rates_with_the_lowest_loss_are_compared() -> None:
    plan = make_plan(shipped(), DIGESTS)
    tune = plan.stage("tune")
    best = {family.family: [run for run in tune if run.family == family.family][1] for family in plan.sweep.families}
    losses = {run.run_id or "": 1.0 if run is best[run.family] else 2.0 for run in tune}
    plan = open_compare(plan, choose_rates(plan, losses))
    for run in plan.stage("compare"):
        tuned = best[run.family].run
        assert run.run is not None
        assert tuned is not None
        scale = tuned.architecture.d_model / run.architecture.d_model  # the default width_exponent is 1
        assert run.run.optimizer.learning_rate == pytest.approx(tuned.optimizer.learning_rate * scale)
        if tuned.optimizer.table_learning_rate is not None:
            assert run.run.optimizer.table_learning_rate == pytest.approx(tuned.optimizer.table_learning_rate * scale)
        assert run.run.optimizer.clip_norm == tuned.optimizer.clip_norm
    assert len({run.run_id for run in plan.runs}) == len(plan.runs)
    assert len({run.name for run in plan.runs}) == len(plan.runs)


def test_the_hash_covers_the_question_asked_but_not_where_it_runs() -> None:
    one = make_plan(shipped(), DIGESTS)
    assert make_plan(shipped("launcher.slots=7"), DIGESTS).plan_hash == one.plan_hash
    for override in ("recipe.clip_norm=2", "scale.seeds=[0,2]", "families.memory_plus.knn=8", "recipe.tune_seed=7"):
        assert make_plan(shipped(override), DIGESTS).plan_hash != one.plan_hash
    assert make_plan(shipped(), replace(DIGESTS, data="x")).plan_hash != one.plan_hash


def test_every_other_seed_data_and_rate_is_another_run() -> None:
    ids = [
        run.run_id
        for plan in (shipped(), shipped("recipe.tune_seed=7"))
        for run in make_plan(plan, DIGESTS).stage("tune")
    ]
    assert len(set(ids)) == len(ids)


def test_budgets_that_buy_no_batch_are_refused() -> None:
    with pytest.raises(PlanError, match=r"buy less than one batch of 512 tokens.*Raise the budget"):
        make_plan(shipped("scale.budgets=[{flops: 1e6, d_model: 64, num_layers: 4, num_heads: 4}]"), DIGESTS)


def test_names_keep_every_digit() -> None:
    assert [number_name(x) for x in (9.6e7, 1.04e8, 2e18, 2.15e18, 0.005, 1e-4, 12.0)] == [
        "9.6e7", "1.04e8", "2e18", "2.15e18", "0.005", "0.0001", "12",
    ]  # fmt: skip


def test_knowledge_is_sized_by_its_rule() -> None:
    sweep = shipped("data.sources.facts.bits_per_parameter=0.5")
    facts = sweep.data.sources[0]
    smallest = min(make_plan(sweep, DIGESTS).runs, key=lambda run: (run.counts.params_total, run.budget_flops))
    bits = facts.bits_per_person * facts.num_people  # type: ignore[attr-defined]
    assert bits == pytest.approx(0.5 * smallest.counts.params_non_embedding, rel=0.01)
    with pytest.raises(PlanError, match=r"Raise bits_per_parameter"):
        shipped("data.sources.facts.bits_per_parameter=1e-5")


def test_planning_imports_neither_torch_nor_mlflow_and_is_quick_to_import() -> None:
    code = (
        "import sys, memscale.cli.plan, memscale.planning.plan\n"
        "print([m for m in ('torch', 'mlflow', 'datasets', 'transformers', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
