"""Fitting laws, beside the ways they are usually fitted, on Epoch's points of the Chinchilla paper.

`python -m benchmarks.fitting [--json FILE] [--coverage 200]`, best with OMP_NUM_THREADS=1. Timed are the whole fit with
all its starts, 4,000 bootstrap refits, and the coverage of 95 % intervals over synthetic tables. Peers, in the same
process and on the same points: scipy's L-BFGS-B with exact gradients from the published grid of starts (every
`_EVERY`-th of the 4,500, so that it ends; the seconds of all are given by proportion and say so), and the package
chinchilla 0.2.0 where it is installed (extra `bench`), which runs BFGS in long doubles from each start of its grid.
The objectives reached stand beside the seconds: a fit that stops short is fast for nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from analysis.fitting import Fit, fit_law
from analysis.laws.registry import LAWS
from analysis.tables import Observations, observe
from benchmarks import machine
from memscale.records.atomic import write_json

FloatArray = npt.NDArray[np.float64]

DATA = Path(os.environ.get("MEMSCALE_DATA_DIR") or Path(__file__).parents[2] / "shared" / "data") / "published"
_DELTA = 1e-3
_EVERY = 20
_REFITS, _COMPARED = 4000, 100
_ROUNDS = 7


def published_points() -> Observations:
    return observe(
        DATA / "epoch_chinchilla_svg_extracted.csv",
        loss="loss", params="Model Size", flops="Training FLOP", tokens_from_flops=True, drop_highest=5,
    )  # fmt: skip


def timed(action: Callable[[], Any], rounds: int = _ROUNDS) -> tuple[Any, list[float]]:
    found, taken = action(), []
    for _ in range(rounds):
        begun = time.perf_counter()
        found = action()
        taken.append(time.perf_counter() - begun)
    return found, taken


def row(name: str, taken: list[float], **more: Any) -> dict[str, Any]:
    return {"name": name, "seconds": median(taken), "spread": [min(taken), max(taken)], **more}


class Scipy:
    """The published procedure: a sum of Huber on the log loss, minimised by L-BFGS-B with exact gradients."""

    def __init__(self, points: Observations) -> None:
        self.log_N, self.log_D = np.log(points.columns["N"]), np.log(points.columns["D"])
        self.log_loss = np.log(points.loss)

    def objective(self, theta: FloatArray, weights: FloatArray) -> tuple[float, FloatArray]:
        terms = np.stack(
            [theta[0] - theta[3] * self.log_N, theta[1] - theta[4] * self.log_D, np.full(len(self.log_N), theta[2])]
        )
        whole = np.logaddexp.reduce(terms)
        residual, share = whole - self.log_loss, np.exp(terms - whole)
        inside = np.minimum(np.abs(residual), _DELTA)
        psi = weights * np.clip(residual, -_DELTA, _DELTA)
        slopes = np.stack([*share, -share[0] * self.log_N, -share[1] * self.log_D])
        return float(weights @ (inside * (np.abs(residual) - inside / 2))), slopes @ psi

    def from_start(self, start: tuple[float, ...], weights: FloatArray) -> float:
        options = {"maxiter": 15_000, "maxfun": 15_000, "ftol": 1e-15, "gtol": 1e-12}
        done = minimize(self.objective, np.array(start), args=(weights,), jac=True, method="L-BFGS-B", options=options)
        return float(done.fun)


def starts() -> list[tuple[float, ...]]:
    """Hoffmann et al.'s grid as Besiroglu et al. 2024 ran it: ln A, ln B, ln E, alpha, beta."""
    grid = (np.arange(0, 30, 5), np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5),
            np.arange(0, 2.5, 0.5))  # fmt: skip
    return list(itertools.product(*grid))


def measure_fit(points: Observations) -> list[dict[str, Any]]:
    columns = {name: points.columns[name] for name in ("N", "D")}
    found, taken = timed(lambda: fit_law("chinchilla", columns, points.loss))
    rows = [row("ours, fit", taken, objective=found.value, starts=found.starts.num)]
    scipy, chosen, ones = Scipy(points), starts()[::_EVERY], np.ones(len(points))
    begun = time.perf_counter()
    reached = [scipy.from_start(start, ones) for start in chosen]
    seconds = time.perf_counter() - begun
    within = float(np.mean(np.array(reached) <= found.value * 1.00001))
    rows.append(
        row("scipy L-BFGS-B, grid", [seconds], objective=min(reached), starts=len(chosen), share_at_best=within,
            seconds_of_all=seconds * len(starts()) / len(chosen))
    )  # fmt: skip
    peer = measure_package(points)
    return [*rows, peer] if peer else rows


