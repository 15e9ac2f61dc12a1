"""Every law: published values, exact derivatives, and the smaller laws that it holds as special cases."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.laws.law import Law
from analysis.laws.registry import LAWS, law_named
from analysis.solver.model import Model

JOINT = {
    "a": 35.91, "alpha": -0.1889, "delta": -0.2285, "gamma": 0.0098, "b": 35.98, "beta": -0.1775, "omega": 0.5529,
    "zeta": -0.0259, "Es": 2.0732, "Em": 290.4521, "c": 1.3637,
}  # fmt: skip


def test_the_joint_moe_law_has_its_published_values() -> None:
    experts = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    columns = {"N": np.full(6, 1e9), "D": np.full(6, 2e10), "E": experts}
    loss = LAWS["joint_moe"].predict(JOINT, columns)
    assert loss.round(4).tolist() == [2.5776, 2.5587, 2.5352, 2.5088, 2.4814, 2.4546]


def test_laws_agree_with_their_formulas_written_out() -> None:
    N, D = np.array([1e8, 3e9]), np.array([2e9, 5e10])
    chinchilla = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
    expected = 1.69 + 406.4 / N**0.34 + 410.7 / D**0.28
    assert LAWS["chinchilla"].predict(chinchilla, {"N": N, "D": D}) == pytest.approx(expected, rel=1e-14)
    kaplan = {"Nc": 8.8e13, "Dc": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095}
    expected = ((8.8e13 / N) ** (0.076 / 0.095) + 5.4e13 / D) ** 0.095
    assert LAWS["kaplan"].predict(kaplan, {"N": N, "D": D}) == pytest.approx(expected, rel=1e-14)
    used = np.array([0.25, 0.5])
    sparse = {"a": 16612.5, "alpha": 0.5962, "b": 5455.67, "beta": 0.3954, "c": 0.4598, "lambda": -0.1666, "d": 17.26,
              "delta": 0.1603, "gamma": 0.1595, "e": 0.94}  # fmt: skip
    expected = (
        16612.5 / N**0.5962 + 5455.67 / D**0.3954 + 0.4598 / used**-0.1666 + 17.26 / (used**0.1603 * N**0.1595) + 0.94
    )
    assert LAWS["sparsity"].predict(sparse, {"N": N, "D": D, "S": 1 - used}) == pytest.approx(expected, rel=1e-14)
    grained = {"a": 18.1, "alpha": 0.115, "b": 30.8, "beta": 0.147, "g": 2.1, "gamma": 0.58, "c": 0.47}
    G = np.array([1.0, 8.0])
    expected = 0.47 + (2.1 / G**0.58 + 18.1) / N**0.115 + 30.8 / D**0.147
    assert LAWS["fine_grained_moe"].predict(grained, {"N": N, "D": D, "G": G}) == pytest.approx(expected, rel=1e-14)
    routed = {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "Es": 1.847, "Em": 314.478}
    E = np.array([1.0, 64.0])
    saturated = 1 / (1 / (E - 1 + 1 / (1 / 1.847 - 1 / 314.478)) + 1 / 314.478)
    lg_N, lg_E = np.log10(N), np.log10(saturated)
    expected = 10 ** (-0.082 * lg_N - 0.108 * lg_E + 0.009 * lg_N * lg_E + 1.104)
    assert LAWS["routed"].predict(routed, {"N": N, "E": E}) == pytest.approx(expected, rel=1e-13)
    U = np.array([1e9, 1e10])
    repeated = {**chinchilla, "R_D": 15.0}
    worth = U + U * 15 * (1 - np.exp(-(D / U - 1) / 15))
    expected = 1.69 + 406.4 / N**0.34 + 410.7 / worth**0.28
    found = LAWS["data_constrained"].predict(repeated, {"N": N, "D": D, "U": U})
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_parameter_that_recurs_counts_as_the_laws_power_of_its_recurrences() -> None:
    """With arXiv 2604.21106's coefficients; its A and B are not printed."""
    once, recurrent, tokens = np.array([4.8e7, 4.8e7, 3e8]), np.array([1.92e8, 9.6e7, 0.0]), np.array([2e9, 2e9, 9e9])
    r = np.array([1.0, 8.0, 4.0])
    columns = {"N_once": once, "N_rec": recurrent, "D": tokens, "r": r}
    printed = {"A": 27.0, "B": 930.0, "E": 1.57, "alpha": 0.199, "beta": 0.369, "phi": 0.459}
    expected = 1.57 + 27 * (once + r**0.459 * recurrent) ** -0.199 + 930 * tokens**-0.369
    assert LAWS["looped"].predict(printed, columns) == pytest.approx(expected, rel=1e-13)
    # Without recurrences it is Chinchilla's; with phi 1 so too, in the parameters that are applied.
    chinchilla = {name: printed[name] for name in ("A", "B", "E", "alpha", "beta")}
    plain = LAWS["chinchilla"].predict(chinchilla, {"N": once + recurrent, "D": tokens})
    assert LAWS["looped"].predict(printed, {**columns, "r": np.ones(3)}) == pytest.approx(plain, rel=1e-13)
    applied = LAWS["chinchilla"].predict(chinchilla, {"N": once + r * recurrent, "D": tokens})
    assert LAWS["looped"].predict({**printed, "phi": 1.0}, columns) == pytest.approx(applied, rel=1e-13)


