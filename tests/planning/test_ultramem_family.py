"""The family file with all of UltraMem's parts, and its ladder as a grid, planned beside the other families."""

from __future__ import annotations

import pytest

from memscale.config.codec import changed
from memscale.config.family import PKMFamily
from memscale.config.matching import Matching
from memscale.errors import ConfigError
from memscale.planning.accounting import count
from memscale.planning.matching import match
from tests.planning.shipped import planned, shipped

ALL = "+family@families.ultramem=ultramem"
SMALL = "families.ultramem={layers: [0], num_heads: 1, knn: 8}"
LADDER = (
    {"weights": "none"},
    {"projection": True, "value_width": 12},
    {"layers": [0], "place": "beside", "skip": 1},
    {"qk_norm": True, "query_norm": "none"},
    {"expansion": 4},
    {"core_rank": 2},
    {"query_conv": 4},
)
"""The steps of docs/memory-layers.md that are options of the layer."""


def test_all_parts_are_matched_at_laptop_scale_as_the_page_says() -> None:
    plan = planned("memory_vs_moe", "scale=laptop", ALL, SMALL)
    runs = [run for run in plan.runs if run.series == "ultramem"]
    assert {run.budget for run in runs} == {"d24", "d32"}
    worst = max(abs(dict(run.mismatch)["flops_per_token"]) for run in runs)
    assert 0.0035 < worst <= 0.0045
    for run in runs:
        part = run.architecture.memory
        assert part is not None
        assert (part.place, part.skip, part.weights, part.core_rank, part.expansion) == ("beside", 1, "none", 2, 4)
        assert (part.query_conv, part.projection, part.qk_norm, part.shared_table) == (4, True, True, False)
    with pytest.raises(ConfigError, match="skip"):
        planned("memory_vs_moe", "scale=laptop", ALL)  # as the file is, it needs a deeper stack


def test_no_step_of_the_ladder_changes_the_table_and_each_changes_the_identity() -> None:
    dense = next(run.architecture for run in planned("memory_vs_moe", "scale=laptop").runs if run.family == "dense")
    family = PKMFamily(name="pkm", num_slots=4096, num_heads=1, knn=8)
    terms = Matching(equal=("tokens",), sparse_equal=None, total_over_dense=None)
    seen = []
    for step in ({}, *LADDER):
        family = changed(family, step, "grid[0]")
        seen.append(match(dense, {"pkm": family}, terms, 128)["pkm"].architecture)
    assert len(set(seen)) == 8
    tables = [count(one, 128).params_table for one in seen]
    assert tables == [4096 * 24] * 2 + [4096 * 12] * 6
    flops = [count(one, 128).flops_per_token_forward for one in seen]
    assert flops[0] == flops[1]
    assert flops[4] < flops[5] < flops[6] < flops[7]


def test_its_keys_are_those_of_its_class() -> None:
    (family,) = [one for one in shipped("memory_vs_moe", "scale=paper", ALL).families if one.name == "ultramem"]
    assert isinstance(family, PKMFamily)
    assert (family.centred, family.stride, family.value_width, family.num_slots) == (2, 1, None, None)
