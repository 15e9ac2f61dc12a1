"""A plan above its limit is refused by its lengths, before anything is expanded."""

from __future__ import annotations

import math
import tracemalloc

import pytest

from memscale.config.load import load_sweep
from memscale.config.sweep import Sweep
from memscale.errors import PlanError
from memscale.planning.budgets import dense_baselines
from memscale.planning.cells import cells
from memscale.planning.plan_size import most_runs


def _sweep(*overrides: str, name: str = "memory_vs_moe") -> Sweep:
    return load_sweep(name, ["launcher=local", "scale=laptop", *overrides]).sweep


@pytest.mark.parametrize("name", ["memory_vs_moe", "memory_layers_at_scale", "moe_scaling", "isoflop"])
def test_the_bound_is_what_the_grid_names(name: str) -> None:
    sweep = _sweep(name=name)
    found = dense_baselines(sweep)
    named = cells(sweep, found.baselines)
    kept = sum(len(seeds) for series in named.by_budget.values() for _, seeds in series.values())
    points = len(sweep.recipe.tune.learning_rates) * len(sweep.recipe.tune.table_factors)
    tuned = len(sweep.families) * (points + 2 * max(2, math.ceil(points / 3)))  # one seed of all, two of the best third
    dropped_sizes = len(found.dropped) * len(sweep.families) * len(sweep.scale.seeds)
    assert kept + tuned <= most_runs(sweep) <= kept + len(named.dropped) + tuned + dropped_sizes


def test_a_plan_without_end_is_refused_at_once_in_constant_memory() -> None:
    axes = ", ".join(f"{key}: [{', '.join(map(str, range(2, 102)))}]" for key in ("knn", "num_heads", "key_width"))
    sweep = _sweep(f"+grid=[{{families: [memory_plus], product: {{{axes}}}}}]", "scale.seeds=[1,2,3]")
    tracemalloc.start()
    with pytest.raises(PlanError) as caught:
        dense_baselines(sweep)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    for part in ("6,000,021 runs", "limits.runs (100,000)", "100 grid[0].product.knn", "3 scale.seeds", "2 budgets"):
        assert part in str(caught.value)


def test_the_limit_is_the_sweeps_own() -> None:
    with pytest.raises(PlanError, match=r"plans 39 runs, above limits.runs \(38\)"):
        dense_baselines(_sweep("limits.runs=38"))
    dense_baselines(_sweep("limits.runs=39"))
    with pytest.raises(PlanError, match=r"3 families x 3 recipe.tune.learning_rates x 1 recipe.tune.table_factors"):
        dense_baselines(_sweep("limits.runs=20", "scale.seeds=[1]"))
