"""`downstream` on tables: published splits, an accuracy column, two tables, options that reach their step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.cli.main import main
from analysis.downstream.from_table import downstream
from analysis.downstream.metric import describe_metric
from analysis.downstream.two_steps import StepOptions, two_steps
from analysis.errors import FitError
from analysis.laws.registry import LAWS
from tests.published import TESTBED, needs_published, overtrained


def runs(num: int = 24, noise: float = 0.003) -> pd.DataFrame:
    random = np.random.default_rng(0)
    flops = np.geomspace(1e18, 1e21, num)
    loss = (1.7 + 40.0 * flops**-0.1) * np.exp(noise * random.standard_normal(num))
    accuracy = 0.14 + 2.2 * np.exp(-0.7 * loss) + noise * random.standard_normal(num)
    return pd.DataFrame({"x": flops, "loss": loss, "accuracy": accuracy, "model": np.arange(num) // 3})


def test_an_accuracy_column_is_predicted_and_not_fitted_by_a_constant() -> None:
    found = downstream(runs(), metric="accuracy", law="power_with_offset", factors={"x": "x"}, hold_out=2)
    frame = found.to_frame()
    assert len(frame) == 2
    assert np.abs(frame["metric"] - frame["metric_measured"]).max() < 0.02
    assert (frame["metric_of_run_lower"] < frame["metric_ci95_lower"]).all()
    assert not [one for one in found.warnings if one.code in ("flat_link", "metric_direction")]
    assert "better when higher (by the name)" in found.summary()


def test_the_wrong_direction_gives_a_flat_link_that_is_warned_of() -> None:
    found = downstream(runs(), metric="accuracy", law="power_with_offset", factors={"x": "x"}, higher_is_better=False)
    assert {"flat_link", "metric_direction"} <= {one.code for one in found.warnings}


def test_the_steps_can_have_tables_of_their_own() -> None:
    table = runs()
    first, second = table[["x", "loss"]].iloc[::2], table[["loss", "accuracy"]].iloc[1::2]
    found = downstream(first, metric="accuracy", law="power_with_offset", factors={"x": "x"}, link_table=second)
    assert (found.law.num_points, found.link.num_points) == (12, 12)
    at = found.predict({"x": [1e22]})
    exact = 1.7 + 40.0 * 1e22**-0.1
    assert at["metric_ci95_lower"][0] < 0.14 + 2.2 * np.exp(-0.7 * exact) < at["metric_ci95_upper"][0]


def test_fixed_coefficients_reach_their_step_and_unknown_ones_are_refused() -> None:
    given = {"metric": "accuracy", "law": "power_with_offset", "factors": {"x": "x"}}
    found = downstream(runs(), fix={"E": 1.7, "gamma": 0.7}, **given)
    assert (found.law.fixed, found.link.fixed) == (("E",), ("gamma",))
    with pytest.raises(FitError, match="coefficient zeta is of neither step; there are: E, A, alpha, eps"):
        downstream(runs(), fix={"zeta": 1.0}, **given)


def test_clusters_are_resampled_whole_in_both_steps() -> None:
    found = downstream(runs(), metric="accuracy", law="power_with_offset", factors={"x": "x"}, cluster="model")
    for step in (found.law, found.link):
        assert step.interval_replicates is not None
        assert step.interval_replicates.method == "clusters"


@needs_published
def test_the_published_split_predicts_the_held_out_models() -> None:
    data = overtrained()
    ratio = data["M"].round()
    small = [10569312, 78914048, 153677376, 411616256]
    five = ((ratio == 20) & data["N"].isin(small)) | ((ratio == 320) & (data["N"] == 10569312))
    six = data[five | ((ratio == 20) & (data["N"] == 1439795200))]
    held = data[((data["N"] == 1439795200) & (ratio == 640)) | ((data["N"] == 6889410560) & (ratio == 20))]
    metric, _ = describe_metric("err", six["err_avg_subset"].to_numpy(), six["loss_c4_val"].to_numpy())
    found = two_steps(
        LAWS["overtrained"], {name: data[five][name].to_numpy() for name in ("C", "M")},
        data[five]["loss_c4_val"].to_numpy(), six["loss_c4_val"].to_numpy(), six["err_avg_subset"].to_numpy(), metric,
        law_options=StepOptions(objective="lsq"), link_options=StepOptions(objective="lsq"),
    )  # fmt: skip
    predicted = found.predict({"C": held["C"].to_numpy(), "M": held["M"].to_numpy()})
    off = 100 * np.abs(predicted.metric / held["err_avg_subset"].to_numpy() - 1)
    assert sorted(off) == pytest.approx([0.0464, 3.6365], abs=5e-5)


@needs_published
def test_the_command_predicts_the_largest_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["downstream", str(TESTBED), "--where", "dataset_name == 'rpj'", "--law", "overtrained", "--params",
                 "N", "--tokens", "D", "--flops", "flops", "--loss", "loss_c4_val", "--metric", "err_avg_subset",
                 "--objective", "lsq"]  # fmt: skip
    more = ["--hold-out", "2", "--json", str(tmp_path / "o.json"), "--figures", str(tmp_path)]
    assert main([*arguments, *more]) == 0
    drawn = (tmp_path / "downstream.csv").read_text().splitlines()
    assert sum(line.startswith("predicted,held out") for line in drawn) == 2
    assert sum(line.startswith("predicted,") for line in drawn) == sum(line.startswith("run,") for line in drawn) > 30
    assert (tmp_path / "downstream.png").stat().st_size > 10_000
    assert "runs that neither step was fitted to" in capsys.readouterr().out
    card = json.loads((tmp_path / "o.json").read_text())
    assert card["metric"]["higher_is_better"] is False
    assert len(card["held_out"]) == 2
    for one in card["held_out"]:
        assert one["metric_of_run_ci95"][0] < one["metric_ci95"][0] < one["metric_predicted"] < one["metric_ci95"][1]
        assert one["metric_predicted"] == pytest.approx(one["metric"], rel=0.1)
    assert main([*arguments, "--hold-out", "35"]) == 2
