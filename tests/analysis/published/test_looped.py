"""The law of looped models: recovered from runs of a known truth, and its printed fits against each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.cli.main import main
from analysis.errors import FitError
from analysis.fitting import fit_law
from analysis.laws.constraints import held
from analysis.laws.registry import LAWS
from analysis.published.looped import AT_PHI, JOINT, PHI_INTERVAL, joint_fit, looped, published_runs

TRUTH = {**JOINT, "A": 27.0, "B": 930.0}


@pytest.mark.parametrize("phi", [-0.2, 0.0, 0.459, 1.0])
def test_a_known_truth_is_found_again(phi: float) -> None:
    """120 runs with the noise of seeds, dense ones among them: phi to within a few of its standard errors."""
    columns, _ = published_runs(1e17, 1e20)
    columns = {**columns, "N_rec": np.where(columns["r"] == 1, 0.0, columns["N_rec"])}  # dense models have none
    truth = {**TRUTH, "phi": phi}
    exact = LAWS["looped"].predict(truth, columns)
    found = fit_law("looped", columns, exact, objective="log_lsq").values
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    noisy = exact * np.exp(np.random.default_rng(1).normal(scale=0.002, size=len(exact)))
    fit = fit_law("looped", columns, noisy, bootstrap=200)
    low, high = fit.coefficient("phi").ci95
    assert low < phi < high
    assert high - low < 0.35


def test_the_printed_fits_agree_with_each_other() -> None:
    found = looped()
    assert [line.what for line in found.lines if not line.agrees] == []
    assert len(found.lines) == 5
    assert PHI_INTERVAL[0] < joint_fit(1e17, 1e19).values["phi"] < PHI_INTERVAL[1]


def test_the_printed_joint_law_explains_the_four_better_than_those_with_phi_0_or_1() -> None:
    columns, losses = published_runs(1e17, 1e20)
    errors = []
    for phi, others in {JOINT["phi"]: JOINT, **AT_PHI}.items():
        law = held(LAWS["looped"], {**others, "phi": phi})
        errors.append(np.std(fit_law(law, columns, losses, objective="log_lsq").predict(columns) - losses))
    assert 2 * errors[0] < min(errors[1:])


def test_a_table_is_fitted_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns, _ = published_runs(1e17, 1e19)
    loss = LAWS["looped"].predict(TRUTH, columns)
    table = tmp_path / "runs.csv"
    rows = zip(columns["N_once"], columns["N_rec"], columns["D"], columns["r"], loss, strict=True)
    table.write_text(
        "params_once,params_recurrent,tokens,recurrences,loss\n" + "\n".join(",".join(map(str, row)) for row in rows)
    )
    factors = ["--factor", "N_once=params_once", "--factor", "N_rec=params_recurrent", "--factor", "r=recurrences"]
    arguments = ["fit", str(table), "--law", "looped", "--tokens", "tokens", "--loss", "loss", *factors]
    assert main([*arguments, "--bootstrap", "20", "--json"]) == 0
    coefficients = json.loads(capsys.readouterr().out)["coefficients"]
    assert coefficients["phi"]["value"] == pytest.approx(0.459, rel=1e-4)
    with pytest.raises(FitError, match=r"column r \(recurrences, 1 for a dense model\) must be finite, at least 1"):
        LAWS["looped"].predict(TRUTH, {**columns, "r": columns["r"] * 0})
