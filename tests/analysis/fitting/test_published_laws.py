"""Published fits of other laws on their authors' own data: routing, over-training, downstream error, Llama 3."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitting import fit_law
from tests.published import llama3, needs_published, overtrained, routed

pytestmark = needs_published

ROUTING = {  # a, b, c, d, Es, Em; Clark et al. 2022
    "S-Base": (-0.083, -0.118, 0.0099, 1.114, 2.1, 239),
    "RL-R": (-0.0827, -0.1234, 0.0112, 1.107, 1.7, 470),
    "Hash": (-0.0874, -0.1384, 0.0126, 1.160, 4.3, 427),
}


@pytest.mark.parametrize("router", ROUTING)
def test_the_routing_law_has_the_published_coefficients(router: str) -> None:
    table = routed(router)
    columns = {"N": table["dense_parameter_count"], "E": table["num_experts"]}
    found = fit_law("routed", columns, table["loss_validation"], objective="log_lsq")
    a, b, c, d, start, end = ROUTING[router]
    values = found.values
    assert values["a"] == pytest.approx(a, abs=6e-5)
    assert values["b"] == pytest.approx(b, abs=6e-5)
    assert values["c"] == pytest.approx(c, abs=6e-5)
    assert values["d"] == pytest.approx(d, abs=6e-4)
    assert values["Es"] == pytest.approx(start, abs=0.05)
    assert values["Em"] == pytest.approx(end, abs=0.5)
    assert found.starts.share_at_best == 1.0


def test_routing_is_worth_so_many_times_the_parameters_and_predicts_larger_models() -> None:
    table = routed("S-Base")
    columns = {"N": table["dense_parameter_count"], "E": table["num_experts"]}
    found = fit_law("routed", columns, table["loss_validation"], objective="log_lsq")
    values = found.values
    for params, gain in ((55e6, 5.2), (370e6, 3.8), (1.3e9, 3.0)):
        routed_loss = found.predict({"N": np.array([params]), "E": np.array([64.0])})[0]
        low, high = 1.0, 100.0
        for _ in range(60):  # the dense model with the same loss
            middle = (low * high) ** 0.5
            dense = found.predict({"N": np.array([params * middle]), "E": np.array([1.0])})[0]
            low, high = (middle, high) if dense > routed_loss else (low, middle)
        assert low == pytest.approx(gain, abs=0.2), values
    small = table[table["dense_parameter_count"] < 250e6]
    large = table[table["dense_parameter_count"] >= 350e6]
    part = fit_law(
        "routed",
        {"N": small["dense_parameter_count"], "E": small["num_experts"]},
        small["loss_validation"],
        objective="log_lsq",
    )
    predicted = part.predict({"N": large["dense_parameter_count"].to_numpy(), "E": large["num_experts"].to_numpy()})
    error = (abs(predicted - large["loss_validation"]) / large["loss_validation"]).mean()
    assert 0.02 < error < 0.04


def test_the_overtraining_law_and_its_downstream_link_predict_the_held_out_models() -> None:
    table = overtrained()
    ratio = table["M"].round()
    five = table[
        ((ratio == 20) & table["N"].isin([10569312, 78914048, 153677376, 411616256]))
        | ((ratio == 320) & (table["N"] == 10569312))
    ]
    law = fit_law("overtrained", {"C": five["C"], "M": five["M"]}, five["loss_c4_val"], objective="lsq")
    assert law.values["E"] == pytest.approx(1.83665, abs=5e-6)
    assert -2 * law.values["eta"] == pytest.approx(-0.27285, abs=5e-6)
    sixth = table[(ratio == 20) & (table["N"] == 1439795200)]
    loss = [*five["loss_c4_val"], *sixth["loss_c4_val"]]
    error = [*five["err_avg_subset"], *sixth["err_avg_subset"]]
    link = fit_law("exponential_link", {"L": loss}, error, objective="lsq")
    assert link.values["eps"] == pytest.approx(0.8570, abs=5e-5)
    assert link.values["k"] == pytest.approx(2.2065, abs=5e-5)
    assert link.values["gamma"] == pytest.approx(0.7146, abs=5e-5)
    for params, tokens_per_param, loss_error, task_error in (
        (1439795200, 640, 0.7103, 3.6365),
        (6889410560, 20, 0.7320, 0.0464),
    ):
        held_out = table[(table["N"] == params) & (ratio == tokens_per_param)]
        predicted = law.predict({"C": held_out["C"].to_numpy(), "M": held_out["M"].to_numpy()})
        true = held_out["loss_c4_val"].to_numpy()
        assert 100 * abs(predicted - true)[0] / true[0] == pytest.approx(loss_error, abs=5e-5)
        true = held_out["err_avg_subset"].to_numpy()
        assert 100 * abs(link.predict({"L": predicted}) - true)[0] / true[0] == pytest.approx(task_error, abs=5e-5)


def test_llama_3_by_least_squares_of_the_log_loss() -> None:
    table = llama3()
    assert len(table) == 133
    values = fit_law(
        "chinchilla", {"N": table["params"], "D": table["tokens"]}, table["loss"], objective="log_lsq"
    ).values
    assert values["E"] == pytest.approx(0.6021, abs=5e-5)
    assert values["alpha"] == pytest.approx(0.3068, abs=5e-5)
    assert values["beta"] == pytest.approx(0.3110, abs=5e-5)
