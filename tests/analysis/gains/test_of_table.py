"""A gain from any table: the truth lies inside, and the report, the verb and the function give one number."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic_results import Truth, rows, write

from analysis.cli.main import main
from analysis.errors import FitError, TableError
from analysis.figures import gains as gains_figures
from analysis.gains import gains
from analysis.report import build
from analysis.tables import observe

MULTIPLIER = 1.7


def table(
    noise: float = 2e-3, multiplier: float = MULTIPLIER, num: int = 8, seeds: int = 3, seed: int = 0
) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    made = []
    for kind, gain in (("memory", multiplier), ("dense", 1.0)):
        for flops in np.geomspace(1e17, 1e20, num):
            for number in range(seeds):
                exact = 1.8 + 4.0 * (flops * gain / 1e17) ** -0.25
                loss = exact * np.exp(noise * random.standard_normal())
                made.append({"kind": kind, "flops": flops, "size": np.sqrt(flops / 120), "seed": number, "loss": loss})
    return pd.DataFrame(made)


def test_without_noise_the_gain_is_exact_in_both_directions() -> None:
    frame = table(noise=1e-9)
    for axis, expected in (("C", MULTIPLIER), ("N", MULTIPLIER**0.5)):
        for of, over, power in (("memory", "dense", 1.0), ("dense", "memory", -1.0)):
            found = gains(frame, of=of, over=over, family="kind", axis=axis, flops="flops", params="size")
            assert found.multiplier.value == pytest.approx(expected**power, rel=1e-3)
    assert found.curves.law.name == "power_with_offset"


def test_the_noise_comes_from_the_seeds_and_the_frame_has_every_number() -> None:
    found = gains(table(), of="memory", over="dense", family="kind", flops="flops", at=[1e18, 1e19])
    noise = found.curves.noise
    assert noise is not None
    assert noise.degrees == 2 * 8 * 2
    assert noise.std == pytest.approx(2e-3, rel=0.4)
    frame = found.to_frame()
    assert frame["quantity"].value_counts().to_dict() == {
        "difference": 8, "law difference": 2, "multiplier": 2, "mean difference": 1,
    }  # fmt: skip
    assert (frame["lower"] < frame["value"]).all()
    assert (frame["value"] < frame["upper"]).all()
    assert "memory over dense: x1." in found.summary()


def test_runs_of_two_families_are_never_taken_for_one_run(tmp_path: Path) -> None:
    """The families share sizes and seeds; a family's own second row with one seed is still reported."""
    frame = table()
    options: dict[str, Any] = {"of": "memory", "over": "dense", "family": "kind", "flops": "flops", "params": "size"}
    assert gains(frame, **options).warnings == ()
    twice = pd.concat([frame, frame.iloc[[5]].assign(loss=3.0), frame.iloc[[7]].assign(loss=3.1)], ignore_index=True)
    assert any(one.startswith("rows 49, 50 have the columns and the seed") for one in gains(twice, **options).warnings)
    same = frame.assign(loss=frame["loss"].iloc[:24].tolist() * 2)
    assert not any("agree with an earlier row" in one for one in gains(same, **options).warnings)
    path = tmp_path / "t.csv"
    frame.assign(kind=frame["kind"].map({"memory": "1e2", "dense": "100"})).to_csv(path, index=False)
    found = gains(path, **(options | {"of": "1e2", "over": "100"}))
    assert found.multiplier.value == gains(frame, **options).multiplier.value
    words = ["gain", str(path), "--of", "1e2", "--over", "100", "--family", "kind", "--flops", "flops"]
    assert main([*words, "--loss", "loss"]) == 0


def test_the_best_rate_is_that_of_each_family() -> None:
    frame = table(seeds=2).rename(columns={"seed": "rate"})
    frame["rate"] += 1
    worse = (frame["kind"] == "memory") == (frame["rate"] == 1)
    frame["loss"] += np.where(worse, 0.5, 0.0)
    observed = observe(frame, family="kind", flops="flops", best_of="rate")
    assert observed.row.tolist() == [row for row, out in zip(range(1, 33), worse, strict=True) if not out]


def test_checkpoints_of_a_run_are_no_independent_points() -> None:
    """Errors that a run's checkpoints share, taken as independent, give an interval that is too narrow."""
    random = np.random.default_rng(1)
    made = []
    for kind, gain in (("memory", 1.5), ("dense", 1.0)):
        for run in range(3):
            shared = 0.01 * random.standard_normal()
            for flops in np.geomspace(1e17, 1e19, 8):
                loss = 3.6 * (flops * gain / 1e17) ** -0.08 * np.exp(shared + 1e-4 * random.standard_normal())
                made.append({"kind": kind, "C": flops, "loss": loss, "run": f"{kind}{run}"})
    frame = pd.DataFrame(made)
    alone = gains(frame.drop(columns="run"), of="memory", over="dense", family="kind").multiplier
    by_run = gains(frame, of="memory", over="dense", family="kind", cluster="run").multiplier
    assert alone.interval is not None
    assert by_run.interval is not None
    assert by_run.interval.width > 2 * alone.interval.width


