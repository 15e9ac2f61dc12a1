"""Laws are ranked by what they predict: the true one first, and its errors as large as the noise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.cli.main import main
from analysis.fitting.cross_validation import Data, Options, extrapolations, groups, leave_one_size_out
from analysis.fitting.model_selection import aicc, rank
from analysis.fitting.sensitivity import sensitivity
from analysis.laws.registry import LAWS
from tests.published import CHINCHILLA, chinchilla, needs_published

TRUTH = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
NOISE = 4e-3


def table(noise: float = NOISE, seed: int = 0) -> Data:
    params = np.repeat(np.geomspace(1e7, 3e9, 8), 7)
    tokens = np.tile(np.geomspace(1e9, 1e11, 7), 8)
    exact = LAWS["chinchilla"].predict(TRUTH, {"N": params, "D": tokens})
    loss = exact * np.exp(noise * np.random.default_rng(seed).standard_normal(len(exact)))
    return Data(columns={"N": params, "D": tokens}, loss=loss, scale=6 * params * tokens, size=params)


def test_the_law_that_made_the_losses_ranks_before_the_others() -> None:
    data = table()
    laws = [LAWS[name] for name in ("kaplan", "power_with_offset", "chinchilla", "routed")]
    columns = {"kaplan": data.columns, "chinchilla": data.columns, "power_with_offset": {"x": data.scale}}
    judged = rank(laws, columns, data, Options())
    assert judged[0].law.name == "chinchilla"
    assert judged[-1].law.name == "routed"
    assert "lacks a column" in judged[-1].reason
    best, second = judged[:2]
    assert best.aicc < second.aicc - 10
    assert best.left_out_rms == pytest.approx(NOISE, rel=0.3)
    assert NOISE < best.extrapolation_rms < 4 * NOISE < second.extrapolation_rms * 2


def test_every_extrapolation_predicts_runs_beyond_what_it_was_fitted_to() -> None:
    data = table(noise=0.0)
    parts = extrapolations(LAWS["chinchilla"], data, Options())
    assert len(parts) >= 2
    for part in parts:
        assert len(part.rows) == (data.scale > part.limit * (1 + 1e-9)).sum() > 0
        assert np.abs(part.error).max() < 1e-6
    sizes = leave_one_size_out(LAWS["chinchilla"], data, Options())
    assert sorted(np.concatenate([part.rows for part in sizes]).tolist()) == list(range(len(data.loss)))
    assert max(part.rms for part in sizes) < 1e-6


def test_many_sizes_are_left_out_in_groups_of_neighbours() -> None:
    values = np.random.default_rng(0).uniform(1, 100, 57)
    found = groups(values)
    assert len(found) == 10
    highest = [values[at].max() for at in found]
    assert all(high <= values[at].min() for high, at in zip(highest, found[1:], strict=False))
    assert [len(at) for at in groups(np.array([2.0, 1.0, 2.0]))] == [1, 2]


def test_a_part_that_cannot_be_fitted_says_why() -> None:
    data = table()
    few = data.scale <= np.sort(data.scale)[4]
    cut = Data(
        columns={name: values[few] for name, values in data.columns.items()},
        loss=data.loss[few],
        scale=data.scale[few],
        size=data.size[few],
    )
    parts = leave_one_size_out(LAWS["chinchilla"], cut, Options())
    assert all(part.reason for part in parts)
    assert all(math.isnan(part.rms) for part in parts)


def test_aicc_prefers_fewer_parameters_for_the_same_residuals_and_smaller_residuals() -> None:
    residual = 0.01 * np.random.default_rng(0).standard_normal(60)
    assert aicc(residual, 3) < aicc(residual, 5) < aicc(2 * residual, 5)
    assert aicc(2 * residual, 5) - aicc(residual, 5) == pytest.approx(2 * 60 * math.log(2), rel=1e-3)
    assert aicc(residual[:5], 5) == math.inf


@needs_published
@pytest.mark.slow
def test_the_sensitivity_of_the_exponent_is_the_published_one() -> None:
    data = chinchilla(0)
    N, D, loss = (data[name].to_numpy() for name in ("N", "D", "loss"))
    found = sensitivity(
        LAWS["chinchilla"], Data(columns={"N": N, "D": D}, loss=loss, scale=6 * N * D, size=N), "a", Options()
    )
    by_label = {one.label: one.value for one in found}
    assert by_label["log_huber"] == pytest.approx(0.565, abs=5e-4)
    assert by_label["1 highest loss left out"] == pytest.approx(0.544, abs=5e-4)
    assert by_label["3 highest losses left out"] == pytest.approx(0.524, abs=5e-4)
    assert by_label["5 highest losses left out"] == pytest.approx(0.514, abs=5e-4)
    assert {one.kind for one in found} == {"as fitted", "objective", "exclusion"}


@needs_published
@pytest.mark.slow
def test_the_command_ranks_the_laws_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", str(CHINCHILLA), "--params", "Model Size", "--flops", "Training FLOP", "--loss", "loss"]
    arguments += ["--drop-highest", "5", "--law", "chinchilla", "--law", "kaplan", "--json", str(tmp_path / "o.json")]
    assert main([*arguments, "--figures", str(tmp_path / "figures")]) == 0
    said = capsys.readouterr().out
    assert said.index("chinchilla  ") < said.index("kaplan  ")
    card = json.loads((tmp_path / "o.json").read_text())
    assert [one["law"] for one in card["laws"]] == ["chinchilla", "kaplan"]
    assert card["sensitivity"][0]["value"] == pytest.approx(0.5139, abs=5e-5)
    assert (tmp_path / "figures" / "sensitivity.png").is_file()
    assert main([*arguments, "--headline", "gamma"]) == 2
    assert "no law that was fitted has a coefficient 'gamma'" in capsys.readouterr().err


def test_another_count_of_parameters_is_a_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table()
    rows = ["N,all,D,loss"]
    rows += [f"{n},{1.3 * n + 1e6},{d},{loss}" for n, d, loss in zip(*data.columns.values(), data.loss, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows))
    arguments = ["compare", str(path), "--params", "N", "--tokens", "D", "--loss", "loss", "--law", "chinchilla"]
    assert main([*arguments, "--other-params", "all", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["sensitivity"][-1]["choice"] == "N as all"
    assert card["sensitivity"][-1]["value"] != card["sensitivity"][0]["value"]
