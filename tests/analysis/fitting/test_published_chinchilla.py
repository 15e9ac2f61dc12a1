"""Epoch's points of the Chinchilla paper (Besiroglu et al. 2024): the optimum, its intervals, and what moves them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.fitting import Fit, fit_law
from tests.published import chinchilla, needs_published

pytestmark = needs_published


def fitted(drop_highest: int = 5, **options: object) -> Fit:
    table = chinchilla(drop_highest)
    return fit_law("chinchilla", {"N": table["N"], "D": table["D"]}, table["loss"], **options)


def test_the_optimum_is_the_published_one_to_every_digit_and_all_starts_reach_it() -> None:
    found = fitted()
    assert found.num_points == 240
    assert found.value == pytest.approx(0.0010182740178006, rel=1e-12)
    values = found.values
    assert values["A"] == pytest.approx(477.83, abs=0.005)
    assert values["B"] == pytest.approx(2143.4, abs=0.05)
    assert values["E"] == pytest.approx(1.8172, abs=5e-5)
    assert values["alpha"] == pytest.approx(0.3473, abs=5e-5)
    assert values["beta"] == pytest.approx(0.3672, abs=5e-5)
    assert values["a"] == pytest.approx(0.5139, abs=5e-5)
    assert found.starts.share_at_best == 1.0


def test_a_free_scale_gives_the_reported_point() -> None:
    values = fitted(objective="free_huber").values
    assert values["A"] == pytest.approx(482.006, abs=2e-3)
    assert values["B"] == pytest.approx(2085.434, abs=2e-3)
    assert values["E"] == pytest.approx(1.81686, abs=5e-6)
    assert values["alpha"] == pytest.approx(0.34781, abs=5e-6)
    assert values["beta"] == pytest.approx(0.36585, abs=5e-6)
    assert values["a"] == pytest.approx(0.5126, abs=5e-5)


@pytest.mark.parametrize("dropped, a", [(0, 0.565), (1, 0.544), (3, 0.524), (5, 0.514), (12, 0.505)])
def test_the_exponent_falls_as_the_highest_losses_go(dropped: int, a: float) -> None:
    assert fitted(dropped).values["a"] == pytest.approx(a, abs=5e-4)


def test_the_objective_alone_moves_the_exponent() -> None:
    found = {name: fitted(objective=name) for name in ("log_lad", "asymmetric")}
    assert found["log_lad"].values["a"] == pytest.approx(0.513, abs=5e-4)
    assert found["asymmetric"].values["a"] == pytest.approx(0.563, abs=5e-4)
    assert [one.code for one in found["asymmetric"].warnings] == ["asymmetric_objective"]


PUBLISHED = {  # 95 % intervals and standard errors of 4,000 refits
    "A": (285.0, 744.0, 124.5),
    "B": (1042.0, 5810.0, 1293.3),
    "E": (1.769, 1.871, 0.0257),
    "alpha": (0.317, 0.373, 0.0154),
    "beta": (0.331, 0.415, 0.0206),
    "a": (0.481, 0.556, 0.0200),
}


def test_the_bootstrap_gives_the_published_intervals() -> None:
    found = fitted(bootstrap=4000)
    assert found.replicates is not None
    assert found.replicates.share_converged > 0.999
    for name, (lower, upper, error) in PUBLISHED.items():
        one = found.coefficient(name)
        width = upper - lower
        assert one.ci95[0] == pytest.approx(lower, abs=0.05 * width), name
        assert one.ci95[1] == pytest.approx(upper, abs=0.05 * width), name
        # An amplitude's standard error rests on a few refits far out; it is held more loosely than quantiles.
        assert one.se == pytest.approx(error, rel=0.15 if name in ("A", "B") else 0.05), name


def test_no_refit_is_worse_than_the_published_procedure_makes_it() -> None:
    """One start each, at Hoffmann et al.'s values, by L-BFGS on the same resamples."""
    found = fitted(bootstrap=20, seed=3)
    assert found.replicates is not None
    log_N, log_D = np.log(found.columns["N"]), np.log(found.columns["D"])
    counts = np.random.default_rng(3).multinomial(
        found.num_points, np.full(found.num_points, 1 / found.num_points), size=20
    )
    for count, reached in zip(counts, found.replicates.objective, strict=True):

        def total(theta: np.ndarray, count: np.ndarray = count) -> float:
            terms = np.stack(
                [theta[0] - theta[3] * log_N, theta[1] - theta[4] * log_D, np.full(found.num_points, theta[2])]
            )
            residual = np.abs(np.logaddexp.reduce(terms) - np.log(found.loss))
            inside = np.minimum(residual, 1e-3)
            return float(count @ (inside * (residual - inside / 2)))

        start = np.array([np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28])
        published = minimize(total, start, method="L-BFGS-B", options={"maxiter": 10_000})
        assert reached <= published.fun * (1 + 1e-9)


def test_a_mean_in_the_place_of_the_sum_stops_far_from_the_optimum() -> None:
    """What this project does not do: with a mean and default tolerances L-BFGS stops where it started."""
    table = chinchilla()
    log_N, log_D, log_loss = (np.log(table[name].to_numpy()) for name in ("N", "D", "loss"))

    def mean(theta: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([theta[0] - theta[3] * log_N, theta[1] - theta[4] * log_D, np.full(len(log_N), theta[2])])
        whole = np.logaddexp.reduce(terms)
        residual, share = whole - log_loss, np.exp(terms - whole)
        inside = np.minimum(np.abs(residual), 1e-3)
        psi = np.clip(residual, -1e-3, 1e-3)
        slopes = np.stack([share[0], share[1], share[2], -share[0] * log_N, -share[1] * log_D])
        return float(np.mean(inside * (np.abs(residual) - inside / 2))), slopes @ psi / len(log_N)

    start = np.array([np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28])
    stopped = minimize(mean, start, jac=True, method="L-BFGS-B")
    assert stopped.success
    assert stopped.x[4] / (stopped.x[3] + stopped.x[4]) == pytest.approx(0.4496, abs=1e-2)
    assert stopped.fun * len(log_N) > 1.1 * 0.0010182740178006
