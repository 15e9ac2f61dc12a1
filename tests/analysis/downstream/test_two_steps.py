"""From compute to a metric: known links are found, errors are carried through, chance is respected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.cli.main import main
from analysis.downstream.two_steps import gap_closed, two_steps
from analysis.errors import FitError
from analysis.laws.registry import LAWS
from tests.published import TESTBED, needs_published, overtrained

LAW = LAWS["power_with_offset"]
TRUTH = {"E": 1.7, "A": 40.0, "alpha": 0.1}


def table(seed: int, *, noise: float = 0.005, num: int = 40) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    columns = {"x": np.geomspace(1e17, 1e21, num)}
    loss = LAW.predict(TRUTH, columns) * np.exp(noise * random.standard_normal(num))
    error = 0.86 - 2.2 * np.exp(-0.7 * loss) + noise * random.standard_normal(num)
    return columns, loss, error


def test_the_true_metric_lies_inside_its_interval_as_often_as_it_says() -> None:
    ahead = {"x": np.array([1e22])}
    exact = float(LAW.predict(TRUTH, ahead)[0])
    true = 0.86 - 2.2 * np.exp(-0.7 * exact)
    hits = losses = 0
    for seed in range(60):
        found = two_steps(LAW, *table(seed), objective="log_lsq", num_replicates=300, seed=seed)
        predicted = found.predict(ahead)
        hits += predicted.metric_ci95[0, 0] <= true <= predicted.metric_ci95[1, 0]
        losses += predicted.loss_ci95[0, 0] <= exact <= predicted.loss_ci95[1, 0]
    assert hits >= 0.85 * 60
    assert losses >= 0.85 * 60


def test_without_noise_both_steps_are_exact() -> None:
    columns, loss, _ = table(0, noise=0.0)
    accuracy = 0.25 + 0.7 / (1 + np.exp(4.0 * (loss - 2.4)))
    found = two_steps(LAW, columns, loss, accuracy, link="sigmoid", floor=0.25, num_replicates=20)
    assert found.link.fixed == ("b",)
    assert found.link.values["p0"] == pytest.approx(0.7, rel=1e-3)
    predicted = found.predict({"x": np.array([1e22])})
    exact = LAW.predict(TRUTH, {"x": np.array([1e22])})
    assert predicted.metric == pytest.approx(0.25 + 0.7 / (1 + np.exp(4.0 * (exact - 2.4))), rel=1e-3)


def test_a_run_that_was_drawn_counts_in_both_steps() -> None:
    """Errors of law and link that come of the same runs stay together: a resample of the table, not two of them."""
    columns, loss, error = table(1)
    first, again = (two_steps(LAW, columns, loss, error, num_replicates=50, seed=4) for _ in range(2))
    assert first.law_draws.tobytes() == again.law_draws.tobytes()
    assert first.link_draws.tobytes() == again.link_draws.tobytes()
    half = np.arange(40) < 20
    parted = two_steps(LAW, columns, loss, error, in_law=half, in_link=~half, num_replicates=50)
    assert parted.law.num_points == parted.link.num_points == 20


def test_what_cannot_be_linked_is_refused() -> None:
    columns, loss, error = table(0)
    with pytest.raises(FitError, match="at least 4 runs with the metric; there are 2"):
        two_steps(LAW, columns, loss, np.where(np.arange(40) < 2, error, np.nan))
    with pytest.raises(FitError, match="no link 'linear'"):
        two_steps(LAW, columns, loss, error, link="linear")
    with pytest.raises(FitError, match="no gap"):
        gap_closed(0.4, 0.5, 0.4)
    assert gap_closed(0.2, 0.35, 0.5) == pytest.approx(0.5)


@needs_published
def test_the_published_split_predicts_the_held_out_models() -> None:
    data = overtrained()
    ratio = data["M"].round()
    small = [10569312, 78914048, 153677376, 411616256]
    five = ((ratio == 20) & data["N"].isin(small)) | ((ratio == 320) & (data["N"] == 10569312))
    six = five | ((ratio == 20) & (data["N"] == 1439795200))
    held = data[((data["N"] == 1439795200) & (ratio == 640)) | ((data["N"] == 6889410560) & (ratio == 20))]
    found = two_steps(
        LAWS["overtrained"], {"C": data["C"].to_numpy(), "M": data["M"].to_numpy()}, data["loss_c4_val"].to_numpy(),
        data["err_avg_subset"].to_numpy(), in_law=five.to_numpy(), in_link=six.to_numpy(), objective="lsq",
        num_replicates=100,
    )  # fmt: skip
    predicted = found.predict({"C": held["C"].to_numpy(), "M": held["M"].to_numpy()})
    off = 100 * np.abs(predicted.metric / held["err_avg_subset"].to_numpy() - 1)
    assert sorted(off) == pytest.approx([0.0464, 3.6365], abs=5e-5)


@needs_published
def test_the_command_predicts_the_largest_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["downstream", str(TESTBED), "--where", "dataset_name == 'rpj'", "--law", "overtrained", "--params",
                 "N", "--tokens", "D", "--flops", "flops", "--loss", "loss_c4_val", "--metric", "err_avg_subset",
                 "--objective", "lsq", "--hold-out", "2", "--bootstrap", "100"]  # fmt: skip
    assert main([*arguments, "--json", str(tmp_path / "o.json"), "--figures", str(tmp_path)]) == 0
    drawn = (tmp_path / "downstream.csv").read_text().splitlines()
    assert sum(line.startswith("predicted,held out") for line in drawn) == 2
    assert sum(line.startswith("predicted,") for line in drawn) == sum(line.startswith("run,") for line in drawn) > 30
    assert (tmp_path / "downstream.png").stat().st_size > 10_000
    assert "runs that neither step was fitted to" in capsys.readouterr().out
    card = json.loads((tmp_path / "o.json").read_text())
    assert len(card["held_out"]) == 2
    for one in card["held_out"]:
        assert one["metric_ci95"][0] < one["metric_predicted"] < one["metric_ci95"][1]
        assert one["metric_predicted"] == pytest.approx(one["metric"], rel=0.1)
    assert main([*arguments[:-4], "--hold-out", "35"]) == 2
