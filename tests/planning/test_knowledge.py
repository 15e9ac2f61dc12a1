"""Facts by budget: sized by each budget's own dense model, read as often as asked, and part of each run's identity."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memscale.config.data import Data, DenseFacts, PythonStdlib
from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.config.sweep import Sweep
from memscale.errors import PlanError
from memscale.planning.accounting import count
from memscale.planning.budgets import dense_baselines
from memscale.planning.knowledge import offered_facts
from memscale.planning.plan import make_plan
from tests.planning.shipped import DIGESTS, shipped

SMALL = "d_model: 48, num_layers: 4, num_heads: 3"
LARGE = "d_model: 96, num_layers: 4, num_heads: 6"
TOKENS_PER_FACT = 1 + 2 + 2 + 1 + 1 / 32
"""A mark, two words of key, two of value, end of line; 32 facts share a document's end."""


def sweep_of(*budgets: str, weight: float = 3.0, num_facts: int | None = None) -> Sweep:
    """The shipped sweep at these budgets, its data three quarters facts."""
    listed = ", ".join(f"{{{budget}}}" for budget in budgets)
    sweep = load_sweep("memory_vs_moe", ["launcher=local", "scale=laptop", f"scale.budgets=[{listed}]"]).sweep
    facts = DenseFacts(name="entries", weight=weight, num_facts=num_facts, value_words=2)
    sources = (facts, PythonStdlib(name="code", weight=1.0))
    return replace(sweep, data=Data(name="entries_and_code", sources=sources, tokenizer=sweep.data.tokenizer))


def digests_of(sweep: Sweep) -> dict[str, Digests]:
    names = [baseline.name for baseline in dense_baselines(sweep).baselines]
    return {name: replace(DIGESTS, data=f"{number:064d}") for number, name in enumerate(names)}


def test_each_budget_has_as_many_facts_as_its_own_dense_model_is_to_hold() -> None:
    sweep = sweep_of(f"flops: 4e11, {SMALL}", f"flops: 2e12, {LARGE}", f"flops: 3e12, bits_per_parameter: 0.5, {LARGE}")
    small, large, half = dense_baselines(sweep).baselines
    assert (small.name, large.name, half.name) == ("4e11", "2e12", "3e12-0.5bpp")
    for baseline, bits in ((small, 1.0), (large, 1.0), (half, 0.5)):
        params = count(baseline.dense, sweep.scale.sequence_length).params_non_embedding
        assert baseline.params_non_embedding == params
        held = baseline.data.sources[0].knowledge
        assert held is not None
        assert abs(held.bits - bits * params) <= 6  # half a fact
        assert baseline.data.sources[1] == sweep.data.sources[1]


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_exposures_are_met_to_half_a_batch(weight: float) -> None:
    sweep = sweep_of(f"exposures: 31, bits_per_parameter: 0.5, {SMALL}", f"exposures: 31, {SMALL}", weight=weight)
    half, whole = dense_baselines(sweep).baselines
    assert (half.name, whole.name) == ("31exp-0.5bpp-d48-L4", "31exp-d48-L4")
    for baseline in (half, whole):
        held = baseline.data.sources[0].knowledge
        assert held is not None
        read = baseline.tokens * weight / (weight + 1) / TOKENS_PER_FACT  # facts, over the run
        batch = sweep.scale.batch_tokens * weight / (weight + 1) / TOKENS_PER_FACT
        assert abs(read - 31 * held.num_facts) <= batch / 2 + 1e-6
        (offered,) = offered_facts(baseline.data, baseline.params_non_embedding, baseline.tokens)
        assert offered.exposures == pytest.approx(read / held.num_facts)
        assert offered.bits_per_parameter == pytest.approx(held.bits / baseline.params_non_embedding)


def test_facts_of_a_given_number_are_the_same_at_every_budget() -> None:
    sweep = sweep_of(f"exposures: 31, {SMALL}", f"flops: 2e12, {LARGE}", num_facts=1000)
    assert {baseline.data for baseline in dense_baselines(sweep).baselines} == {sweep.data}
    with pytest.raises(PlanError, match=r"budget 2e12-2bpp asks for 2 bits.*no source.*sized by budget"):
        dense_baselines(sweep_of(f"flops: 2e12, bits_per_parameter: 2, {LARGE}", num_facts=1000))


def test_exposures_of_nothing_that_can_be_counted_are_refused() -> None:
    with pytest.raises(PlanError, match=r"asks for 31 exposures.*facts of kind 'facts', python_stdlib"):
        dense_baselines(shipped("memory_vs_moe", "data=facts_and_code", f"scale.budgets=[{{exposures: 31, {SMALL}}}]"))


def test_the_data_of_a_budget_are_part_of_its_runs_and_of_no_others() -> None:
    tokens = "tokens: 200000"
    sweep = sweep_of(f"{tokens}, {SMALL}", f"{tokens}, bits_per_parameter: 0.5, {SMALL}")
    digests = digests_of(sweep)
    plan = make_plan(sweep, digests)  # budgets that differ in their data alone are no duplicates
    for run in plan.stage("tune"):
        assert run.run is not None
        assert run.run.digests == digests[run.budget]
    tuned = plan.stage("tune")[0].budget
    (other,) = (baseline.name for baseline in plan.baselines if baseline.name != tuned)
    changed = make_plan(sweep, {**digests, other: replace(DIGESTS, data="x")})
    assert changed.plan_hash != plan.plan_hash
    assert [run.run_id for run in changed.stage("tune")] == [run.run_id for run in plan.stage("tune")]
    changed = make_plan(sweep, {**digests, tuned: replace(DIGESTS, data="x")})
    assert {run.run_id for run in changed.stage("tune")}.isdisjoint({run.run_id for run in plan.stage("tune")})
    with pytest.raises(PlanError, match=rf"{other} has no digests"):
        make_plan(sweep, {tuned: DIGESTS})
    with pytest.raises(PlanError, match="train the same model on the same tokens"):
        make_plan(sweep, dict.fromkeys(digests, DIGESTS))


def test_runs_on_the_same_data_have_the_identity_that_they_had_with_one_digest_for_all() -> None:
    sweep = shipped("memory_vs_moe")
    names = [baseline.name for baseline in dense_baselines(sweep).baselines]
    one, each = make_plan(sweep, DIGESTS), make_plan(sweep, dict.fromkeys(names, DIGESTS))
    assert [run.run_id for run in one.runs] == [run.run_id for run in each.runs]
