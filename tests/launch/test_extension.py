"""A finished sweep is extended by seeds: only their runs are trained, and the report says how often it was read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.sweeps import FEWER, NAME, memscale, small_sweep, write_text

HERE = ("scale=laptop", "launcher=local")


@pytest.mark.slow
def test_new_seeds_are_trained_and_nothing_else(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    runs = tmp_path / "runs"

    def sweep(seeds: str) -> None:
        asked = small_sweep(text, flops="[2e9]", seeds=seeds, more=(*FEWER, "families.moe=null", *HERE))
        memscale("sweep", NAME, "--yes", *asked, runs=runs)

    def results() -> dict[str, tuple[int, float]]:
        """When each run's result was written, by its folder, and how many attempts it took."""
        return {
            path.parent.name: (len(list((path.parent / "attempts").iterdir())), path.stat().st_mtime)
            for path in (runs / NAME).glob("*/result.json")
        }

    sweep("[0,1]")
    before = results()
    plan = json.loads((runs / NAME / "plan.json").read_text())["plan_hash"]
    assert len(before) == 2 + 4
    stated = json.loads((runs / NAME / "resolution.json").read_text())
    assert (stated["plan_hash"], stated["earlier"]) == (plan, [])
    assert {row["num_seeds"] for row in stated["rows"]} == {2}

    sweep("[0,1,2]")
    after = results()
    new = sorted(after.keys() - before.keys())
    assert [name.rpartition("-")[0].rpartition("-")[2] for name in new] == ["s2"] * 2
    assert {name: after[name] for name in before} == before  # not trained, not even looked at again
    looks = json.loads((runs / NAME / "looks.json").read_text())["looks"]
    assert [one["seeds"] for one in looks] == [[0, 1], [0, 1, 2]]
    assert looks[0]["plan_hash"] == plan != looks[1]["plan_hash"]
    stated = json.loads((runs / NAME / "resolution.json").read_text())
    assert [one["plan_hash"] for one in stated["earlier"]] == [plan]
    assert {row["num_seeds"] for row in stated["rows"]} == {3}
    # Two series of two seeds have two degrees of freedom: too few to take the noise from.
    assert {row["source"] for row in stated["rows"] if row["measure"] == "loss_nats"} == {"assumed"}

    sweep("[0,1,2]")  # finished: nothing is done, and nothing is counted as a reading
    assert results() == after
    assert len(json.loads((runs / NAME / "looks.json").read_text())["looks"]) == 2
