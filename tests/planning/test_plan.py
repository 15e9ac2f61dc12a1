"""The plan: a pure function with a hash, stages, and a golden file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from memscale.config.codec import to_plain
from memscale.errors import ConfigError, PlanError
from memscale.launch.convert import plan_row
from memscale.planning.identity import run_id
from memscale.planning.names import number_name
from memscale.planning.plan import Plan, make_plan
from tests.planning.shipped import DIGESTS, NAMES, SCALES, is_offered, opened, planned, shipped

GOLDEN = Path(__file__).parent / "golden"
PLANS = [(name, scale) for name in NAMES for scale in SCALES if is_offered(name, scale)]


KEPT = ("name", "run_id", "tokens", "batch_tokens", "learning_rate", "params_total", "flops_per_token_forward")


def golden_text(plan: Plan) -> str:
    """What a golden file holds: the hash, and of every run its identity and what a reader would check."""
    rows = [json.dumps([to_plain(plan_row(run))[key] for key in KEPT]) for run in plan.runs]
    return f'{{"plan_hash": "{plan.plan_hash}", "keys": {json.dumps(KEPT)}, "runs": [\n' + ",\n".join(rows) + "\n]}\n"


@pytest.mark.parametrize(("name", "scale"), PLANS)
def test_a_shipped_plan_is_the_golden_one(name: str, scale: str) -> None:
    path = GOLDEN / f"{name}-{scale}.json"
    text = golden_text(opened(planned(name, f"scale={scale}")))
    json.loads(text)
    assert path.read_text() == text, f"the plan changed; if that is meant, write it anew: {path}"


@pytest.mark.parametrize(("name", "scale"), PLANS)
def test_what_a_shipped_sweep_holds_equal_is_equal(name: str, scale: str) -> None:
    plan = planned(name, f"scale={scale}")
    limit = 0.01 if scale == "laptop" else 0.005
    matching = plan.sweep.matching
    budgets = {run.budget for run in plan.runs}
    for run in plan.runs:
        assert [word for word, _ in run.mismatch] == list(matching.equal_per_token)
        assert all(abs(mismatch) <= limit for _, mismatch in run.mismatch)
        if "flops_per_token" in matching.equal:
            assert abs(run.flops_mismatch) <= limit
        assert run.tokens % run.batch_tokens == 0
    for budget in budgets:
        runs = [run for run in plan.stage("compare") if run.budget == budget]
        assert len({run.tokens for run in runs}) == 1
        sparse = {run.counts.params_total for run in runs if run.family != "dense"}
        if matching.sparse_equal == "total_params" and sparse:
            assert max(sparse) / min(sparse) - 1 <= limit


def test_the_sparse_models_hold_what_the_sweep_asks_for() -> None:
    plan = planned("memory_vs_moe", "scale=laptop")
    assert plan.sweep.matching.total_over_dense == 4
    runs = plan.stage("compare")
    dense = {run.budget: run.counts.params_total for run in runs if run.family == "dense"}
    for run in runs:
        if run.family != "dense":
            assert 4 * 0.99 <= run.counts.params_total / dense[run.budget] <= 4 * 1.1 * 1.01


def test_a_plan_is_the_same_in_another_process() -> None:
    code = (
        "from tests.planning.test_plan import *\n"
        "p = opened(planned('memory_vs_moe')); print(p.plan_hash, [r.run_id for r in p.runs])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
        for env in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"})
    }
    plan = opened(planned("memory_vs_moe"))
    assert outputs == {f"{plan.plan_hash} {[run.run_id for run in plan.runs]}\n"}


def test_later_stages_wait_for_the_first() -> None:
    plan = planned("memory_vs_moe")
    assert all(run.run_id is not None for run in plan.stage("tune"))
    assert all(run.run_id is None for stage in ("tune-2", "compare") for run in plan.stage(stage))
    seeds = {run.seed for run in plan.runs if run.stage != "compare"}
    assert len(seeds) == 3
    assert seeds.isdisjoint(plan.sweep.scale.seeds)
    smallest = min(plan.baselines, key=lambda baseline: baseline.flops)
    assert {run.budget for run in plan.stage("tune")} == {smallest.name}


def test_the_rates_with_the_lowest_loss_are_compared() -> None:
    plan = planned("memory_vs_moe")
    tune = plan.stage("tune")
    best = {family.family: [run for run in tune if run.family == family.family][2] for family in plan.sweep.families}
    rates = {family: run.run.optimizer for family, run in best.items() if run.run is not None}
    plan = opened(plan, lambda _, run: 1.0 if run.run and run.run.optimizer == rates[run.family] else 2.0)
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
    one = planned("memory_vs_moe")
    assert make_plan(shipped("memory_vs_moe", "launcher.workers=7"), DIGESTS).plan_hash == one.plan_hash
    for override in ("recipe.clip_norm=2", "scale.seeds=[0,2]", "families.memory_plus.knn=8", "recipe.tune_seed=7"):
        assert planned("memory_vs_moe", override).plan_hash != one.plan_hash
    assert make_plan(shipped("memory_vs_moe"), replace(DIGESTS, data="x")).plan_hash != one.plan_hash


def test_every_other_seed_data_and_rate_is_another_run() -> None:
    ids = [
        run.run_id
        for plan in (shipped("memory_vs_moe"), shipped("memory_vs_moe", "recipe.tune_seed=7"))
        for run in opened(make_plan(plan, DIGESTS)).runs
        if run.stage != "compare"
    ]
    assert len(set(ids)) == len(ids)


def test_names_keep_every_digit() -> None:
    assert [number_name(x) for x in (9.6e7, 1.04e8, 2e18, 2.15e18, 0.005, 1e-4, 12.0)] == [
        "9.6e7", "1.04e8", "2e18", "2.15e18", "0.005", "0.0001", "12",
    ]  # fmt: skip


def test_knowledge_is_sized_by_its_rule() -> None:
    sweep = shipped("memory_vs_moe", "data.sources.facts.bits_per_parameter=0.5")
    facts = next(source for source in sweep.data.sources if source.name == "facts")
    smallest = min(make_plan(sweep, DIGESTS).runs, key=lambda run: (run.counts.params_total, run.budget_flops))
    bits = facts.bits_per_person * facts.num_people
    assert bits == pytest.approx(0.5 * smallest.counts.params_non_embedding, rel=0.01)
    with pytest.raises(PlanError, match=r"Raise bits_per_parameter"):
        shipped("memory_vs_moe", "data.sources.facts.bits_per_parameter=1e-5")


def test_planning_imports_neither_torch_nor_mlflow_and_is_quick_to_import() -> None:
    code = (
        "import sys, memscale.cli.plan, memscale.planning.plan\n"
        "print([m for m in ('torch', 'mlflow', 'datasets', 'transformers', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_with_a_rule_nothing_is_tuned_and_every_run_has_its_rate() -> None:
    plan = planned(
        "memory_vs_moe",
        "scale=node",
        "recipe.learning_rate={rule: steplaw, multiplier: 0.5, multipliers: {moe: 2}, table_factor: 3}",
        "recipe.learning_rate.allow_outside=true",
    )
    assert plan.is_open
    assert not plan.stage("tune")
    assert any(note.startswith("learning rate by the rule steplaw") for note in plan.notes)
    rates = {(run.family, run.budget): run.run.optimizer for run in plan.runs if run.run is not None}
    dense = {run.budget: run for run in plan.runs if run.family == "dense"}
    for budget, baseline in dense.items():
        wanted = 0.5 * 1.79 * baseline.counts.params_non_embedding**-0.713 * baseline.tokens**0.307
        assert rates["dense", budget].learning_rate == pytest.approx(wanted, rel=1e-9)
        assert rates["moe", budget].learning_rate == pytest.approx(2 * wanted, rel=1e-9)
        assert rates["memory_plus", budget].table_learning_rate == pytest.approx(3 * wanted, rel=1e-9)
        assert rates["dense", budget].table_learning_rate is None


def test_a_rule_outside_its_range_is_refused_unless_allowed_and_then_said() -> None:
    rule = "recipe.learning_rate.rule=deepseek"
    with pytest.raises(PlanError, match=r"recipe.learning_rate: deepseek.*allow_outside=true"):
        planned("memory_vs_moe", rule)
    plan = planned("memory_vs_moe", rule, "recipe.learning_rate.allow_outside=true")
    assert sum("learning rate outside its range" in note for note in plan.notes) == len(plan.sweep.scale.budgets)
    with pytest.raises(ConfigError, match=r"'deepseak'.*Did you mean 'deepseek'"):
        planned("memory_vs_moe", "recipe.learning_rate.rule=deepseak")


def test_equal_flops_of_a_run_instead_of_a_token_let_the_tokens_differ() -> None:
    plan = planned("memory_vs_moe", "matching.equal=[active_params, flops_train]", "matching.tolerance=0.05")
    dense = {run.budget: run for run in plan.stage("compare") if run.family == "dense"}
    for run in plan.stage("compare"):
        assert run.flops_train == pytest.approx(
            dense[run.budget].flops_train, abs=run.flops_train / run.tokens * run.batch_tokens / 2 * 1.001
        )
        assert dict(run.mismatch)["active_params"] == pytest.approx(
            run.counts.params_active / dense[run.budget].counts.params_active - 1
        )
    assert len({run.tokens for run in plan.stage("compare") if run.budget == plan.runs[-1].budget}) > 1


def test_two_names_for_one_experiment_are_refused() -> None:
    default = "{families: [memory_plus], product: {gated: [true]}}"
    with pytest.raises(PlanError, match=r"train the same model on the same tokens.*repeats a default"):
        planned("memory_vs_moe", f"grid=[{{families: [memory_plus]}}, {default}]")
    fixed = "recipe.learning_rate={rule: fixed, value: 1e-3}"
    again = "+families.again={family: moe}"
    with pytest.raises(PlanError, match=r"are the same experiment \(both [0-9a-f]{12}\)"):
        planned("memory_vs_moe", fixed, again, "families.moe={}", "matching.free={}")


def test_every_identity_is_the_one_of_its_run_alone() -> None:
    for run in opened(planned("memory_vs_moe", "scale=node")).runs:
        assert run.run is not None
        assert run.run_id == run_id(run.run)


def test_the_flops_that_the_published_models_differ_by_are_planned() -> None:
    """REFERENCE section 1: Memory+ against its dense base at 4,096 tokens, in percent."""
    runs = planned("memory_layers_at_scale", "scale=paper").runs
    mismatch = {
        (run.budget, run.architecture.num_slots): 100 * run.flops_mismatch
        for run in runs
        if run.family == "memory_plus"
    }
    published = {
        1024**2: (-1.4, -1.5, -2.3, -2.9), 4096**2: (8.2, 2.8, 1.2, -0.2), 8192**2: (21.0, 8.5, 5.9, 3.5),
    }  # fmt: skip
    for num_slots, row in published.items():
        for budget, wanted in zip(("134m", "373m", "720m", "1.3b"), row, strict=True):
            assert mismatch[budget, num_slots] == pytest.approx(wanted, abs=0.1)


def test_the_documented_table_of_flop_differences_is_the_planned_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "counting.md").read_text()
    shown = {
        int(slots) ** 2: [float(cell.strip().removesuffix(" %")) for cell in cells.strip("| \n").split("|")]
        for slots, cells in re.findall(r"^\| (\d+)² \|(.*)$", text, flags=re.MULTILINE)
    }
    bases = ["134m", "373m", "720m", "1.3b"]
    for run in planned("memory_layers_at_scale", "scale=paper").runs:
        if run.family == "memory_plus":
            assert run.architecture.num_slots is not None
            row = shown[run.architecture.num_slots]
            assert row[bases.index(run.budget)] == round(100 * run.flops_mismatch, 1)
