"""`fit`, `predict` and their verbs on tables: the same answer, test rows, groups, weights, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import compare, fit, predict
from analysis.cli.main import main
from analysis.errors import AnalysisError
from analysis.fitting.cross_validation import Data


def table(noise: float = 2e-3) -> pd.DataFrame:
    params = np.repeat(np.geomspace(1e7, 1e9, 6), 6)
    tokens = np.tile(np.geomspace(1e9, 3e10, 6), 6)
    loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    return pd.DataFrame(
        {"N": params, "D": tokens, "loss": loss * np.exp(noise * np.random.default_rng(1).standard_normal(36))}
    )


def test_test_rows_are_predicted_and_not_fitted() -> None:
    runs = table()
    large = 6 * runs["N"] * runs["D"] > 3e19
    runs["split"] = np.where(large, "test", "train")
    found = fit(runs, "chinchilla", train="split")
    alone = fit(runs[~large].drop(columns="split"), "chinchilla")
    assert found.values == alone.values
    assert found.table is not None
    held_out = found.table.held_out
    assert held_out is not None
    assert held_out.num_points == int(large.sum())
    larger = {name: runs.loc[large, name].to_numpy() for name in ("N", "D")}
    by_hand = np.log(alone.predict(larger) / runs["loss"][large])
    assert held_out.rms == pytest.approx(np.sqrt(np.mean(by_hand**2)), rel=1e-9)
    assert held_out.in_run_interval > 0.7
    assert f"held out   {int(large.sum())} rows" in found.summary()


def test_a_column_of_groups_is_used_by_fit_and_compare() -> None:
    runs = table().assign(run=np.repeat(np.arange(12), 3))
    found = fit(runs, "chinchilla", cluster="run")
    assert found.degrees == 12 - 5
    assert found.interval_replicates is not None
    assert (found.interval_replicates.method, found.interval_replicates.cluster) == ("clusters", "run")
    ranked = compare(runs, ["chinchilla"], cluster="run")
    assert np.isnan(ranked.scores[0].aicc)
    data = Data(
        columns={name: runs[name].to_numpy() for name in ("N", "D")},
        loss=runs["loss"].to_numpy(),
        scale=runs["D"].to_numpy(),
        size=runs["D"].to_numpy(),
        clusters=runs["run"].to_numpy(),
    )
    left_out = np.array([0])
    assert data.without_groups_of(left_out).sum() == 36 - 3  # the two other rows of the group are not fitted either


def test_weights_move_the_fit_and_zero_error_is_refused() -> None:
    runs = table().assign(se=1e-3)
    even = fit(runs, "chinchilla", stderr="se")
    assert even.values["alpha"] == pytest.approx(fit(table(), "chinchilla").values["alpha"], rel=0.05)
    runs["w"] = np.where(runs["N"] > 1e8, 1.0, 5.0)
    assert fit(runs, "chinchilla", weight="w").values["alpha"] != even.values["alpha"]
    with pytest.raises(AnalysisError, match="give one of them"):
        fit(runs, "chinchilla", weight="w", stderr="se")
    with pytest.raises(AnalysisError):
        fit(runs.assign(se=0.0), "chinchilla", stderr="se")


def test_the_verb_and_the_function_predict_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    table().to_csv(path, index=False)
    arguments = ["predict", str(path), "--loss", "loss", "--params", "N", "--tokens", "D"]
    assert main([*arguments, "--at", "N=1e10", "--at", "D=1e11,2e11", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    here = predict(fit(path, "chinchilla"), {"N": [1e10, 1e10], "D": [1e11, 2e11]}).to_frame()
    assert card["kind"] == "predict"
    assert [one["loss"] for one in card["predictions"]] == here["loss"].tolist()
    assert [one["run_ci95"][1] for one in card["predictions"]] == here["run_upper"].tolist()
    assert card["predictions"][0]["extrapolation"] == pytest.approx(1e21 / (1e9 * 3e10))
    exact = 1.69 + 406.4 / 1e10**0.34 + 410.7 / np.array([1e11, 2e11]) ** 0.28
    assert ((here["law_lower"] < exact) & (exact < here["law_upper"])).all()
    assert (here["run_upper"] > here["law_upper"]).all()
    assert main([*arguments, "--at", "N=1e10", "--at", "D=1e11"]) == 0
    assert "next run [" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "--at", "N=big"], "--at N=big: write it as NAME=NUMBER"),
        (["predict"], "no run to predict is given"),
        (["predict", "--at", "N=1e9"], "reads (D: training tokens): give it by letter"),
        (["fit", "--law", "chinchilla", "--fix", "alpha=-3"], "alpha of law chinchilla"),
        (["fit", "--law", "chinchilla", "--tie", "alpha"], "--tie alpha: write it as NAME=NAME"),
        (["fit", "--law", "chinchilla", "--bootstrap", "0"], "--bootstrap 0"),
        (["compare", "--train", "loss"], "train"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    path = tmp_path / "t.csv"
    table().to_csv(path, index=False)
    mapped = ["--loss", "loss", "--params", "N", "--tokens", "D"]
    assert main([arguments[0], str(path), *mapped, *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_tie_reaches_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    table().to_csv(path, index=False)
    arguments = ["fit", str(path), "--loss", "loss", "--params", "N", "--tokens", "D", "--law", "chinchilla"]
    assert main([*arguments, "--tie", "alpha=beta", "--fix", "E=0", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["tied"] == {"alpha": "beta"}
    assert card["coefficients"]["alpha"]["value"] == card["coefficients"]["beta"]["value"]
    assert card["coefficients"]["E"]["value"] == 0
    assert card["intervals"]["method"] in ("residuals", "runs")
