"""From compute to a metric: known links are found, the first step's error reaches the second, chance is respected."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.downstream.gap import gap_closed
from analysis.downstream.metric import Metric, describe_metric
from analysis.downstream.two_steps import LINKS, StepOptions, TwoSteps, link_values, two_steps
from analysis.errors import FitError
from analysis.laws.registry import LAWS

LAW = LAWS["power_with_offset"]
TRUTH = {"E": 1.7, "A": 40.0, "alpha": 0.1}
AHEAD = {"x": np.array([1e22])}


def error_at(loss: np.ndarray) -> np.ndarray:
    return np.asarray(0.86 - 2.2 * np.exp(-0.7 * loss))


def accuracy_at(loss: np.ndarray) -> np.ndarray:
    return np.asarray(0.25 + 0.7 / (1 + np.exp(4.0 * (loss - 2.4))))


def table(seed: int, *, noise: float = 0.005, num: int = 40) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    columns = {"x": np.geomspace(1e17, 1e21, num)}
    loss = LAW.predict(TRUTH, columns) * np.exp(noise * random.standard_normal(num))
    return columns, loss, error_at(loss) + noise * random.standard_normal(num)


def fitted(
    columns: dict[str, np.ndarray], loss: np.ndarray, values: np.ndarray, name: str = "err", link: str = "exponential",
    floor: float | None = None, ceiling: float | None = None, seed: int = 0,
) -> TwoSteps:  # fmt: skip
    metric, _ = describe_metric(name, values, loss, floor=floor, ceiling=ceiling)
    return two_steps(
        LAW, columns, loss, loss, values, metric, link=link, law_options=StepOptions(objective="log_lsq"),
        link_options=StepOptions(objective="lsq"), seed=seed,
    )  # fmt: skip


@pytest.mark.slow
def test_both_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """A smaller number of the tables of `benchmarks/coverage_downstream.py`."""
    exact = float(LAW.predict(TRUTH, AHEAD)[0])
    held = np.zeros(2)
    for seed in range(24):
        predicted = fitted(*table(seed, num=15), seed=seed).predict(AHEAD)
        random = np.random.default_rng([seed, 1])
        next_loss = exact * np.exp(0.005 * random.standard_normal())
        next_metric = float(error_at(np.array(next_loss))) + 0.005 * random.standard_normal()
        for at, (value, ends) in enumerate(
            ((float(error_at(np.array(exact))), predicted.metric_ci95), (next_metric, predicted.metric_of_run))
        ):
            held[at] += ends[0, 0] <= value <= ends[1, 0]
    assert (held >= 0.85 * 24).all()


def test_the_first_steps_error_is_carried_into_the_second() -> None:
    columns, loss, _ = table(3)
    found = fitted(columns, loss, error_at(loss) + 1e-5 * np.sin(np.arange(40)))
    predicted = found.predict(AHEAD)
    slope = (error_at(predicted.loss + 1e-4) - error_at(predicted.loss)) / 1e-4
    width, of_loss = (float(np.ptp(ends)) for ends in (predicted.metric_ci95, predicted.loss_ci95))
    assert width == pytest.approx(float(slope[0]) * of_loss, rel=0.05)
    assert float(np.ptp(predicted.metric_of_run)) > width


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_an_accuracy_gets_the_same_link_as_its_error(unit: float) -> None:
    columns, loss, error = table(1)
    as_error, as_accuracy = fitted(columns, loss, error), fitted(columns, loss, unit * (1.0 - error), name="acc")
    assert as_accuracy.metric.higher_is_better
    assert not as_error.metric.higher_is_better
    for name in ("eps", "k", "gamma"):
        assert as_accuracy.link.values[name] == pytest.approx(as_error.link.values[name], rel=1e-6)
    errors, accuracies = (found.predict(AHEAD) for found in (as_error, as_accuracy))
    assert accuracies.metric == pytest.approx(unit * (1.0 - errors.metric), rel=1e-6)
    assert accuracies.metric_ci95[::-1] == pytest.approx(unit * (1.0 - errors.metric_ci95), rel=1e-6)


def test_without_noise_both_steps_are_exact_and_bounds_hold() -> None:
    columns, loss, _ = table(0, noise=0.0)
    found = fitted(columns, loss, accuracy_at(loss), name="acc", link="sigmoid", floor=0.25, ceiling=0.95)
    assert set(found.link.fixed) == {"b", "p0"}
    exact = LAW.predict(TRUTH, AHEAD)
    assert found.predict(AHEAD).metric == pytest.approx(accuracy_at(exact), rel=1e-3)
    assert float(found.metric_at(np.array([0.0]))[0]) <= 0.95


def test_no_prediction_leaves_floor_and_ceiling() -> None:
    columns, loss, error = table(2, noise=0.05)
    found = fitted(columns, loss, error, floor=0.9, ceiling=0.25)
    assert found.link.fixed == ("eps",)
    predicted = found.predict({"x": np.geomspace(1e10, 1e30, 9)})
    for ends in (predicted.metric[None, :], predicted.metric_ci95, predicted.metric_of_run):
        assert float(ends.min()) >= 0.25
        assert float(ends.max()) <= 0.9


def test_links_of_refits_are_the_links_formula() -> None:
    random = np.random.default_rng(0)
    loss = random.uniform(1.5, 4.0, (3, 5))
    for form in LINKS.values():
        columns = {"L": np.linspace(1.5, 4.0, 30)}
        metric, _ = describe_metric("err", error_at(columns["L"]), columns["L"])
        assert isinstance(metric, Metric)
        theta = np.stack([form.theta(values) for values in VALUES[form.name]])
        found = link_values(form, form.values(theta), loss)
        for row, values in enumerate(VALUES[form.name]):
            assert found[row] == pytest.approx(form.predict(values, {"L": loss[row]}), rel=1e-12)


VALUES = {
    "exponential_link": [{"eps": 0.8 + 0.01 * at, "k": 2.0, "gamma": 0.7} for at in range(3)],
    "sigmoid_link": [{"p0": 0.7, "k": -4.0 - at, "x0": 2.4, "b": 0.25} for at in range(3)],
}


def test_what_cannot_be_linked_is_refused() -> None:
    columns, loss, error = table(0)
    metric, _ = describe_metric("err", error, loss)
    given = StepOptions(objective="lsq")
    with pytest.raises(FitError, match="at least 4 runs with the metric; given: 2"):
        two_steps(LAW, columns, loss, loss[:2], error[:2], metric, law_options=given, link_options=given)
    with pytest.raises(FitError, match="no link 'linear'"):
        fitted(columns, loss, error, link="linear")
    with pytest.raises(FitError, match="give --floor beside --ceiling"):
        fitted(columns, loss, 1.0 - error, name="acc", link="sigmoid", ceiling=0.95)
    with pytest.raises(FitError, match="no gap"):
        gap_closed(0.4, 0.5, 0.4)
