"""What `plan` says of its resolution: the page, the JSON and the refusal have one set of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memscale import api
from memscale.cli.main import main
from memscale.errors import PlanError
from tests.planning.shipped import BY_FLOPS

NAME, AT_SCALE = "memory_vs_moe", ("launcher=local", *BY_FLOPS, "scale.seeds=[0,1,2,3]")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMSCALE_RUNS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", NAME, *AT_SCALE, *arguments]) == 0
    return capsys.readouterr().out


def test_the_page_has_the_numbers_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    page = told(capsys)
    stated = json.loads(told(capsys, "--json"))["resolution"]
    assert (stated["power"], stated["missing"]) == (0.8, [])
    assert {(row["measure"], row["at"]) for row in stated["rows"]} == {
        (measure, at) for measure in ("loss_nats", "score_facts_recall_acc") for at in ("largest", "mean")
    }
    sentence = next(line for line in page.splitlines() if line.startswith("resolves"))
    assert "with 4 seeds" in sentence
    for row in stated["rows"]:
        assert f"{row['smallest_difference']:.3g} {row['unit']}" in page
        assert (f"{row['smallest_difference']:.3g} {row['unit']}" in sentence) == (row["at"] == "largest")
        assert row["rests_on"] in page
        assert row["num_seeds"] == 4


def test_limits_afford_as_many_seeds_as_fit_into_them(runs: Path) -> None:
    whole = api.plan(NAME, AT_SCALE)
    seconds = whole.estimate.seconds
    tuning = sum(seconds[run.name] for run in whole.plan.runs if run.stage != "compare")
    a_seed = sum(seconds[run.name] for run in whole.plan.stage("compare") if run.seed == 0)
    for num_seeds, says in ((3, "affords 3 of 4 seeds (scale.seeds=[0, 1, 2]): could see at the largest budget with 3"),
                            (1, "affords 1 of 4 seeds, which tell nothing of the noise")):  # fmt: skip
        hours = (tuning + (num_seeds + 0.5) * a_seed) / 3600
        with pytest.raises(PlanError) as refused:
            api.run(NAME, [*AT_SCALE, f"limits.gpu_hours={hours}"])
        assert says in str(refused.value)
    assert not list(runs.iterdir())


def test_seeds_by_resolution_are_in_the_plan_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(told(capsys, "--json", "resolve.loss_nats=0.09", "resolve.at=mean", "scale.seeds=[0,1]"))
    seeds = {run["seed"] for run in shown["runs"] if run["stage"] == "compare"}
    rows = [row for row in shown["resolution"]["rows"] if row["measure"] == "loss_nats" and row["at"] == "mean"]
    assert seeds == set(range(len(seeds)))
    assert {row["num_seeds"] for row in rows} == {len(seeds)}
    assert all(row["smallest_difference"] <= 0.09 for row in rows)