def columns_of(law: Law, num: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    spans = {"N": (1e8, 1e9), "D": (1e10, 1e11), "C": (1e18, 1e20), "E": (1, 64), "G": (1, 8), "T": (1e7, 1e9),
             "U": (1e9, 9e9), "K": (1e3, 1e6), "B": (1e8, 1e9), "V": (5e7, 1e8), "M": (5, 300), "x": (1e3, 1e6),
             "L": (2, 5), "S": (0.05, 0.95), "N_once": (1e7, 1e8), "N_rec": (1e7, 1e9), "r": (1, 16)}  # fmt: skip
    return {one.name: np.exp(random.uniform(*np.log(spans[one.name]), size=num)) for one in law.columns}


def inside(law: Law, seed: int) -> np.ndarray:
    """Moderate parameters, every one within its bounds."""
    random = np.random.default_rng(seed)
    values = []
    for one in law.parameters:
        low, high = max(one.lower, 1e-3 if one.log else -1.5), min(one.upper, 1e6 if one.log else 1.5)
        middle = one.grid[len(one.grid) // 2] if one.grid and one.relative_to is None else None
        value = random.uniform(low, high) if not one.log else float(np.exp(random.uniform(np.log(low), np.log(high))))
        values.append(one.inner(value if middle is None else middle * random.uniform(0.8, 1.2)))
    return np.clip(np.array(values), law.lower, law.upper)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("seed", range(3))
def test_derivatives_are_those_of_differences(name: str, seed: int) -> None:
    law = LAWS[name]
    model = Model(law, columns_of(law, seed=seed), log=law.gives == "log")
    theta = inside(law, seed)
    if not np.isfinite(model.predict(theta[None, :])).all():
        pytest.skip("no finite value at these random parameters")
    step = 1e-5 * np.maximum(1, np.abs(theta))
    point = model.at(theta[None, :])
    gradients = point.gradients()[0]
    ones = np.ones((1, model.num_points))
    _, hessian, _ = point.sums(ones, ())
    for p in range(len(theta)):
        shift = np.zeros_like(theta)
        shift[p] = step[p]
        ahead, behind = (model.at((theta + sign * shift)[None, :]) for sign in (1, -1))
        slope = (ahead.value[0] - behind.value[0]) / (2 * step[p])
        scale = np.abs(gradients).max() + 1e-12
        assert gradients[:, p] == pytest.approx(slope, rel=2e-5, abs=2e-6 * scale), law.names[p]
        bend = (ahead.gradients()[0].sum(axis=0) - behind.gradients()[0].sum(axis=0)) / (2 * step[p])
        assert hessian[0, p] == pytest.approx(bend, rel=2e-4, abs=1e-5 * (np.abs(hessian).max() + scale)), law.names[p]


def test_memory_laws_without_a_table_are_chinchillas() -> None:
    base = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
    N, D, T = np.array([1e8, 3e9]), np.array([2e9, 5e10]), np.zeros(2)
    plain = LAWS["chinchilla"].predict(base, {"N": N, "D": D})
    effective = LAWS["memory_effective"].predict({**base, "m": 1.0, "gamma": 0.5}, {"N": N, "D": D, "T": T})
    additive = LAWS["memory_additive"].predict({**base, "M": 0.1, "T0": 1e6, "gamma": 0.5}, {"N": N, "D": D, "T": T})
    assert effective == pytest.approx(plain, rel=1e-14)
    assert additive == pytest.approx(plain + 0.1, rel=1e-12)


def test_laws_of_capacity_agree_with_their_formulas_written_out() -> None:
    N, D = np.array([1e6, 4e6, 4e6]), np.array([2e9, 5e8, 5e8])
    K, E = np.array([0.0, 2.0**12, 2.0**20]), np.array([1.0, 4.0, 64.0])
    dense = 1.69 + 406.4 / N**0.34 + 410.7 / D**0.28
    base = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
    found = LAWS["memory_log_linear"].predict({**base, "G": 0.05, "K0": 300.0}, {"N": N, "D": D, "K": K})
    assert found == pytest.approx(dense - 0.05 * np.log(1 + K / 300), rel=1e-13)
    own = {"a": 406.4, "b": 410.7, "c": 1.69, "alpha": 0.34, "beta": 0.28}
    columns = {"N": N, "D": D, "E": E}
    found = LAWS["experts_log_linear"].predict({**own, "G": 0.05, "E0": 2.0}, columns)
    assert found == pytest.approx(dense - 0.05 * np.log(1 + (E - 1) / 2), rel=1e-13)
    found = LAWS["experts_additive"].predict({**own, "M": 0.3, "E0": 2.0, "gamma": 0.7}, columns)
    assert found == pytest.approx(dense + 0.3 / (1 + (E - 1) / 2) ** 0.7, rel=1e-13)
    effective = N * (1 + 0.3 * (E - 1) ** 0.5)
    found = LAWS["experts_effective"].predict({**own, "m": 0.3, "gamma": 0.5}, columns)
    assert found == pytest.approx(1.69 + 406.4 / effective**0.34 + 410.7 / D**0.28, rel=1e-13)


STORED = {"c": 0.3, "alpha": 0.9, "beta": 0.3, "k": 2.0}


N, D, B = np.array([1e6, 4e6, 4e6]), np.array([2e9, 5e8, 5e8]), np.array([1e6, 1e6, 1e7])
T, K, E = np.array([0.0, 1e6, 1e8]), np.array([0.0, 2.0**12, 2.0**20]), np.array([1.0, 4.0, 64.0])
FADING, HELD, LOGARITHM = {"m": 0.5, "gamma": 0.4}, {"m": 0.2, "gamma": 0.8}, {"G": 0.4}
CAPACITIES: dict[str, tuple[dict[str, float], np.ndarray]] = {
    "dense": ({}, 0.3 * N**0.9),
    "memory_effective": (FADING, 0.3 * (N * (1 + 0.5 * (T / N) ** 0.4)) ** 0.9),
    "memory_additive": (HELD, 0.3 * N**0.9 + 0.2 * T**0.8),
    "memory_log_linear": ({**LOGARITHM, "K0": 9.0}, 0.3 * N**0.9 * (1 + 0.4 * np.log(1 + K / 9))),
    "experts_effective": (FADING, 0.3 * (N * (1 + 0.5 * (E - 1) ** 0.4)) ** 0.9),
    "experts_additive": (HELD, 0.3 * N**0.9 + 0.2 * (N * (E - 1)) ** 0.8),
    "experts_log_linear": ({**LOGARITHM, "E0": 3.0}, 0.3 * N**0.9 * (1 + 0.4 * np.log(1 + (E - 1) / 3))),
}


@pytest.mark.parametrize("name", CAPACITIES)
def test_what_is_stored_is_the_smooth_minimum_of_what_is_offered_and_a_capacity(name: str) -> None:
    own, capacity = CAPACITIES[name]
    law, columns = LAWS[f"stored_{name}"], {"N": N, "D": D, "B": B, "T": T, "K": K, "E": E}
    held = (D / B) ** 0.3 * capacity
    expected = (B**-2.0 + held**-2.0) ** -0.5 / B
    assert law.predict({**STORED, **own}, columns) == pytest.approx(expected, rel=1e-12)
    # Of little the model stores all, and of very much what it can hold.
    little, much = ({**columns, "B": np.full(3, bits), "D": np.full(3, 1e3 * bits)} for bits in (1.0, 1e15))
    assert law.predict({**STORED, **own}, little) == pytest.approx(np.ones(3), abs=1e-3)
    assert law.predict({**STORED, **own}, much) * 1e15 == pytest.approx(1e3**0.3 * capacity, rel=1e-3)


def test_laws_are_made_on_request_and_unknown_ones_refused() -> None:
    assert law_named("sum_of_powers(N, D, T)").names == (
        "A_N", "A_D", "A_T", "alpha_N", "alpha_D", "alpha_T", "E",
    )  # fmt: skip
    assert len(law_named("broken_power(2)").parameters) == len(law_named("broken_power(1)").parameters) + 3
    with pytest.raises(FitError, match=r"no law 'chinchila'. Known: .*chinchilla"):
        law_named("chinchila")
    with pytest.raises(FitError, match="each named once"):
        law_named("sum_of_powers(N, N)")
