"""The next runs narrow the interval as they promise, cost what they may, and are a sweep that the planner reads."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.allocation.design import next_runs
from analysis.allocation.design_from_table import design
from analysis.allocation.parametric import best_params
from analysis.cli.main import main
from analysis.errors import FitError
from analysis.fitting import Fit, fit_law
from analysis.laws.registry import LAWS
from memscale.config.load import load_sweep
from memscale.config.run import Digests
from memscale.config.yaml_files import sweeps_folder
from memscale.planning.plan import make_plan

TRUTH = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
NOISE, TARGET = 3e-3, 1e21


def losses(params: np.ndarray, tokens: np.ndarray, seed: int) -> np.ndarray:
    exact = LAWS["chinchilla"].predict(TRUTH, {"N": params, "D": tokens})
    return exact * np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(params)))


PARAMS = np.repeat(np.geomspace(2e7, 3e8, 6), 5)
TOKENS = np.tile(np.geomspace(5e8, 1e10, 5), 6)


def fitted(params: np.ndarray = PARAMS, tokens: np.ndarray = TOKENS, seed: int = 0) -> Fit:
    return fit_law("chinchilla", {"N": params, "D": tokens}, losses(params, tokens, seed), objective="log_lsq")


def test_each_run_narrows_the_interval_and_the_budget_holds() -> None:
    found = next_runs(fitted(), target_flops=TARGET, budget_flops=3e20, most_runs=6)
    widths = [found.half_width_now, *(one.half_width for one in found.runs)]
    assert widths == sorted(widths, reverse=True)
    assert found.flops <= 3e20 * (1 + 1e-9)
    assert len({(one.params, one.tokens) for one in found.runs}) == len(found.runs) > 1
    for one in found.runs:
        assert 6 * one.params * one.tokens == pytest.approx(one.flops)


def test_the_promise_is_kept_by_runs_that_are_trained() -> None:
    """The spread of ln N* over simulated tables, without and with the runs of the design."""
    found = next_runs(fitted(), target_flops=TARGET, budget_flops=1e21, most_runs=8)
    more = [np.array([getattr(one, what) for one in found.runs]) for what in ("params", "tokens")]
    spreads = []
    for params, tokens in (
        (PARAMS, TOKENS),
        (np.concatenate([PARAMS, more[0]]), np.concatenate([TOKENS, more[1]])),
    ):
        best = [
            math.log(best_params(one, one.theta[None, :], np.array([TARGET]))[0, 0])
            for one in (fitted(params, tokens, seed) for seed in range(60))
        ]
        spreads.append(1.96 * float(np.std(best)))
    assert spreads[1] < 0.7 * spreads[0]
    assert spreads[1] == pytest.approx(found.runs[-1].half_width, rel=0.5)


def test_a_promise_for_one_run_is_what_its_information_gives() -> None:
    """Recounted by fitting a table that has the run at its expected loss: one row of derivatives more."""
    one = fitted()
    first = next_runs(one, target_flops=TARGET, budget_flops=1e20, most_runs=1)
    run = first.runs[0]
    wider = fit_law(
        "chinchilla",
        {"N": np.append(PARAMS, run.params), "D": np.append(TOKENS, run.tokens)},
        np.append(one.loss, one.predict({"N": np.array([run.params]), "D": np.array([run.tokens])})),
        objective="log_lsq",
    )
    now = next_runs(wider, target_flops=TARGET, budget_flops=1e20, most_runs=1).half_width_now
    assert now == pytest.approx(run.half_width, rel=0.1)  # the median residual is of one run more
    assert now < 0.9 * first.half_width_now


def test_seeds_cost_flops_and_average_out_only_the_seeds_share_of_the_noise() -> None:
    one, three = (
        next_runs(fitted(), target_flops=TARGET, budget_flops=budget, most_runs=1, num_seeds=seeds)
        for budget, seeds in ((1e20, 1), (3e20, 3))
    )
    assert (one.runs[0].params, one.runs[0].tokens) == (three.runs[0].params, three.runs[0].tokens)
    assert three.flops == pytest.approx(3 * one.flops)
    assert list(three.to_frame()["seed"]) == [0, 1, 2]
    assert three.runs[0].half_width < one.runs[0].half_width


def test_fixed_coefficients_and_clusters_change_the_design() -> None:
    table = {"N": PARAMS, "D": TOKENS, "loss": losses(PARAMS, TOKENS, 0), "run": np.arange(30) // 5}
    given = {"target": TARGET, "budget": 1e20, "runs": 3, "objective": "log_lsq"}
    free = design(table, checkpoints="independent", **given)
    assert design(table, fix={"alpha": 0.34}, checkpoints="independent", **given).half_width_now < free.half_width_now
    assert design(table, cluster="run", **given).half_width_now != free.half_width_now


def test_what_cannot_be_designed_is_refused() -> None:
    with pytest.raises(FitError, match="needs a law of N and D"):
        next_runs(
            fit_law("power", {"x": PARAMS * TOKENS}, losses(PARAMS, TOKENS, 0)), target_flops=1e21, budget_flops=1e20
        )
    with pytest.raises(FitError, match="the budget must be"):
        next_runs(fitted(), target_flops=1e21, budget_flops=-1.0)
    least = 6 * PARAMS.min() * TOKENS.min()
    with pytest.raises(
        FitError, match=r"a budget of 1 FLOPs holds no run: .* 6e[+]16 FLOPs of the table's cheapest run"
    ):
        next_runs(fitted(), target_flops=1e21, budget_flops=1.0)
    with pytest.raises(FitError, match=r"with 2 seeds has .* Give at least 1\.2e[+]17 FLOPs"):
        next_runs(fitted(), target_flops=1e21, budget_flops=1.9 * least, num_seeds=2)
    assert len(next_runs(fitted(), target_flops=1e21, budget_flops=least).runs) == 1


def test_the_sweep_file_is_one_that_the_planner_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params, tokens = PARAMS / 1e3, TOKENS / 1e3
    table = tmp_path / "t.csv"
    rows = ["N,D,loss", *(f"{n},{d},{y}" for n, d, y in zip(params, tokens, losses(params, tokens, 0), strict=True))]
    table.write_text("\n".join(rows))
    sweeps = tmp_path / "sweeps"
    shutil.copytree(sweeps_folder(), sweeps)
    arguments = ["design", str(table), "--params", "N", "--tokens", "D", "--loss", "loss", "--target", "1e14"]
    arguments += ["--budget", "2e13", "--runs", "4", "--seeds", "2", "--sweep", str(sweeps / "next_runs.yaml")]
    assert main([*arguments, "--json", str(tmp_path / "o.json")]) == 0
    assert "then to a factor of" in capsys.readouterr().out
    card = json.loads((tmp_path / "o.json").read_text())
    sweep = load_sweep("next_runs", ["launcher=local"], folder=sweeps).sweep
    asked = {one["flops"] for one in card["runs"]}
    planned = {flops for each in sweep.scale.isoflops for flops in each.flops}
    assert sorted(planned) == pytest.approx(sorted(asked), rel=1e-5)
    assert len(sweep.scale.isoflops) == len(card["runs"]) == 4
    plan = make_plan(sweep, Digests(data="d", tokenizer="t", evaluation="e"))
    compared = [run for run in plan.runs if run.stage == "compare"]
    for run in compared:
        assert min(abs(run.flops_train / one - 1) for one in asked) < 0.05
    assert len(compared) == 2 * len(card["runs"])
    assert len({run.name for run in compared}) == len(compared)
    assert {run.seed for run in compared} == {0, 1}
    assert main([*arguments[:-6], "--budget", "1", "--runs", "0"]) == 2