def test_what_cannot_be_compared_is_refused() -> None:
    frame = table()
    options = {"of": "memory", "over": "dense", "family": "kind", "flops": "flops"}
    with pytest.raises(TableError, match="no column 'family'"):
        gains(frame, **{**options, "family": "family"})
    with pytest.raises(FitError, match=r"no row of family 'pkm'.*memory, dense"):
        gains(frame, **{**options, "of": "pkm"})
    with pytest.raises(FitError, match="does not use weight"):
        gains(frame.assign(w=1.0), **options, weight="w")
    sizes = pd.concat([frame, frame.assign(size=frame["size"] * 2)])
    with pytest.raises(FitError, match="several model sizes at one number of FLOPs"):
        gains(sizes, **options, params="size")
    far = frame.assign(flops=np.where(frame["kind"] == "dense", frame["flops"] * 1e6, frame["flops"]))
    with pytest.raises(FitError, match="do not overlap"):
        gains(far, **options)


def test_one_seed_of_two_levels_has_no_interval() -> None:
    found = gains(table(num=2, seeds=1), of="memory", over="dense", family="kind", flops="flops")
    assert found.multiplier.interval is None
    assert "noise of a run is unknown" in found.summary()


@pytest.mark.slow
def test_the_report_the_verb_and_the_function_give_one_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "t.csv", rows(Truth(tuning=False)))
    report = json.loads(build.build(path, tmp_path / "out").card.read_text())
    assert main(["gain", str(path), "--json"]) == 0
    of_sweep = json.loads(capsys.readouterr().out)
    arguments = ["--family", "family", "--of", "memory_plus", "--over", "moe", "--flops", "flops_train"]
    assert main(["gain", str(path), *arguments, "--loss", "loss_nats", "--json"]) == 0
    of_table = json.loads(capsys.readouterr().out)["gains"][0]
    found = gains(
        str(path), of="memory_plus", over="moe", family="family", flops="flops_train", loss="loss_nats"
    ).multiplier
    expected = report["multipliers"][0]
    assert (expected["subject"], expected["baseline"], expected["axis"]) == ("memory_plus", "moe", "flops")
    assert found.interval is not None
    for value, interval in (
        (of_sweep["multipliers"][0]["value"], of_sweep["multipliers"][0]["ci95"]),
        (of_table["multipliers"][0]["value"], of_table["multipliers"][0]["ci95"]),
        (found.value, list(found.interval)),
    ):
        assert value == pytest.approx(expected["value"], rel=1e-12)
        assert interval == pytest.approx(expected["ci95"], rel=1e-12)
    overall = report["comparisons"][0]["overall"]
    assert of_table["comparison"]["overall"]["value"] == pytest.approx(overall["value"], rel=1e-12)
    assert of_table["comparison"]["overall"]["ci95"] == pytest.approx(overall["ci95"], rel=1e-12)


def test_the_command_on_any_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    table().rename(columns={"kind": "kind of model"}).to_csv(path, index=False)
    arguments = ["gain", str(path), "--family", "kind of model", "--of", "memory", "--over", "dense", "--loss", "loss"]
    arguments += ["--flops", "flops", "--at", "1e19"]
    assert main([*arguments, "--json", str(tmp_path / "o.json"), "--figures", str(tmp_path / "f")]) == 0
    shown = capsys.readouterr().out
    assert "memory over dense: x1." in shown
    assert "compute at 1e+19 FLOPs" in shown
    card = json.loads((tmp_path / "o.json").read_text())
    assert (card["kind"], card["n"]) == ("gain", 48)
    read = card["gains"][0]["multipliers"][0]
    assert read["value"] == pytest.approx(MULTIPLIER, rel=0.05)
    assert read["ci95"][0] < read["value"] < read["ci95"][1]
    assert main([*arguments[:-6], "--of", "pkm", "--loss", "loss", "--flops", "flops"]) == 2
    assert "no row of family 'pkm'" in capsys.readouterr().err


def test_the_figure_shows_the_multiplier_along_the_axis(tmp_path: Path) -> None:
    found = gains(table(), of="memory", over="dense", family="kind", flops="flops")
    made = gains_figures.write([found], tmp_path)
    assert sorted(path.name for path in made) == [f"gain_compute.{ending}" for ending in ("csv", "pdf", "png")]
    with open(tmp_path / "gain_compute.csv") as file:
        lines = list(csv.DictReader(file))
    along = [row for row in lines if row["part"] == "multiplier"]
    assert 30 < len(along) <= 60
    assert all(float(row["lower"]) <= float(row["y"]) <= float(row["upper"]) for row in along)
    assert np.median([float(row["y"]) for row in along]) == pytest.approx(MULTIPLIER, rel=0.05)
    assert sum(row["part"] == "run" for row in lines) == 48
