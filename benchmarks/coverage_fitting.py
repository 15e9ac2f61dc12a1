"""Simulated tables for the default intervals of `fit`, and for those of `predict` on larger held-out runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from analysis.fitting import fit_law, predict
from analysis.laws.registry import LAWS
from benchmarks.coverage import Case, Held

FloatArray = npt.NDArray[np.float64]
Columns = dict[str, FloatArray]

NOISE = 5e-3
"""Standard deviation of ln of a run's loss."""
TRUTHS: dict[str, dict[str, float]] = {
    "chinchilla": {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28},
    "power": {"A": 12.0, "alpha": 0.05},
    "power_with_offset": {"E": 1.7, "A": 30.0, "alpha": 0.16},
    "routed": {"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "Es": 1.847, "Em": 314.478},
}
_SPANS = {"N": (1e7, 1e10), "D": (1e9, 1e12), "x": (1e15, 1e22)}
_BUDGETS = (6e18, 3e19, 1e20, 3e20, 1e21, 3e21)
"""FLOPs of isoFLOP designs, as in Hoffmann et al. 2022, figure 3."""


def random_design(law: str, num: int, random: np.random.Generator) -> Columns:
    """Every column drawn evenly in logarithms; experts from powers of 4."""
    return {
        column.name: random.choice([1.0, 4.0, 16.0, 64.0, 256.0], num)
        if column.name == "E"
        else np.exp(random.uniform(*np.log(_SPANS[column.name]), num))
        for column in LAWS[law].columns
    }


def isoflop_design(num: int) -> Columns:
    """N and D on six budgets, sizes spread around 20 tokens a parameter: the published design at another size."""
    budgets = np.resize(np.array(_BUDGETS), num)
    each = -(-num // len(_BUDGETS))
    factors = np.repeat(np.geomspace(0.25, 4.0, each), len(_BUDGETS))[:num]
    params = np.sqrt(budgets / 120.0) * factors
    return {"N": params, "D": budgets / 6.0 / params}


def checkpoint_design(
    runs: int, checkpoints: int, random: np.random.Generator
) -> tuple[Columns, npt.NDArray[np.intp], FloatArray]:
    """Runs of random size, each read `checkpoints` times on its way: the columns, the run of each row, the noise.

    Half of the noise's variance is the run's own, the rest is correlated by .7 from one checkpoint to the next.
    """
    run = np.repeat(np.arange(runs), checkpoints)
    params = np.exp(random.uniform(*np.log(_SPANS["N"]), runs))[run]
    last = np.exp(random.uniform(np.log(2e10), np.log(1e12), runs))
    tokens = (last[:, None] * np.geomspace(0.05, 1.0, checkpoints)).ravel()
    drift = random.standard_normal((runs, checkpoints))
    for at in range(1, checkpoints):
        drift[:, at] = 0.7 * drift[:, at - 1] + np.sqrt(1 - 0.7**2) * drift[:, at]
    noise = NOISE * np.sqrt(0.5) * (random.standard_normal(runs)[run] + drift.ravel())
    return {"N": params, "D": tokens}, run, noise


def _coefficients(law: str, objective: str, columns: Columns, noise: FloatArray,
                  run: npt.NDArray[np.intp] | None, seed: int) -> Held:  # fmt: skip
    declared = LAWS[law]
    loss = declared.predict(TRUTHS[law], columns) * np.exp(noise)
    found = fit_law(law, columns, loss, objective=objective, clusters=run, cluster=None, seed=seed)
    truth = {name: float(value[0]) for name, value in declared.values(declared.theta(TRUTHS[law])[None, :]).items()}
    return {one.name: one.ci95.holds(truth[one.name]) if np.isfinite(one.ci95).all() else None
            for one in found.coefficients}  # fmt: skip


def _independent(law: str, objective: str, num: int, design: str, kind: str, random: np.random.Generator) -> Held:
    columns = random_design(law, num, random) if design == "random" else isoflop_design(num)
    noise = NOISE * (random.standard_normal(num) if kind == "normal" else random.standard_t(3, num) / np.sqrt(3.0))
    return _coefficients(law, objective, columns, noise, None, int(random.integers(1 << 30)))


def _checkpoints(objective: str, random: np.random.Generator) -> Held:
    columns, run, noise = checkpoint_design(16, 12, random)
    return _coefficients("chinchilla", objective, columns, noise, run, int(random.integers(1 << 30)))


AHEAD = {"N": np.array([2e10, 5e10]), "D": np.array([2e12, 1e12])}
"""Runs of 4 and 5 times the greatest compute that can be fitted."""


def _predicted(objective: str, num: int, seeds: int, kind: str, random: np.random.Generator) -> Held:
    """Fit `num` settings of `seeds` runs each, predict larger runs, and make them."""
    law = LAWS["chinchilla"]
    setting = np.repeat(np.arange(num), seeds)
    columns = {name: values[setting] for name, values in random_design("chinchilla", num, random).items()}

    def spread(at: Columns) -> FloatArray:
        compute = 6.0 * at["N"] * at["D"]
        return NOISE * (compute / 6e19) ** 0.25 if kind == "grows" else np.full(len(compute), NOISE)

    def measured(at: Columns) -> FloatArray:
        draws = random.standard_normal(len(at["N"]))
        loss: FloatArray = law.predict(TRUTHS["chinchilla"], at) * np.exp(spread(at) * draws)
        return loss

    found = fit_law(law, columns, measured(columns), objective=objective, seed=int(random.integers(1 << 30)))
    made = predict(found, AHEAD, setting=setting).to_frame()
    true, next_run = law.predict(TRUTHS["chinchilla"], AHEAD), measured(AHEAD)
    held: dict[str, bool | None] = {}
    for at in range(len(true)):
        row = made.iloc[at]
        held[f"law at {at + 1}"] = bool(row["law_lower"] <= true[at] <= row["law_upper"])
        held[f"next run at {at + 1}"] = bool(row["run_lower"] <= next_run[at] <= row["run_upper"])
    return held


def _case(name: str, words: str, table: Callable[[np.random.Generator], Mapping[str, bool | None]]) -> Case:
    return Case(name=f"fit: {name}", words=words, table=table)


def cases() -> list[Case]:
    """Laws, objectives and sizes of table; every interval is the default one of `fit`."""
    found = []
    for num in (15, 30, 100):
        for law, objective in (
            ("chinchilla", "log_huber"),
            ("chinchilla", "log_lsq"),
            ("power", "log_lsq"),
            ("power_with_offset", "log_lsq"),
            ("power_with_offset", "log_huber"),
            ("routed", "log_lsq"),
        ):
            words = f"{num} runs at random, {NOISE:g} of normal noise in ln L"
            table = partial(_independent, law, objective, num, "random", "normal")
            found.append(_case(f"{law}, {objective}, {num} runs", words, table))
        words = f"{num} runs on six isoFLOP budgets, {NOISE:g} of normal noise in ln L"
        table = partial(_independent, "chinchilla", "log_huber", num, "isoflop", "normal")
        found.append(_case(f"chinchilla, log_huber, {num} runs, isoFLOP design", words, table))
    words = f"30 runs at random, {NOISE:g} of noise in ln L of Student's t with 3 degrees of freedom"
    table = partial(_independent, "chinchilla", "log_huber", 30, "random", "student")
    found.append(_case("chinchilla, log_huber, 30 runs, heavy tails", words, table))
    for objective in ("log_huber", "log_lsq"):
        words = "16 runs of 12 checkpoints each, errors of one run correlated, resampled by run"
        table = partial(_checkpoints, objective)
        found.append(_case(f"chinchilla, {objective}, 16 runs x 12 checkpoints", words, table))
    for objective, num, seeds, kind in (
        ("log_huber", 30, 1, "constant"),
        ("log_lsq", 30, 1, "constant"),
        ("log_huber", 15, 2, "constant"),
        ("log_huber", 100, 1, "constant"),
        ("log_huber", 30, 3, "grows"),
    ):
        noise = "noise that grows with compute as C^.25" if kind == "grows" else f"{NOISE:g} of normal noise in ln L"
        words = f"{num} settings of {seeds} runs at random, {noise}; two larger runs predicted"
        table = partial(_predicted, objective, num, seeds, kind)
        name = f"predict: chinchilla, {objective}, {num} x {seeds} runs, {kind} noise"
        found.append(Case(name=name, words=words, table=table))
    return found
