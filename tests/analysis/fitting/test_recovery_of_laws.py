"""Every law is found again from its own losses with noise, on a table as people have them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.fitting import fit_law
from analysis.laws.registry import LAWS, law_named
from tests.analysis.laws.test_law_values import JOINT

CHINCHILLA = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
STORED = {"c": 0.3, "alpha": 1.0, "beta": 0.3, "k": 2.0}
TRUTH: dict[str, dict[str, float]] = {
    "power": {"A": 12.0, "alpha": 0.05},
    "power_with_offset": {"E": 1.7, "A": 30.0, "alpha": 0.16},
    "kaplan": {"Nc": 8.8e13, "Dc": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
    "chinchilla": CHINCHILLA,
    "overtrained": {"a": 212.0, "b": 367.0, "E": 1.84, "eta": 0.136},
    "m1": {"beta": 12.0, "c": -0.05},
    "m2": {"beta": 30.0, "c": -0.16, "eps_inf": 1.7},
    "routed": {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "Es": 1.847, "Em": 314.478},
    "fine_grained_moe": {"a": 18.1, "alpha": 0.115, "b": 30.8, "beta": 0.147, "g": 2.1, "gamma": 0.58, "c": 0.47},
    "looped": {"A": 27.7, "B": 918.0, "E": 1.57, "alpha": 0.199, "beta": 0.369, "phi": 0.459},
    "data_constrained": {**CHINCHILLA, "R_D": 15.0},
    "memory_effective": {**CHINCHILLA, "m": 0.6, "gamma": 0.4},
    "memory_additive": {**CHINCHILLA, "M": 0.2, "T0": 3e7, "gamma": 0.4},
    "memory_log_linear": {**CHINCHILLA, "G": 0.05, "K0": 3e4},
    "experts_effective": {"a": 406.4, "alpha": 0.34, "b": 410.7, "beta": 0.28, "c": 1.69, "m": 0.3, "gamma": 0.5},
    "experts_additive": {"a": 406.4, "alpha": 0.34, "b": 410.7, "beta": 0.28, "c": 1.69, "M": 0.3, "E0": 3.0,
                         "gamma": 0.7},
    "experts_log_linear": {"a": 406.4, "alpha": 0.34, "b": 410.7, "beta": 0.28, "c": 1.69, "G": 0.05, "E0": 2.0},
    "stored_dense": STORED,
    "stored_memory_effective": {**STORED, "m": 0.5, "gamma": 0.4},
    "stored_memory_additive": {**STORED, "m": 0.3, "gamma": 0.9},
    "stored_memory_log_linear": {**STORED, "G": 0.4, "K0": 3e4},
    "stored_experts_effective": {**STORED, "m": 0.3, "gamma": 0.5},
    "stored_experts_additive": {**STORED, "m": 0.3, "gamma": 0.9},
    "stored_experts_log_linear": {**STORED, "G": 0.4, "E0": 2.0},
    "data_constrained_full": {**CHINCHILLA, "R_D": 15.0, "R_N": 5.3},
    "m3": {"beta": 30.0, "c": -0.16, "eps_inf": 1.7, "gamma": 1e-8},
    "m4": {"beta": 30.0, "c": -0.16, "eps_inf": 1.7, "above": 6.0, "alpha": 0.5},
    "broken_power": {"a": 1.5, "b": 30.0, "c0": 0.1, "c1": 0.15, "d1": 1e7, "f1": 0.5},
    "joint_moe": JOINT,
    "sparsity": {"a": 16612.5, "alpha": 0.5962, "b": 5455.67, "beta": 0.3954, "c": 0.4598, "lambda": -0.1666,
                 "d": 17.26, "delta": 0.1603, "gamma": 0.1595, "e": 0.94},
    "exponential_link": {"eps": 0.857, "k": 2.2, "gamma": 0.71},
    "sigmoid_link": {"p0": 0.7, "k": -4.0, "x0": 1.1, "b": 0.25},
}  # fmt: skip
"""Parameters of every registered law, which the tests find again."""
SLOW = ("m4", "sparsity")


def table(name: str, num: int = 160, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    spans = {"N": (1e7, 1e10), "D": (1e9, 1e12), "C": (1e17, 1e22), "G": (1, 32), "U": (1e9, 1e10), "M": (5, 600),
             "x": (1e3, 1e12), "N_once": (1e7, 1e9)}  # fmt: skip
    if name.startswith("stored"):  # a model holds neither nothing nor all of what is offered
        spans |= {"N": (1e7, 1e8), "D": (1e9, 1e10), "B": (3e7, 3e8)}
    columns = {}
    for column in LAWS[name].columns:
        if column.name == "E":
            columns["E"] = random.choice([1.0, 2, 4, 8, 16, 32, 64, 128, 256], num)
        elif column.name == "S":
            columns["S"] = random.choice([0.0, 0.5, 0.75, 0.875, 0.9375, 0.96875], num)
        elif column.name == "T":
            columns["T"] = random.choice([0.0, 1e7, 1e8, 1e9, 1e10], num)
        elif column.name == "K":
            columns["K"] = random.choice([0.0, 2.0**10, 2.0**14, 2.0**17, 2.0**20], num)
        elif column.name == "r":
            columns["r"] = random.choice([1.0, 2, 4, 8], num)
        elif column.name == "N_rec":
            columns["N_rec"] = random.choice([0.0, 1e7, 1e8, 1e9], num)
        elif column.name == "L":
            columns["L"] = random.uniform(0.4, 3.0, num)
        else:
            columns[column.name] = np.exp(random.uniform(*np.log(spans[column.name]), num))
    return columns


def test_every_registered_law_is_found_again() -> None:
    """A law that is registered without parameters in `TRUTH` would go untested."""
    assert set(TRUTH) == set(LAWS)


@pytest.mark.parametrize("name", TRUTH)
def test_a_law_is_found_again_without_noise(name: str) -> None:
    law, columns = LAWS[name], table(name)
    loss = law.predict(TRUTH[name], columns)
    found = fit_law(law, columns, loss, objective="log_lsq" if law.gives == "log" else "lsq")
    assert found.predict(columns) == pytest.approx(loss, rel=1e-5)
    for key, value in TRUTH[name].items():
        assert found.values[key] == pytest.approx(value, rel=2e-2), key


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TRUTH])
def test_with_noise_the_truth_lies_near_the_intervals(name: str) -> None:
    """Of so many parameters a few lie outside a 95 % interval; none may lie far outside."""
    law, columns = LAWS[name], table(name)
    noise = 3e-3 * np.random.default_rng(1).standard_normal(160)
    exact = law.predict(TRUTH[name], columns)
    loss = exact * np.exp(noise) if law.gives == "log" else exact + noise
    found = fit_law(law, columns, loss, objective="log_lsq" if law.gives == "log" else "lsq")
    rms = np.sqrt(np.mean((found.predict(columns) - exact) ** 2)) / np.sqrt(np.mean((loss - exact) ** 2))
    assert rms < 0.5, "the fit follows the noise"
    for one in found.coefficients:
        if one.name in TRUTH[name] and one.identified:
            lower, upper = one.ci95
            slack = upper - lower
            assert lower - slack <= TRUTH[name][one.name] <= upper + slack, one


def test_a_sum_over_any_columns_is_found_again() -> None:
    law = law_named("sum_of_powers(N, D, slots)")
    random = np.random.default_rng(0)
    columns = {name: np.exp(random.uniform(np.log(low), np.log(high), 200)) for name, low, high in
               (("N", 1e7, 1e9), ("D", 1e9, 1e11), ("slots", 1e3, 1e7))}  # fmt: skip
    truth = {"A_N": 300.0, "A_D": 500.0, "A_slots": 0.9, "alpha_N": 0.3, "alpha_D": 0.3, "alpha_slots": 0.2, "E": 1.5}
    found = fit_law(law, columns, law.predict(truth, columns), objective="log_lsq")
    for key, value in truth.items():
        assert found.values[key] == pytest.approx(value, rel=1e-2), key


N, D = np.geomspace(1e7, 1e9, 12), np.geomspace(3e10, 1e9, 12)
LOSS = LAWS["chinchilla"].predict(CHINCHILLA, {"N": N, "D": D}) * (1 + 1e-3 * np.sin(np.arange(12)))


@pytest.mark.parametrize(
    "columns, loss, said",
    [
        ({"N": N, "D": D}, np.full(12, 2.5), "all 12 losses are 2.5"),
        ({"N": N[:2], "D": D[:2]}, LOSS[:2], "5 free parameters, and the table 2 points"),
        ({"N": np.full(12, 1e8), "D": D}, LOSS, "column N is 1e[+]08 in all 12 points"),
        ({"N": np.where(N > 5e8, np.nan, N), "D": D}, LOSS, r"column N .* must be finite, above 0"),
        ({"N": -N, "D": D}, LOSS, "above 0"),
        ({"N": N, "D": D}, np.where(LOSS > 3, 0.0, LOSS), "the loss must be finite and above 0"),
        ({"N": N, "D": D}, np.where(LOSS > 3, np.inf, LOSS), "the loss must be finite"),
        ({"N": N}, LOSS, "reads column D"),
        ({"N": N, "D": D[:3]}, LOSS, "column D has 3 values, the losses 12"),
        ({"N": N[:0], "D": D[:0]}, LOSS[:0], "no points to fit"),
        ({"N": ["small"] * 12, "D": D}, LOSS, "column N must hold numbers"),
    ],
)
def test_what_no_law_can_be_fitted_to_is_refused(columns: dict[str, np.ndarray], loss: np.ndarray, said: str) -> None:
    with pytest.raises(FitError, match=said):
        fit_law("chinchilla", columns, loss)


def test_what_the_table_cannot_tell_is_said() -> None:
    together = fit_law("chinchilla", {"N": N, "D": 20 * N}, LOSS)
    assert "collinear" in {one.code for one in together.warnings}
    few = fit_law("chinchilla", {"N": N[:6], "D": D[:6]}, LOSS[:6])
    assert "few_points" in {one.code for one in few.warnings}
    flat = fit_law("power_with_offset", {"x": N}, 2.0 + 1e-9 * np.arange(12.0))
    assert flat.warnings


def test_options_that_make_no_sense_are_refused() -> None:
    columns = {"N": N, "D": D}
    for options, said in (
        ({"objective": "huber2"}, "no objective 'huber2'. Known: log_huber"),
        ({"objective": "log_lsq", "delta": 1e-3}, "has no delta"),
        ({"delta": -1.0}, "delta of objective log_huber must be finite and above 0"),
        ({"fixed": {"F": 1.0}}, "no parameter 'F'"),
        ({"bounds": {"E": (2.0, 1.0)}}, "a lower and a higher number"),
        ({"bootstrap": 10, "cluster": "seed"}, "no column 'seed' to group"),
    ):
        with pytest.raises(FitError, match=said):
            fit_law("chinchilla", columns, LOSS, **options)


def test_a_fixed_parameter_stays_and_has_no_interval() -> None:
    found = fit_law("chinchilla", {"N": N, "D": D}, LOSS, fixed={"E": 1.69})
    assert found.values["E"] == pytest.approx(1.69)
    assert found.coefficient("E").se == 0


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_draws() -> None:
    columns = {"N": N, "D": D}
    first, again, other = (fit_law("chinchilla", columns, LOSS, bootstrap=50, seed=seed) for seed in (1, 1, 2))
    assert first.replicates is not None
    assert again.replicates is not None
    assert other.replicates is not None
    assert first.replicates.theta.tobytes() == again.replicates.theta.tobytes()
    assert first.replicates.theta.tobytes() != other.replicates.theta.tobytes()


def test_weights_are_copies_of_points() -> None:
    counts = np.arange(12) % 3 + 1
    weighted = fit_law("chinchilla", {"N": N, "D": D}, LOSS, weights=counts.astype(float))
    copied = fit_law("chinchilla", {"N": np.repeat(N, counts), "D": np.repeat(D, counts)}, np.repeat(LOSS, counts))
    assert weighted.value == pytest.approx(copied.value, rel=1e-9)


def test_a_large_table_is_fitted_to_its_own_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts that were polished on a part of it end where those of the whole do."""
    columns = table("chinchilla", num=600)
    noise = 5e-3 * np.random.default_rng(2).standard_normal(600)
    loss = LAWS["chinchilla"].predict(CHINCHILLA, columns) * np.exp(noise)
    whole = fit_law("chinchilla", columns, loss)
    monkeypatch.setattr(sys.modules["analysis.fitting.fit_law"], "PART", 100)
    parted = fit_law("chinchilla", columns, loss)
    assert parted.value == pytest.approx(whole.value, rel=1e-10)
    assert parted.values["alpha"] == pytest.approx(whole.values["alpha"], rel=1e-6)
    assert parted.starts == whole.starts
