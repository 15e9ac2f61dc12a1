"""Tuning: as many points for every family, extension at edges, rounds with fresh seeds, the least mean of the last."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise

import pytest

from memscale.config.recipe import Recipe, Tune
from memscale.errors import ConfigError, PlanError
from memscale.planning.choices import Trial, beyond_edge, choose, noise_of
from memscale.planning.opening import open_next, opened_as
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.tuning import (
    Rates,
    first_grid,
    grid_of,
    most_extra_points,
    points_of_rounds,
    seeds_of_round,
    stages,
)
from tests.planning.shipped import opened, planned

RECIPE = Recipe(name="r", tune=Tune(learning_rates=(1e-2, 2e-3, 5e-3), table_factors=(4.0, 1.0)))


def recipe(rates: tuple[float, ...], factors: tuple[float, ...] = (1.0,), **tune: object) -> Recipe:
    return Recipe(name="r", tune=Tune(learning_rates=rates, table_factors=factors, **tune))


def trial(rates: Rates, loss: float | None, stage: str = "tune", seed: int = 0) -> Trial:
    return Trial(rates=rates, stage=stage, seed=seed, loss=loss)


def rates_of(run: PlannedRun) -> Rates:
    assert run.run is not None
    used = run.run.optimizer
    return Rates(learning_rate=used.learning_rate, table_learning_rate=used.table_learning_rate)


def test_families_with_and_without_a_table_have_as_many_points_over_the_same_range() -> None:
    chance = random.Random(3)
    for _ in range(200):
        num_rates, num_factors = chance.randint(2, 6), chance.randint(1, 5)
        given = recipe(
            tuple(chance.sample([float(f"{1e-4 * 1.37**power:.3g}") for power in range(30)], num_rates)),
            tuple(chance.sample([0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 8.0], num_factors)),
        )
        table, plain = (first_grid(given, has_table=has_table) for has_table in (True, False))
        assert len(table.points()) == len(plain.points()) == given.tune.num_points == num_rates * num_factors
        assert set(given.tune.learning_rates) <= set(plain.learning_rates)
        assert plain.learning_rates[0] == min(given.tune.learning_rates)
        assert plain.learning_rates[-1] == max(given.tune.learning_rates)
        assert list(plain.learning_rates) == sorted(plain.learning_rates)
        if num_factors > 1:  # no gap is left as wide as the widest that was given
            widest = max(high / low for low, high in pairwise(sorted(given.tune.learning_rates)))
            assert max(high / low for low, high in pairwise(plain.learning_rates)) < widest
        assert grid_of(given, table.points()) == table
        assert grid_of(given, plain.points()) == plain


def test_the_points_of_a_table_are_every_rate_with_every_multiple() -> None:
    points = first_grid(RECIPE, has_table=True).points()
    assert [(one.learning_rate, one.table_learning_rate) for one in points] == [
        (2e-3, 2e-3), (2e-3, 8e-3), (5e-3, 5e-3), (5e-3, 2e-2), (1e-2, 1e-2), (1e-2, 4e-2),
    ]  # fmt: skip


def test_a_grid_is_extended_beyond_the_edge_of_its_best_point_and_nowhere_else() -> None:
    given = recipe((1e-3, 6e-3, 3e-2), (0.5, 3.0, 4.0))
    grid = first_grid(given, has_table=True)
    for best in grid.points():
        new = beyond_edge("memory", grid, [trial(one, 1.0 if one == best else 2.0) for one in grid.points()])
        rates, factors = ({getattr(one, name) for one in new} for name in ("learning_rate", "table_factor"))
        outside = {1e-3: {1.67e-4}, 3e-2: {0.15}}.get(best.learning_rate, set())
        assert rates - set(grid.learning_rates) == outside
        beyond = {0.5: {0.0833}, 4.0: {5.33}}.get(best.table_factor, set())
        assert {float(f"{factor:.3g}") for factor in factors} - set(grid.table_factors) == beyond
        assert len(new) == 3 * len(outside) + 3 * len(beyond) + len(outside) * len(beyond)
        assert grid.at_edge(best) == bool(new)
    plain = first_grid(given, has_table=False)
    assert len(beyond_edge("dense", plain, [trial(one, one.learning_rate) for one in plain.points()])) == 3
    one_rate = recipe((0.01,))
    assert beyond_edge("dense", first_grid(one_rate, has_table=True), [trial(Rates(learning_rate=0.01), 1.0)]) == ()


def test_a_rate_below_one_that_diverged_is_not_at_the_edge() -> None:
    grid = first_grid(recipe((2e-3, 5e-3, 1e-2)), has_table=False)
    trials = [trial(one, loss) for one, loss in zip(grid.points(), [3.0, 2.0, math.nan], strict=True)]
    assert beyond_edge("dense", grid, trials) == ()
    choice = choose("dense", grid, trials)
    assert (choice.rates, choice.at_edge) == (grid.points()[1], False)
    assert [one.loss for one in choice.trials] == [3.0, 2.0, None]


def test_the_least_mean_of_the_last_round_is_chosen_and_one_that_diverged_once_is_not() -> None:
    grid = first_grid(recipe((2e-3, 5e-3, 1e-2)), has_table=False)
    low, middle, high = grid.points()
    first = [trial(one, 0.0 if one == low else 1.0) for one in grid.points()]
    last = [trial(low, 3.0, "tune-2", 1), trial(low, 3.0, "tune-2", 2)]
    last += [trial(middle, 2.0, "tune-2", 1), trial(middle, 3.0, "tune-2", 2)]
    last += [trial(high, 1.0, "tune-2", 1), trial(high, None, "tune-2", 2)]
    assert choose("dense", grid, [*first, *last]).rates == middle
    assert choose("dense", grid, [*first, trial(low, 5.0, "tune-3", 3), *last]).rates == low
    assert choose("dense", grid, [trial(one, 1.0) for one in grid.points()]).rates == low  # on a tie
    with pytest.raises(PlanError, match="no tuning run of dense ended with a finite loss"):
        choose("dense", grid, [trial(one, math.inf) for one in grid.points()])


def test_within_a_standard_error_the_lowest_rates_are_chosen_and_the_noise_is_that_of_all_families() -> None:
    grid = first_grid(recipe((2e-3, 5e-3, 1e-2)), has_table=False)
    low, middle, high = grid.points()
    first = [trial(one, 1.0) for one in grid.points()]

    def last(losses: dict[Rates, tuple[float, float]]) -> list[Trial]:
        return [trial(one, loss, "tune-2", seed) for one, pair in losses.items() for seed, loss in enumerate(pair)]

    noisy = [*first, *last({low: (2.00, 2.20), middle: (1.95, 2.15), high: (1.90, 2.10)})]
    quiet = [*first, *last({low: (2.10, 2.10), high: (2.00, 2.00)})]
    # Five points with a degree of freedom each, three of them .1 off their means: s^2 = 3 x 2 x .1^2 / 5.
    noise = noise_of([noisy, quiet])
    assert noise == pytest.approx(math.sqrt(0.06 / 5))
    assert noise / math.sqrt(2) == pytest.approx(0.0775, abs=1e-4)
    assert choose("moe", grid, noisy, noise).rates == middle  # .05 worse than the best; the lowest is .1 worse
    assert choose("dense", grid, quiet, noise).rates == high  # its next is .1 worse
    assert choose("moe", grid, noisy).rates == high
    assert choose("dense", grid, quiet, 0.2).rates == low
    assert noise_of([[trial(one, 1.0) for one in grid.points()]]) == 0.0


def test_the_plan_chooses_by_the_rule_of_its_recipe() -> None:
    """Losses least at .015, which leads by less than the standard error of runs that stray by .07."""
    for choice, expected in (("best", 0.015), ("one_standard_error", 0.0075)):
        plan = planned("memory_vs_moe", "scale=laptop", f"recipe.tune.choice={choice}")
        while (stage := plan.next_stage) is not None:
            rates = {
                run.run_id: (run.run.optimizer.learning_rate, run.seed) for run in plan.runs if run.run is not None
            }
            plan = open_next(
                plan,
                {one: 2 + 0.05 * abs(math.log(rate / 0.015)) + 0.1 * (seed % 2) for one, (rate, seed) in rates.items()},
            )
        assert stage is None
        assert {one.rates.learning_rate for one in plan.choices if one.family_name == "memory_plus"} == {expected}


def test_rounds_have_fewer_points_and_seeds_that_no_other_round_has() -> None:
    three = recipe((1e-3, 2e-3, 5e-3, 1e-2), (0.5, 1.5, 4.0), round_seeds=(1, 2, 3))
    assert points_of_rounds(three) == (12, 4, 2)
    assert [seeds_of_round(three, number) for number in (1, 2, 3)] == [(1000,), (1001, 1002), (1003, 1004, 1005)]
    assert points_of_rounds(recipe((0.01, 0.02))) == (2, 2)
    assert points_of_rounds(recipe((0.01,))) == (1,)
    assert stages(recipe((0.01,))) == ("tune", "compare")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("learning_rates: [0.01, 0.02], round_seeds: [1]", "last round decides, and one seed does not"),
        ("learning_rates: [0.01, 0.02], round_seeds: []", "last round decides"),
        ("learning_rates: [0.01], table_factors: [1, 2]", "cannot be tuned with as many runs"),
        ("learning_rates: [0.01, 0.02], keep: 0", "greater than zero"),
    ],
)
def test_rules_that_cannot_choose_are_refused(settings: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned("memory_vs_moe", f"recipe.tune={{{settings}}}")
    with pytest.raises(ConfigError, match=r"scale\.seeds has \[1001\], which are seeds of tuning"):
        planned("memory_vs_moe", "scale.seeds=[0,1001]")


def smooth(best: dict[str, tuple[float, float]]) -> object:
    """A loss with its minimum at a learning rate and a table factor, by family, and a little noise by seed."""

    def loss(_: int, run: PlannedRun) -> float:
        rates, (rate, factor) = rates_of(run), best[run.family_name]
        noise = random.Random(f"{rates} {run.seed}").gauss(0, 0.01)
        found = math.log(rates.learning_rate / rate) ** 2 + noise
        return found + (math.log(rates.table_factor / factor) ** 2 if rates.table_factor else 0.0)

    return loss


BEST = {"dense": (0.01, 1.0), "moe": (1.0, 1.0), "memory_plus": (0.012, 12.0)}


def test_every_family_has_as_many_runs_of_each_round_and_extends_its_grid_twice_at_most() -> None:
    plan = opened(planned("memory_vs_moe", "scale=node"), smooth(BEST))
    counts = Counter((run.stage, run.family) for run in plan.runs)
    for family in BEST:
        assert (counts["tune", family], counts["tune-2", family]) == (12, 8)
    extended = {family: tuple(counts[f"tune-extended{end}", family] for end in ("", "-2")) for family in BEST}
    assert extended == {"dense": (0, 0), "moe": (3, 3), "memory_plus": (4, 4)}
    edges = {choice.family_name: choice.at_edge for choice in plan.choices}
    assert edges == {"dense": False, "moe": True, "memory_plus": False}  # no grid reaches 1.0 in two steps
    assert len({run.run_id for run in plan.runs}) == len({run.name for run in plan.runs}) == len(plan.runs)
    for has_table, family in ((False, "moe"), (True, "memory_plus")):
        assert sum(extended[family]) <= most_extra_points(plan.sweep.recipe, has_table=has_table)


def test_the_choice_is_the_least_mean_of_the_best_third() -> None:
    plan = opened(planned("memory_vs_moe", "scale=node"), smooth(BEST))
    for choice in plan.choices:
        first = {
            one.rates: one.loss for one in choice.trials if one.stage in ("tune", "tune-extended", "tune-extended-2")
        }
        last: dict[Rates, list[float]] = {}
        for one in choice.trials:
            if one.stage == "tune-2":
                last.setdefault(one.rates, []).append(one.loss or 0.0)
        assert set(last) == set(sorted(first, key=lambda rates: first[rates] or 0.0)[:4])
        assert {len(found) for found in last.values()} == {2}
        assert choice.rates == min(last, key=lambda rates: sum(last[rates]))
        assert len({one.seed for one in choice.trials}) == 3


def test_stages_open_alike_from_results_and_from_what_was_decided() -> None:
    plan = planned("memory_vs_moe", "scale=node")
    whole = opened(plan, smooth(BEST))
    assert opened(plan, smooth(BEST)) == whole
    assert opened_as(plan, whole.selections, whole.choices) == whole
    half = opened_as(plan, [one for one in whole.selections if one.stage == "tune-extended"], whole.choices)
    assert (half.next_stage, half.choices) == ("tune-extended-2", ())
    assert half.stage("tune-2") == plan.stage("tune-2")
    assert whole.plan_hash == plan.plan_hash


def test_tuning_runs_have_the_identity_that_they_had_before_there_were_rounds() -> None:
    """Of the family with a table: its grid is the one of earlier versions, and so are names and seeds."""
    plan: Plan = planned("memory_vs_moe", "scale=node")
    run = next(run for run in plan.stage("tune") if run.family == "memory_plus")
    assert (run.name, run.seed) == ("tune-memory_plus-3e16-lr0.002-table0.001", 1000)
    assert run.run_id == KNOWN_ID


KNOWN_ID = "be2a08926b76"


def test_rates_are_tuned_at_the_budget_that_is_named() -> None:
    plan = opened(planned("memory_vs_moe", "scale=laptop", "recipe.tune.budget=d32"))
    assert {run.budget for run in plan.runs if run.stage != "compare"} == {"d32"}
    for choice in plan.choices:
        runs = [run for run in plan.stage("compare") if run.family_name == choice.family_name]
        rates = {run.budget: rates_of(run) for run in runs}
        assert rates["d32"] == choice.rates
        assert rates["d24"].learning_rate == pytest.approx(choice.rates.learning_rate * 32 / 24)
    assert planned("memory_vs_moe", "scale=laptop", "recipe.tune.budget=null").plan_hash == (
        planned("memory_vs_moe", "scale=laptop").plan_hash
    )
    with pytest.raises(ConfigError, match=r"recipe\.tune\.budget is 'd33', .* no run of dense, moe, memory_plus; its"):
        planned("memory_vs_moe", "scale=laptop", "recipe.tune.budget=d33")