def measure_package(points: Observations) -> dict[str, Any] | None:
    """chinchilla 0.2.0 from 32 starts: two values of ln E, ln A, ln B, alpha and beta each."""
    try:
        from chinchilla import Chinchilla
        from chinchilla._metrics import log_huber
    except ImportError:
        return None
    grid = {"e": [0.0, 0.5], "a": [5.0, 10.0], "b": [5.0, 10.0], "alpha": [0.3, 0.6], "beta": [0.3, 0.6]}
    with tempfile.TemporaryDirectory() as folder:
        peer = Chinchilla(
            folder, param_grid=grid, loss_fn=lambda true, given: log_huber(true, given, delta=_DELTA), log_level=40
        )
        peer.database.df = peer.database.df.reindex(range(len(points)))
        for name, values in (("C", points.columns["C"]), ("N", points.columns["N"]), ("D", points.columns["D"])):
            peer.database.df[name] = values
        peer.database.df["loss"] = points.loss
        begun = time.perf_counter()
        peer.fit(parallel=False)
        seconds = time.perf_counter() - begun
    law = LAWS["chinchilla"]
    values = {name: float(getattr(peer, name)) for name in law.names}
    predicted = law.predict(values, {name: points.columns[name] for name in ("N", "D")})
    size = np.abs(np.log(predicted) - np.log(points.loss))
    inside = np.minimum(size, _DELTA)
    return row("chinchilla 0.2.0", [seconds], objective=float((inside * (size - inside / 2)).sum()), starts=32)


def measure_bootstrap(points: Observations) -> list[dict[str, Any]]:
    columns = {name: points.columns[name] for name in ("N", "D")}
    plain = fit_law("chinchilla", columns, points.loss)
    found, taken = timed(lambda: fit_law("chinchilla", columns, points.loss, bootstrap=_REFITS), 3)
    assert found.replicates is not None
    counts = np.random.default_rng(0).multinomial(
        plain.num_points, np.full(plain.num_points, 1 / plain.num_points), size=_REFITS
    )[:_COMPARED]
    scipy, start = Scipy(points), (np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28)
    begun = time.perf_counter()
    reached = np.array([scipy.from_start(start, count.astype(float)) for count in counts])
    seconds = time.perf_counter() - begun
    excess = found.replicates.objective[:_COMPARED] / reached - 1
    return [
        row("ours, fit and refits", taken, refits=_REFITS, worst_against_peer=float(excess.max()),
            best_against_peer=float(excess.min()), share_converged=found.replicates.share_converged),
        row("scipy L-BFGS-B, one start a refit", [seconds], refits=_COMPARED, seconds_of_all=seconds * _REFITS
            / _COMPARED),
    ]  # fmt: skip


TRUTHS: dict[str, tuple[dict[str, float], str]] = {
    "chinchilla": ({"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}, "log_huber"),
    "power_with_offset": ({"E": 1.7, "A": 30.0, "alpha": 0.16}, "log_lsq"),
    "routed": ({"a": -0.082, "b": -0.108, "c": 0.009, "d": 1.104, "Es": 1.847, "Em": 314.478}, "log_lsq"),
}


def synthetic(name: str, random: np.random.Generator, num: int = 150) -> tuple[dict[str, FloatArray], FloatArray]:
    """A table of a law's columns and its losses with 0.5 % of normal noise."""
    spans = {"N": (1e7, 1e10), "D": (1e9, 1e12), "x": (1e17, 1e22)}
    columns = {
        column.name: random.choice([1.0, 4, 16, 64, 256], num)
        if column.name == "E"
        else np.exp(random.uniform(*np.log(spans[column.name]), num))
        for column in LAWS[name].columns
    }
    exact = LAWS[name].predict(TRUTHS[name][0], columns)
    return columns, exact * np.exp(5e-3 * random.standard_normal(num))


def covered(found: Fit, truth: dict[str, float]) -> list[bool]:
    return [one.ci95[0] <= truth[one.name] <= one.ci95[1] for one in found.coefficients if one.name in truth]


def measure_coverage(tables: int, refits: int = 400) -> list[dict[str, Any]]:
    rows = []
    for name, (truth, objective) in TRUTHS.items():
        random, hits = np.random.default_rng(0), []
        begun = time.perf_counter()
        for number in range(tables):
            columns, loss = synthetic(name, random)
            found = fit_law(name, columns, loss, objective=objective, bootstrap=refits, seed=number)
            hits.append(covered(found, truth))
        seconds = time.perf_counter() - begun
        shares = np.array(hits).mean(axis=0)
        by_name = dict(zip(truth, shares.tolist(), strict=True))
        rows.append(row(f"coverage, {name}", [seconds], tables=tables, refits=refits, coverage=float(shares.mean()),
                        of_each=by_name))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fitting", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--coverage", type=int, default=200, help="synthetic tables a law (0: none)")
    given = parser.parse_args()
    points = published_points()
    rows = [*measure_fit(points), *measure_bootstrap(points)]
    if given.coverage:
        rows += measure_coverage(given.coverage)
    for one in rows:
        more = ", ".join(f"{key} {value}" for key, value in one.items() if key not in ("name", "seconds", "spread"))
        print(f"{one['name']:36} {one['seconds']:8.3f} s  {more}")
    if given.json is not None:
        content = {"machine": machine.describe(), "points": len(points), "rows": rows}
        write_json(given.json, json.loads(json.dumps(content)), format=1)


if __name__ == "__main__":
    main()
