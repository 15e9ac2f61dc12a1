"""One table has one compute-optimal size: through the notebook function, the verb and the report of a sweep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.allocation.diagnostics import warnings_of
from analysis.allocation.from_table import isoflop
from analysis.cli.main import main
from analysis.errors import FitError
from analysis.interval import ConfidenceInterval
from tests.analysis.synthetic_results import Settings, settings_rows, write

SWEEP = Settings(
    families=("dense",), widths=(32, 48, 64, 96, 128, 192, 256), budgets=(1e14, 4e14, 1.6e15), best_width=64, bowl=0.06,
    noise=0.001,
)  # fmt: skip


def test_the_report_the_verb_and_the_function_give_the_same_optimum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "results.csv", settings_rows(SWEEP))
    found = isoflop(path, loss="loss_nats", params="params_active", tokens="tokens", flops="flops_train")
    assert found.isoflop is not None
    arguments = ["--loss", "loss_nats", "--params", "params_active", "--tokens", "tokens", "--flops", "flops_train"]
    assert main(["isoflop", str(path), *arguments, "--json"]) == 0
    verb = json.loads(capsys.readouterr().out)
    assert main(["report", str(path), "--out", str(tmp_path / "report")]) == 0
    report = json.loads((tmp_path / "report" / "analysis.json").read_text())["isoflops"]
    second = verb["approaches"]["2 (isoFLOP, window)"]
    exponents = [second["a"]["exponent"], report["frontiers"]["dense"]["a"]["exponent"]]
    assert exponents == [found.isoflop.params.exponent] * 2
    assert second["a"]["exponent_ci95"] == report["frontiers"]["dense"]["a"]["exponent_ci95"]
    best = [one.params for one in found.isoflop.minima]
    assert [one["params"] for one in second["minima"]] == best
    assert [one["optimum"]["params"] for one in report["curves"]] == best
    assert [one["optimum"]["params_ci95"] for one in report["curves"]] == [
        list(one.params_ci95 or ()) for one in found.isoflop.minima
    ]
    for one in report["curves"]:
        sizes = [size["params"] for size in one["sizes"]]
        assert min(sizes) < one["optimum"]["params"] < max(sizes)


def table(seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for flops in (1e18, 1e19, 1e20):
        best = 1e8 * (flops / 1e18) ** 0.5
        for params in best * np.geomspace(1 / 4, 4, 7):
            loss = 4.0 - 0.2 * np.log10(flops / 1e18) + 0.4 * np.log10(params / best) ** 2
            rows.append((params, flops / 6 / params, loss * (1 + 0.001 * random.standard_normal())))
    return pd.DataFrame(rows, columns=["N", "D", "loss"])


def test_a_frame_goes_straight_in_and_a_frame_comes_out() -> None:
    found = isoflop(table(), at=[1e21])
    frame = found.to_frame()
    assert set(frame["approach"]) == {
        "1 (envelope)", "2 (isoFLOP, window)", "2 (isoFLOP, parabola)", "2 (isoFLOP, akima)", "3 (law)",
    }  # fmt: skip
    row = frame[frame["approach"] == "2 (isoFLOP, window)"].iloc[0]
    assert row["params_lower"] < 1e8 * 1000**0.5 < row["params_upper"]
    assert row["params"] * row["tokens"] * 6 == pytest.approx(1e21, rel=1e-6)
    assert list(found.minima_frame()["reason"]) == ["", "", ""]
    assert "approach 2 (isoFLOP, window)" in str(found)


def test_rows_that_the_table_holds_out_are_not_fitted() -> None:
    marked = table().assign(split="train")
    wrong = marked.assign(split="test", loss=marked["loss"] * (1 + 0.3 * np.log10(marked["N"] / 1e8)))
    found = isoflop(pd.concat([marked, wrong], ignore_index=True), train="split")
    assert found.to_frame().equals(isoflop(table()).to_frame())


def test_flops_that_are_no_number_are_refused() -> None:
    with pytest.raises(FitError, match="above 0; given -1"):
        isoflop(table(), at=[1e20, -1.0])


def test_methods_that_differ_by_more_than_their_intervals_are_warned_of() -> None:
    found = isoflop(table())
    assert "methods_differ" not in {one.code for one in found.warnings}
    line = found.other_methods[0].params
    assert line.exponent_ci95 is not None
    ends = ConfidenceInterval(line.exponent_ci95.lower + 0.2, line.exponent_ci95.upper + 0.2)
    moved = replace(found.other_methods[0], params=replace(line, exponent=line.exponent + 0.2, exponent_ci95=ends))
    apart = replace(found, other_methods=(moved, *found.other_methods[1:]))
    columns = {"N": found.runs.params, "D": found.runs.tokens}
    (said,) = [one.text for one in warnings_of(apart, columns) if one.code == "methods_differ"]
    assert "parabola" in said
    assert "akima" not in said
