"""A known multiplier is found inside its interval: on any table, and through planner, results table and report."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from analysis.cli.main import main
from analysis.errors import FitError
from analysis.figures import gains as gains_figures
from analysis.gains.differences import multiplier
from analysis.gains.multipliers import Family, gains
from analysis.gains.scaling_curves import FLOPS, fit_curves
from analysis.tables.results import read_results
from memscale.launch.planned import plan_sweep
from memscale.planning.plan import Plan

MULTIPLIER = 1.7


def loss(flops: np.ndarray, multiplier: float = 1.0) -> np.ndarray:
    return 1.8 + 4.0 * (flops * multiplier / 1e17) ** -0.25


def family(name: str, multiplier: float, seed: int, *, noise: float = 2e-3, num: int = 24) -> Family:
    random = np.random.default_rng([seed, len(name)])
    x = np.repeat(np.geomspace(1e17, 1e20, num // 3), 3)
    return Family(name=name, x=x, loss=loss(x, multiplier) * np.exp(noise * random.standard_normal(len(x))))


def test_a_known_multiplier_and_difference_lie_inside_their_intervals_as_often_as_they_say() -> None:
    hits = differences = total = 0
    at = 1e19
    for seed in range(60):
        found = gains(family("memory", MULTIPLIER, seed), family("dense", 1.0, seed), "C", at=[at], num_replicates=300)
        (one,) = found.at
        assert one.multiplier is not None
        assert one.multiplier_ci95 is not None
        assert not one.extrapolated
        hits += one.multiplier_ci95[0] <= MULTIPLIER <= one.multiplier_ci95[1]
        exact = float(loss(np.array([at]), MULTIPLIER)[0] - loss(np.array([at]))[0])
        differences += one.difference_ci95[0] <= exact <= one.difference_ci95[1]
        total += 1
    assert 0.85 <= hits / total <= 1.0
    assert 0.85 <= differences / total <= 1.0


def test_without_noise_the_gain_is_exact_at_every_scale() -> None:
    pair = family("memory", MULTIPLIER, 0, noise=1e-9), family("dense", 1.0, 0, noise=1e-9)
    found = gains(*pair, "C", num_replicates=20)
    assert len(found.at) == 3
    for one in found.at:
        assert one.multiplier == pytest.approx(MULTIPLIER, rel=1e-4)
        assert f"x{MULTIPLIER}" in found.statement(one, "FLOPs")
    assert [one.extrapolated for one in found.at] == [False, False, True]
    assert gains(*pair[::-1], "C", num_replicates=20).at[0].multiplier == pytest.approx(1 / MULTIPLIER, rel=1e-4)


def test_a_loss_that_the_baseline_never_reaches_has_no_multiplier() -> None:
    dense = family("dense", 1.0, 0, noise=1e-6)
    better = replace(dense, name="memory", loss=dense.loss - 1.0)
    one = gains(better, dense, "C", num_replicates=50).at[-1]
    assert one.multiplier is None
    assert "never reaches" in one.reason
    assert one.difference == pytest.approx(-1.0, abs=1e-3)


def test_families_without_a_common_range_need_to_be_told_where() -> None:
    dense = family("dense", 1.0, 0)
    far = replace(dense, name="memory", x=dense.x * 1e6)
    with pytest.raises(FitError, match="no range in common"):
        gains(far, dense, "C", num_replicates=10)
    with pytest.raises(FitError, match="family 'memory'"):
        gains(replace(dense, name="memory", loss=dense.loss * 0 + 2.0), dense, "C", num_replicates=10)


def test_the_command_on_any_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["kind of model,flops,size,loss"]
    for one in (family("moe", 1.0, 0), family("memory", MULTIPLIER, 0)):
        rows += [f"{one.name},{x},{math.sqrt(x / 120)},{y}" for x, y in zip(one.x, one.loss, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows))
    arguments = ["gain", str(path), "--family", "kind of model", "--of", "memory", "--over", "moe", "--loss", "loss"]
    arguments += ["--flops", "flops", "--params", "size", "--at", "1e19", "--bootstrap", "300"]
    assert main([*arguments, "--json", str(tmp_path / "o.json")]) == 0
    said = capsys.readouterr().out
    assert "memory over moe: x1." in said
    assert "compute at 1e+19 FLOPs" in said
    card = json.loads((tmp_path / "o.json").read_text())
    assert [one["axis"] for one in card["gains"]] == ["C", "N"]
    lower, upper = card["gains"][0]["at"][0]["multiplier_ci95"]
    assert lower < MULTIPLIER < upper
    assert card["n"] == {"memory": 24, "moe": 24}
    assert main([*arguments[:-4], "--of", "pkm"]) == 2
    assert "all 48 rows are left out" in capsys.readouterr().err


def test_the_figure_shows_the_multiplier_at_every_scale(tmp_path: Path) -> None:
    ours, theirs = family("mine", MULTIPLIER, 0), family("theirs", 1.0, 0)
    found = gains(ours, theirs, "C", num_replicates=200)
    made = gains_figures.write([found], tmp_path)
    assert sorted(path.name for path in made) == [f"gain_compute.{ending}" for ending in ("csv", "pdf", "png")]
    with open(tmp_path / "gain_compute.csv") as file:
        rows = list(csv.DictReader(file))
    along = [row for row in rows if row["part"] == "multiplier"]
    assert len(along) == 60
    assert all(float(row["lower"]) <= float(row["y"]) <= float(row["upper"]) for row in along)
    assert np.median([float(row["y"]) for row in along]) == pytest.approx(MULTIPLIER, rel=0.05)
    assert sum(row["part"] == "run" for row in rows) == 48

    never = gains(replace(ours, loss=0.5 + ours.loss / 5), theirs, "N", num_replicates=50)
    gains_figures.write([never], tmp_path)
    assert "\nmultiplier" not in (tmp_path / "gain_parameters.csv").read_text()


TRUTHS = {"dense": 1.0, "moe": 1.3, "memory_plus": MULTIPLIER}
SEEDS, STD = 100, 0.004


def results_of(plan: Plan, folder: Path, seed: int) -> Path:
    """The results table of a planned sweep whose losses are a law's, with the noise of seeds."""
    random = np.random.default_rng(seed)
    rows = []
    for run in plan.stage("compare"):
        exact = 1.2 * (run.flops_train * TRUTHS[run.family] / 1e12) ** -0.16
        row = {
            "sweep": "memory_vs_moe", "name": run.name, "run_id": run.name, "stage": "compare", "family": run.family,
            "series": run.family, "scale": "laptop", "seed": run.seed, "budget": f"{run.budget_flops:g}",
            "budget_flops": run.budget_flops, "status": "done", "tokens": run.tokens,
            "params_total": run.counts.params_total, "params_active": run.counts.params_active,
            "flops_train": run.flops_train, "loss_nats": exact * float(np.exp(STD * random.standard_normal())),
        }  # fmt: skip
        rows.append(row)
    path = folder / f"{seed}.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.slow
def test_a_known_multiplier_is_recovered_from_plan_to_gain(tmp_path: Path) -> None:
    """Planner, simulated losses with seed noise, results table, fit, gain: memory over dense, and MoE over memory."""
    plan = plan_sweep("memory_vs_moe", ["scale=laptop", "launcher=local"]).plan
    hits = {("memory_plus", "dense"): 0, ("moe", "memory_plus"): 0}
    for seed in range(SEEDS):
        curves = fit_curves(read_results(results_of(plan, tmp_path, seed)).compare, FLOPS, num_replicates=400)
        for subject, baseline in hits:
            found = multiplier(curves, subject, baseline)
            assert found.interval is not None, found.refusal
            truth = TRUTHS[subject] / TRUTHS[baseline]
            hits[subject, baseline] += found.interval.lower <= truth <= found.interval.upper
    assert all(count >= 0.9 * SEEDS for count in hits.values()), hits
