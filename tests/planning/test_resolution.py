"""The stated resolution: a simulated report sees the stated difference in 80 % of tables; seeds follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memscale.config.noise import NoiseRow
from memscale.config.sweep import Resolve
from memscale.errors import ConfigError, PlanError
from memscale.planning.comparison import LOSS, RECALL, Design, design_of, measures_of, pairs
from memscale.planning.plan import Plan, make_plan
from memscale.planning.resolution import LEVEL, Resolution, noncentrality, resolution
from memscale.planning.resolve import choose_seeds, fewest_seeds, with_seeds
from tests.planning.shipped import BY_FLOPS, DIGESTS, planned, shipped

FAMILIES = {"dense": "dense", "moe": "moe", "memory_plus": "memory_plus"}
BUDGETS = ("small", "middle", "large")


def design(num_seeds: int, budgets: Sequence[str] = BUDGETS) -> Design:
    cells = {name: {budget: frozenset(range(num_seeds)) for budget in budgets} for name in FAMILIES}
    return Design(seeds=cells, families=FAMILIES, names={name: name for name in FAMILIES})


def noise(std: float = 0.03, measure: str = "loss_nats", **keys: object) -> NoiseRow:
    return NoiseRow(measure=measure, std=std, basis="assumed", origin="a guess", **keys)


def stated(found: Resolution, at: str) -> float:
    (value,) = {round(row.smallest_difference, 12) for row in found.rows if row.at == at}
    return value


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 500))
def test_the_noncentrality_gives_80_percent_by_another_implementation(degrees: float) -> None:
    bound = stats.t.ppf(0.5 + LEVEL / 2, degrees)
    assert stats.nct.sf(bound, degrees, noncentrality(degrees)) == pytest.approx(0.8, abs=1e-6)


def test_with_many_degrees_of_freedom_it_is_lehrs_rule() -> None:
    normal = stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(0.8)
    assert noncentrality(10**5) == pytest.approx(normal, rel=1e-3)
    num_seeds = 400
    assert stated(resolution(design(num_seeds, ["only"]), [LOSS], [noise(1.0)]), "largest") == pytest.approx(
        normal * math.sqrt(2 / num_seeds), rel=5e-3
    )


@pytest.mark.parametrize("of_seed, of_series", [(0.0, 0.0), (2.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("at", ["largest", "mean"])
def test_a_report_sees_the_stated_difference_in_four_of_five_tables(of_seed: float, of_series: float, at: str) -> None:
    """Tables of the model, compared at one budget by its own runs, or on average by an analysis of variance."""
    num_seeds, tables, own = 4, 3000, 1.0
    total = of_seed**2 + of_series**2 + own**2
    row = noise(math.sqrt(total), seed_share=of_seed**2 / total, series_share=of_series**2 / (of_series**2 + own**2))
    found = resolution(design(num_seeds), [LOSS], [row])
    delta = stated(found, at)
    random = np.random.default_rng(1)
    y_TFBS = own * random.normal(size=(tables, 3, 3, num_seeds))
    y_TFBS += of_seed * random.normal(size=(tables, 1, 3, num_seeds))
    y_TFBS += of_series * random.normal(size=(tables, 3, 1, num_seeds))
    y_TFBS[:, 1] += delta
    if of_seed:  # pairing by seed
        y_TFBS = y_TFBS - y_TFBS.mean(axis=1, keepdims=True)
    families = 2 if of_seed else 3
    residual = y_TFBS - y_TFBS.mean(axis=3, keepdims=True)
    of_units = residual.mean(axis=2, keepdims=True)
    degrees = families * (num_seeds - 1)
    between = 3 * (of_units**2).sum(axis=(1, 2, 3)) / degrees
    if at == "mean":
        difference = (y_TFBS[:, 1] - y_TFBS[:, 0]).mean(axis=(1, 2))
        variance, freedom = 2 * between / (3 * num_seeds), np.full(tables, float(degrees))
    else:
        difference = (y_TFBS[:, 1, 2] - y_TFBS[:, 0, 2]).mean(axis=1)
        variance = 2 * (residual[:, :, 2] ** 2).sum(axis=(1, 2)) / degrees / num_seeds
        freedom = np.full(tables, float(degrees))
    seen = np.abs(difference) > stats.t.ppf(0.5 + LEVEL / 2, freedom) * np.sqrt(variance)
    assert seen.mean() == pytest.approx(0.8, abs=0.04)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.floats(0.001, 10), st.floats(0, 0.9), st.floats(0, 0.9))
def test_more_seeds_and_less_noise_see_less_and_the_mean_is_never_coarser_than_a_budget(
    num_seeds: int, std: float, seed_share: float, series_share: float
) -> None:
    row = noise(std, seed_share=seed_share, series_share=series_share)
    for at in ("largest", "mean"):
        here = stated(resolution(design(num_seeds), [LOSS], [row]), at)
        assert stated(resolution(design(num_seeds + 1), [LOSS], [row]), at) < here
        doubled = resolution(design(num_seeds), [LOSS], [replace(row, std=2 * std)])
        assert stated(doubled, at) == pytest.approx(2 * here, rel=1e-6)
    if series_share == 0:
        of_budgets = resolution(design(num_seeds), [LOSS], [replace(row, series_share=0.0)])
        assert stated(of_budgets, "mean") < stated(of_budgets, "largest") or num_seeds == 2


def test_a_row_of_the_budget_or_the_series_counts_before_one_for_all_and_units_are_those_shown() -> None:
    rows = [noise(0.03), noise(0.3, budget="large"), noise(9.0, series="moe", budget="large"),
            noise(0.08, measure="score_facts_recall_acc")]  # fmt: skip
    found = resolution(design(3), [LOSS, RECALL], rows)
    largest = {(row.measure, row.subject, row.baseline): row for row in found.rows if row.at == "largest"}
    assert largest["loss_nats", "memory_plus", "dense"].noise_std == 0.3
    assert largest["loss_nats", "moe", "dense"].noise_std == 9.0
    recall = largest["score_facts_recall_acc", "moe", "dense"]
    assert (recall.noise_std, recall.unit, recall.num_seeds) == (8.0, "points", 3)
    assert set(largest) == {
        (column, *pair)
        for column in ("loss_nats", "score_facts_recall_acc")
        for pair in (("moe", "dense"), ("memory_plus", "dense"), ("memory_plus", "moe"))
    }


def test_only_seeds_and_budgets_that_both_have_count() -> None:
    cells = {
        "dense": {"small": frozenset({0, 1, 2}), "large": frozenset({0, 1, 2})},
        "moe": {"small": frozenset({1, 2, 3}), "huge": frozenset({0, 1})},
    }
    names = {name: name for name in cells}
    found = resolution(Design(seeds=cells, families=names, names=names), [LOSS], [noise()])
    assert {(row.at, row.num_seeds) for row in found.rows} == {("largest", 2), ("mean", 2)}
    assert len({round(row.smallest_difference, 9) for row in found.rows}) == 1  # the one budget that both have


def test_a_budget_with_one_degree_of_freedom_takes_the_noise_of_all() -> None:
    cells = {name: {budget: frozenset({0, 1}) for budget in BUDGETS} for name in ("dense", "moe")}
    names = {name: name for name in cells}
    found = resolution(Design(seeds=cells, families=names, names=names), [LOSS], [noise(seed_share=0.5)])
    degrees = {row.at: row.degrees for row in found.rows}
    assert degrees == {"largest": pytest.approx(3), "mean": 1}  # paired: one at each of three budgets


def test_two_dense_families_are_compared_and_of_many_series_each_with_dense_alone() -> None:
    cells = {f"s{i}": {"small": frozenset({0, 1})} for i in range(40)}
    twins = Design(seeds=cells, families=dict.fromkeys(cells, "dense"), names={name: name for name in cells})
    assert len(list(pairs(twins))) == 40 * 39 // 2
    kinds = {name: "dense" if name == "s0" else "moe" for name in cells}
    assert set(pairs(replace(twins, families=kinds))) == {(name, "s0") for name in cells if name != "s0"}


def test_nothing_is_said_with_one_seed_or_of_unknown_noise() -> None:
    found = resolution(design(1), [LOSS], [noise()])
    assert found.rows == ()
    assert "one seed" in found.missing[0]
    found = resolution(design(3), [LOSS, RECALL], [noise()])
    assert {row.measure for row in found.rows} == {"loss_nats"}
    assert "score_facts_recall_acc" in found.missing[0]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.005, 0.5))
def test_the_chosen_seeds_are_the_fewest(target: float) -> None:
    found = fewest_seeds(design(2), LOSS, [noise()], target=target, at="mean", most=200)
    if found is None:
        assert stated(resolution(design(200), [LOSS], [noise()]), "mean") > target
        return
    assert stated(resolution(design(found), [LOSS], [noise()]), "mean") <= target
    assert found == 2 or stated(resolution(design(found - 1), [LOSS], [noise()]), "mean") > target


def resolving(*overrides: str, **targets: float | str) -> Plan:
    sweep = replace(shipped("memory_vs_moe", *BY_FLOPS, *overrides), resolve=Resolve(**targets))
    return make_plan(sweep, DIGESTS)


TABLE = [noise(0.03, scale="laptop"), noise(0.08, "score_facts_recall_acc", scale="laptop")]


def test_a_sweep_gets_the_seeds_that_its_differences_take() -> None:
    plan = resolving(loss_nats=0.05, recall_points=12, at="mean")
    chosen = choose_seeds(plan, TABLE)
    assert chosen == choose_seeds(plan, TABLE)
    assert chosen.seeds[:2] == plan.sweep.scale.seeds
    assert chosen.notes == ()
    final = make_plan(with_seeds(plan.sweep, chosen.seeds), DIGESTS)
    measures = measures_of(final.sweep.data, scored=True)
    for one, target in ((LOSS, 0.05), (RECALL, 12)):
        assert one in measures
        rows = [row for row in resolution(design_of(final.runs), [one], TABLE).rows if row.at == "mean"]
        assert all(row.smallest_difference <= target for row in rows)
    old = {run.run_id for run in plan.runs if run.run_id} | {run.name for run in plan.runs}
    assert old <= {run.run_id for run in final.runs if run.run_id} | {run.name for run in final.runs}


def test_seeds_are_never_fewer_than_written_and_never_the_tuning_seed() -> None:
    plan = resolving("scale.seeds=[998,999]", "limits.seeds=6", loss_nats=0.001)
    chosen = choose_seeds(plan, TABLE)
    assert plan.sweep.recipe.tune_seeds == (1000, 1001, 1002)
    assert chosen.seeds == (998, 999, 1003, 1004, 1005, 1006)
    assert "needs" in chosen.notes[0]
    assert "limits.seeds allows 6" in chosen.notes[0]
    assert choose_seeds(resolving("scale.seeds=[0,1,2,3]", loss_nats=5.0), TABLE).seeds == (0, 1, 2, 3)
    tuning = len(plan.runs) - len(plan.stage("compare"))
    small = resolving(f"limits.runs={tuning + 38}", loss_nats=0.001)
    few = choose_seeds(small, TABLE)
    assert len(few.seeds) == 38 // 9
    assert len(make_plan(with_seeds(small.sweep, few.seeds), DIGESTS).runs) <= tuning + 38
    assert "limits.runs allows 4" in few.notes[0]


def test_what_cannot_be_resolved_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"resolve\.bits_per_parameter .* has no such measure"):
        choose_seeds(resolving(bits_per_parameter=0.1), TABLE)
    with pytest.raises(PlanError, match=r"no table of noise has a row for loss_nats at the scale laptop"):
        choose_seeds(resolving(loss_nats=0.1), [noise(scale="node")])
    with pytest.raises(ConfigError, match="names no difference"):
        Resolve()
    grid = planned("memory_vs_moe", "scale=laptop", "+grid=[{families:[dense],product:{seed:[0,1]}}]")
    with pytest.raises(PlanError, match=r"grid\[0\] names seeds"):
        choose_seeds(replace(grid, sweep=replace(grid.sweep, resolve=Resolve(loss_nats=0.1))), TABLE)


def test_the_shipped_tables_are_read_and_say_what_they_rest_on(tmp_path: Path) -> None:
    from memscale.config.noise import read_noise_tables
    from tests.planning.shipped import SWEEPS

    rows = read_noise_tables(SWEEPS)
    assert {row.measure for row in rows} >= {"loss_nats", "score_facts_recall_acc", "bits_stored_per_parameter"}
    assert all(row.origin for row in rows)
    assert read_noise_tables(tmp_path) == ()
    (tmp_path / "noise").mkdir()
    bad = {"measure,std\nloss_nats,1\n": "line 2", "measure,stdd\n": "stdd", "": "columns",
           "measure,std,basis,origin\nloss_nats,-1,assumed,x\n": "std", "measure,std\na,b,c\n": "line 2"}  # fmt: skip
    for text, told in bad.items():
        (tmp_path / "noise" / "bad.csv").write_text(text)
        with pytest.raises(ConfigError, match=told):
            read_noise_tables(tmp_path)
