"""Coefficients fixed, tied and bounded: checked against the law's own bounds, in every law."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.fitting import fit_law
from analysis.laws.constraints import bounded, held, tied
from analysis.laws.registry import LAWS

EVERY = [(law, parameter.name) for law in LAWS.values() for parameter in law.parameters]
TRUTH = {"A": 400.0, "B": 500.0, "E": 1.7, "alpha": 0.33, "beta": 0.33}


@pytest.mark.parametrize(("law", "name"), EVERY, ids=[f"{law.name}-{name}" for law, name in EVERY])
def test_a_value_outside_the_bounds_is_an_error_that_names_them(law: object, name: str) -> None:
    declared = LAWS[law.name]
    parameter = declared.parameters[declared.index(name)]
    for value in (parameter.lower - 1e3, parameter.upper * 2 + 1e3, float("nan"), float("inf")):
        with pytest.raises(FitError, match="lies between") as error:
            held(declared, {name: value})
        assert f"{parameter.lower:g} and {parameter.upper:g}" in str(error.value)


def columns(num: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {"N": np.exp(random.uniform(16, 23, num)), "D": np.exp(random.uniform(20, 27, num))}


def test_an_amplitude_fixed_at_zero_takes_its_term_out() -> None:
    data = columns()
    loss = 406.4 / data["N"] ** 0.34 + 410.7 / data["D"] ** 0.28
    found = fit_law("chinchilla", data, loss, fixed={"E": 0.0}, objective="log_lsq")
    assert found.values["E"] == 0.0
    assert found.values["alpha"] == pytest.approx(0.34, rel=1e-5)
    with pytest.raises(FitError, match=r"E = -1 cannot be fixed.*or 0 for none"):
        fit_law("chinchilla", data, loss, fixed={"E": -1.0})


def test_a_tie_gives_two_coefficients_one_value() -> None:
    data = columns()
    noise = np.exp(2e-3 * np.random.default_rng(1).standard_normal(40))
    loss = LAWS["chinchilla"].predict(TRUTH, data) * noise
    found = fit_law("chinchilla", data, loss, tied={"alpha": "beta"}, objective="log_lsq")
    free = fit_law("chinchilla", data, loss, objective="log_lsq")
    assert found.law.names == ("A", "B", "E", "beta")
    assert found.values["alpha"] == found.values["beta"] == pytest.approx(0.33, abs=0.03)
    assert found.num_free == 4
    assert found.value >= free.value
    assert found.coefficient("a").value == 0.5
    by_hand = found.values["E"] + found.values["A"] / data["N"] ** found.values["beta"] + (
        found.values["B"] / data["D"] ** found.values["beta"]
    )  # fmt: skip
    np.testing.assert_allclose(found.predict(data), by_hand, rtol=1e-12)


def test_a_law_with_starts_of_its_own_can_be_tied() -> None:
    data = columns()
    loss = ((1e13 / data["N"]) ** 1.0 + 5e13 / data["D"]) ** 0.08
    found = fit_law("kaplan", data, loss, tied={"alpha_N": "alpha_D"}, objective="log_lsq")
    assert found.values["alpha_N"] == pytest.approx(0.08, rel=1e-3)


@pytest.mark.parametrize(
    ("tie", "words"),
    [
        ({"alpha": "alpha"}, "tied to itself"),
        ({"alpha": "A"}, "different kinds"),
        ({"alpha": "gamma"}, "no parameter 'gamma'"),
        ({"alpha": "beta", "beta": "alpha"}, "alpha of law chinchilla is tied to beta"),
    ],
)
def test_ties_that_mean_nothing_are_refused(tie: dict[str, str], words: str) -> None:
    with pytest.raises(FitError, match=words):
        tied(LAWS["chinchilla"], tie)


def test_bounds_are_in_order() -> None:
    assert bounded(LAWS["chinchilla"], {"alpha": (0.1, 0.2)}).upper[3] == 0.2
    with pytest.raises(FitError, match="a lower and a higher number"):
        bounded(LAWS["chinchilla"], {"alpha": (0.2, 0.1)})
    with pytest.raises(FitError, match="lower bound must be too"):
        bounded(LAWS["chinchilla"], {"E": (-1.0, 2.0)})


def test_the_full_data_constrained_law_as_it_is_published() -> None:
    """Muennighoff et al. 2023 with alpha = beta: U_N = min(N, G^2 U), G = (A / B)^(1 / (2 alpha))."""
    values = {"A": 521.0, "B": 1488.0, "E": 1.87, "alpha": 0.353, "beta": 0.353, "R_D": 15.4, "R_N": 5.3}
    unique, params, tokens = np.array([1e8, 1e9, 1e9]), np.array([5e9, 2.8e9, 1e7]), np.array([4e9, 4.4e10, 1e9])
    best = (521.0 / 1488.0) ** (1 / 0.353) * unique
    fed = np.minimum(params, best)
    worth_N = fed + fed * 5.3 * (1 - np.exp(-(params / fed - 1) / 5.3))
    worth_D = unique + unique * 15.4 * (1 - np.exp(-(tokens / unique - 1) / 15.4))
    expected = 1.87 + 521.0 / worth_N**0.353 + 1488.0 / worth_D**0.353
    found = LAWS["data_constrained_full"].predict(values, {"N": params, "D": tokens, "U": unique})
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (params > best).tolist() == [True, True, False]
