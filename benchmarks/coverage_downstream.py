"""Simulated tables for the intervals of `downstream`: law and next run, at ten times the greatest compute."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from analysis.downstream.metric import describe_metric
from analysis.downstream.two_steps import StepOptions, two_steps
from analysis.laws.registry import LAWS
from benchmarks.coverage import Case, Held

FloatArray = npt.NDArray[np.float64]

LAW = LAWS["power_with_offset"]
TRUTH = {"E": 1.7, "A": 40.0, "alpha": 0.1}
AHEAD = {"x": np.array([1e22])}


def _accuracy(loss: FloatArray, link: str) -> FloatArray:
    if link == "sigmoid":
        return np.asarray(0.25 + 0.7 / (1 + np.exp(4.0 * (loss - 2.4))))
    return np.asarray(0.14 + 2.2 * np.exp(-0.7 * loss))


def _held(num: int, noise: float, link: str, name: str, random: np.random.Generator) -> Held:
    columns = {"x": np.geomspace(1e17, 1e21, num)}
    loss = LAW.predict(TRUTH, columns) * np.exp(noise * random.standard_normal(num))
    accuracy = _accuracy(loss, link) + noise * random.standard_normal(num)
    values = accuracy if name == "acc" else 1.0 - accuracy
    metric, _ = describe_metric(name, values, loss, floor=0.25 if link == "sigmoid" else None)
    found = two_steps(
        LAW, columns, loss, loss, values, metric, link=link, law_options=StepOptions(objective="log_huber"),
        link_options=StepOptions(objective="lsq"), seed=int(random.integers(1 << 30)),
    ).predict(AHEAD)  # fmt: skip
    exact = LAW.predict(TRUTH, AHEAD)
    next_loss = exact * np.exp(noise * random.standard_normal())
    truth = _accuracy(exact, link)
    next_accuracy = _accuracy(next_loss, link) + noise * random.standard_normal()
    if name != "acc":
        truth, next_accuracy = 1.0 - truth, 1.0 - next_accuracy
    held: dict[str, bool | None] = {}
    for what, value, ends in (
        ("loss, law", exact, found.loss_ci95), ("loss, next run", next_loss, found.loss_of_run),
        ("metric, law", truth, found.metric_ci95), ("metric, next run", next_accuracy, found.metric_of_run),
    ):  # fmt: skip
        held[what] = bool(ends[0, 0] <= value[0] <= ends[1, 0]) if np.isfinite(ends).all() else None
    return held


def cases() -> list[Case]:
    """Few and many runs, an error and an accuracy, both links."""
    return [
        Case(
            name=f"downstream: {num} runs, {link} link, {name}",
            words=f"a power law with offset, noise {noise:g} of ln loss and of the metric, one decade ahead",
            table=partial(_held, num, noise, link, name),
        )
        for num, noise, link, name in (
            (12, 0.005, "exponential", "err"), (30, 0.005, "exponential", "acc"), (100, 0.01, "exponential", "err"),
            (30, 0.005, "sigmoid", "acc"),
        )
    ]  # fmt: skip
