"""Wrong inputs to the functions of a notebook end with a sentence that names the mistake, never with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import formatting
from analysis.cli.main import main
from analysis.errors import AnalysisError
from tests.analysis.test_fit_command import written


def two_families() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (family, flops, seed, 3.0 * (flops / 1e17) ** -0.1 * share * float(np.exp(0.003 * random.standard_normal())))
        for family, share in (("dense", 1.0), ("memory", 0.95))
        for flops in (1e17, 1e18, 1e19, 1e20)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows, columns=["family", "C", "seed", "loss"])


def gain(frame: pd.DataFrame, **changed: object) -> object:
    return analysis.gains(frame, **{"of": "memory", "over": "dense", "family": "family", **changed})


WRONG: dict[str, tuple[Callable[[pd.DataFrame], object], str]] = {
    "one family twice": (lambda frame: gain(frame, over="memory"), "name one family, 'memory'"),
    "an axis that is none": (lambda frame: gain(frame, axis="F"), "there is no axis 'F'"),
    "a place that is no number": (lambda frame: gain(frame, at=["far"]), "give numbers above 0"),
    "a row without a family": (
        lambda frame: gain(frame.assign(family=frame["family"].where(frame.index != 3))),
        "it names no family",
    ),
    "a law that is no law": (lambda frame: analysis.fit(frame, 3), "a law is given by its name"),
    "fixed at a word": (
        lambda frame: analysis.fit(frame, "power", factors={"x": "C"}, fix={"A": "x"}),
        "fix needs a number",
    ),
    "one refit": (lambda frame: analysis.fit(frame, "power", factors={"x": "C"}, bootstrap=1), "at least 2"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_input_is_named(wrong: str) -> None:
    call, said = WRONG[wrong]
    with pytest.raises(AnalysisError, match=said):
        call(two_families())


def test_losses_that_rise_with_compute_end_with_words() -> None:
    frame = two_families().query("family == 'dense'")
    frame = frame.assign(loss=frame["loss"].to_numpy()[::-1])
    rising = analysis.fit(frame, "power_with_offset", factors={"x": "C"})
    assert "power_with_offset" in rising.summary()


def test_every_figure_of_an_answer_is_written(tmp_path: Path) -> None:
    written = analysis.draw(gain(two_families()), tmp_path)
    assert {path.suffix for path in written} == {".png", ".pdf", ".csv"}
    assert all(path.stat().st_size > 0 for path in written)


@pytest.mark.parametrize("noise", [0.0, 2e-3])
def test_losses_that_rise_with_the_size_end_with_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], noise: float
) -> None:
    flops, params = np.repeat([1e18, 1e19, 1e20], 5), np.tile(np.geomspace(1e7, 1e9, 5), 3)
    loss = (2 + 0.1 * np.log(params) - 0.05 * np.log(flops)) * (1 + noise * np.random.default_rng(0).normal(size=15))
    path = tmp_path / "t.csv"
    pd.DataFrame({"N": params, "D": flops / 6 / params, "C": flops, "loss": loss}).to_csv(path, index=False)
    assert main(["isoflop", str(path)]) == 0
    assert main(["fit", str(path), "--law", "chinchilla", "--figures", str(tmp_path)]) == 0
    assert (tmp_path / "residuals.png").exists()
    assert not (tmp_path / "best_split.png").exists()
    shown = capsys.readouterr().out
    assert (
        shown.count("no compute-optimal allocation: the fitted loss does not fall as N grows from 1e+07 to 1e+09") == 2
    )
    assert "its minimum lies below the smallest tried" in shown
    assert "not known" not in shown


def test_values_to_predict_may_have_the_units_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "t.csv")
    arguments = ["predict", str(path), "--params", "size", "--tokens", "tokens", "--loss", "loss"]
    answers = []
    for given in (["N=2e9", "D=4e10"], ["N=2B", "D=40 billion"]):
        assert main([*arguments, *(word for one in given for word in ("--at", one))]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert main([*arguments, "--at", "N=2X", "--at", "D=1"]) == 2
    assert "N, D, C may have a unit: K, M, B or T" in capsys.readouterr().err


def test_numbers_of_one_are_singular() -> None:
    with pytest.raises(AnalysisError, match="has 5 free parameters, and the table 1 point: give"):
        analysis.fit({"N": [1e8], "D": [1e9], "loss": [3.0]}, "chinchilla")
    with pytest.raises(AnalysisError, match="its only row is left out"):
        analysis.fit({"N": [1e8], "D": [1e9], "loss": [3.0]}, "chinchilla", where="N > 1e9")
    counts = [formatting.counted(number, "degree of freedom") for number in (1, 2, 1.0, 2.5)]
    assert counts == ["1 degree of freedom", "2 degrees of freedom", "1 degree of freedom", "2.5 degrees of freedom"]
