"""The grid: products, zips and unions of families, budgets, seeds and settings."""

from __future__ import annotations

import pytest

from memscale.config.family import MemoryPlusFamily, MoEFamily
from memscale.config.sweep import Sweep
from memscale.errors import ConfigError
from memscale.planning.budgets import dense_baselines
from memscale.planning.cells import Cells, cells
from tests.planning.shipped import BY_FLOPS, shipped

BUDGETS = ["4e11", "7.5e11", "1.7e12"]


def small(*overrides: str) -> Sweep:
    return shipped("memory_vs_moe", *BY_FLOPS, *overrides)


def grid(blocks: str) -> Cells:
    sweep = small(f"grid=[{blocks}]")
    return cells(sweep, dense_baselines(sweep).baselines)


def labels(found: Cells) -> dict[str, dict[str, list[int]]]:
    return {name: {label: seeds for label, (_, seeds) in here.items()} for name, here in found.by_budget.items()}


def test_without_a_grid_every_family_is_trained_at_every_budget_and_seed() -> None:
    assert labels(grid("")) == {name: {"dense": [0, 1], "moe": [0, 1], "memory_plus": [0, 1]} for name in BUDGETS}


def test_a_product_varies_keys_and_names_its_series_by_them() -> None:
    found = grid("{families: [memory_plus], product: {num_slots: [4096, 16384], gated: [true, false], budget: [4e11]}}")
    assert labels(found)["7.5e11"] == {}
    here = found.by_budget["4e11"]
    assert list(here) == [
        f"memory_plus num_slots={slots} gated={gated}" for slots in (4096, 16384) for gated in ("true", "false")
    ]
    series, seeds = here["memory_plus num_slots=16384 gated=false"]
    assert isinstance(series.family, MemoryPlusFamily)
    assert (series.family.num_slots, series.family.gated, seeds) == (16384, False, [0, 1])
    assert series.family_name == "memory_plus"


def test_a_zip_moves_its_axes_together_and_beside_the_budget_makes_no_series() -> None:
    found = grid("{families: [moe], zip: {budget: [4e11, 1.7e12], num_experts: [16, 4]}}")
    assert labels(found) == {"4e11": {"moe": [0, 1]}, "7.5e11": {}, "1.7e12": {"moe": [0, 1]}}
    sizes = [found.by_budget[name]["moe"][0].family.num_experts for name in ("4e11", "1.7e12")]
    assert sizes == [16, 4]
    apart = grid("{families: [moe], zip: {num_experts: [16, 4], experts_per_token: [2, 1]}}")
    assert list(labels(apart)["4e11"]) == [
        "moe num_experts=16 experts_per_token=2", "moe num_experts=4 experts_per_token=1",
    ]  # fmt: skip


def test_blocks_add_up_and_a_cell_named_twice_is_dropped_and_said() -> None:
    found = grid("{families: [dense, moe]}, {families: [moe], product: {seed: [1, 5], budget: [4e11]}}")
    assert labels(found)["4e11"] == {"dense": [0, 1], "moe": [0, 1, 5]}
    assert labels(found)["1.7e12"] == {"dense": [0, 1], "moe": [0, 1]}
    assert [(one.name, one.reason) for one in found.dropped] == [
        ("moe at 4e11, seed 1 (grid[1])", "named by grid[0] already")
    ]


def test_layers_can_be_varied_and_keep_their_type() -> None:
    found = grid("{families: [memory_plus], product: {layers: [[1], [0, 2], middle]}}")
    here = found.by_budget["4e11"]
    assert list(here) == [f"memory_plus layers={name}" for name in ("1", "0-2", "middle")]
    assert here["memory_plus layers=0-2"][0].family.layers == (0, 2)


def test_two_families_of_one_kind_stand_under_names_of_their_own() -> None:
    fine = "+families.fine={family: moe, experts_per_token: 4}"
    sweep = small(fine)
    here = cells(sweep, dense_baselines(sweep).baselines).by_budget["4e11"]
    assert list(here) == ["dense", "moe", "memory_plus", "fine"]
    assert isinstance(here["fine"][0].family, MoEFamily)
    assert here["fine"][0].family.experts_per_token == 4


def test_a_family_left_out_of_the_sweep_is_dropped_from_the_grid_and_said() -> None:
    sweep = small("families.moe=null", "grid=[{families: [dense, moe]}]")
    found = cells(sweep, dense_baselines(sweep).baselines)
    assert labels(found)["4e11"] == {"dense": [0, 1]}
    assert [(one.name, one.reason) for one in found.dropped] == [("moe (grid[0])", "the sweep has no such family")]


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ("{families: [pear]}", r"grid names the family 'pear'; there are: dense, moe, memory_plus.*'peer'"),
        ("{families: [moe], product: {num_expert: [4]}}", r"grid\[0\].moe: 'num_expert' is not.*'num_experts'"),
        ("{families: [moe], product: {num_experts: [four]}}", r"num_experts is 'four'; it needs a whole number"),
        ("{families: [moe], product: {num_experts: [0]}}", r"grid\[0\].moe.num_experts is 0"),
        ("{families: [moe], product: {num_experts: []}}", r"num_experts is empty"),
        ("{families: [moe], product: {num_experts: [4, 4]}}", r"names a value twice"),
        ("{families: [moe], product: {budget: [5e11]}}", r"budget names '5e11'; there are: 4e11"),
        ("{families: [moe], zip: {budget: [4e11], num_experts: [4, 8]}}", r"zip needs axes of one length"),
        ("{families: [moe], product: {seed: [1000]}}", r"recipe.tune_seed"),
        ("{families: [moe], product: {seed: [-1]}}", r"whole numbers of at least 0"),
        ("{families: [memory_plus], product: {num_slots: [5000]}}", r"square number of slots; the nearest are 4900"),
        (
            "{families: [moe]}, {families: [moe], zip: {budget: [4e11], num_experts: [4]}}",
            r"grid\[1\] defines 'moe' at the budget 4e11 otherwise than grid\[0\]",
        ),
    ],
)
def test_a_grid_that_says_nothing_sensible_is_refused(blocks: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        grid(blocks)
