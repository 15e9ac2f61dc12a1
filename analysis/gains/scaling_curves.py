"""The law of each series along one axis (FLOPs, seconds or slots), with draws that carry its uncertainty.

All series of an axis get the same law, the one that the series with the fewest levels can carry: a difference between
series must not be a difference between forms. Refused where a series has several model sizes at one number of FLOPs:
a law through all of them would be none of the best size's.

Shapes: B replicates, N runs, P parameters, X points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis import formatting
from analysis.errors import FitError
from analysis.fitting.power_law import SeriesFit, choose, fit_series, refit
from analysis.inference.replicate_noise import (
    NUM_REPLICATES,
    Noise,
    bootstrap_weights,
    generator,
    law_noise,
    percentile_interval,
    pooled,
)
from analysis.interval import ConfidenceInterval
from analysis.laws.law import Law
from analysis.tables.runs import FloatArray, IntArray, Runs


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is spent."""

    key: str
    column: str
    words: str
    level: str = "budget"
    """What a step along it is called."""


FLOPS = Axis(key="flops", column="flops_train", words="training FLOPs")
SECONDS = Axis(key="seconds", column="train_seconds", words="training seconds")
SLOTS = Axis(key="slots", column="num_slots", words="slots", level="table size")


@dataclass(frozen=True, kw_only=True)
class SeriesCurve:
    """One series' law."""

    series: str
    point: SeriesFit
    replicates: FloatArray | None
    """Parameters under the pooled noise, as [B, P]; None where there is no noise estimate."""
    bootstrap: FloatArray | None
    """Parameters when the seeds of each cell are resampled; None where no cell has a second seed."""
    lower_x: float
    upper_x: float
    num_budgets: int

    def loss(self, x_X: FloatArray) -> FloatArray:
        """Predicted loss in nats, as [X]."""
        loss_X: FloatArray = np.exp(self.point.log_loss(self.point.best, x_X)[0])
        return loss_X

    def band(self, x_X: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Pointwise 95 % band of the predicted loss, as two [X]."""
        if self.replicates is None:
            return None
        draws_BX = np.exp(self.point.log_loss(self.replicates, x_X))
        lower_X, upper_X = np.quantile(draws_BX, [0.025, 0.975], axis=0)
        return lower_X, upper_X

    def slope_interval(self) -> ConfidenceInterval | None:
        return None if self.replicates is None else percentile_interval(self.point.slope(self.replicates))


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The laws of all series along one axis."""

    axis: Axis
    law: Law
    why: str
    series: dict[str, SeriesCurve]
    noise: Noise | None
    """In log loss: about the relative noise of one run."""
    seed_noise: Noise | None
    warnings: tuple[str, ...]


def fit_curves(runs: Runs, axis: Axis, *, num_replicates: int = NUM_REPLICATES, seed: int = 0) -> Curves:
    """Fit every series that has at least two budgets. Raises FitError where none has, or where sizes share FLOPs."""
    several = [label for label in runs.labels if runs.shares_flops(label)]
    if several:
        raise FitError(
            f"{formatting.series(several[0])} has several model sizes at one number of FLOPs, and a law through all"
            " sizes is not that of the best one"
        )
    counts = {label: len(runs.budgets(label)) for label in runs.labels}
    enough = {label: count for label, count in counts.items() if count >= 2}
    if not enough:
        raise FitError(f"a law needs runs at two {axis.level}s or more; every series has done runs at one only")
    law, why = choose(min(enough.values()), axis.level)
    x_N, loss_N = runs.number(axis.column), runs.number("loss_nats")
    points = {label: fit_series(law, x_N[runs.of(label)], loss_N[runs.of(label)]) for label in enough}
    seed_noise = pooled([np.log(loss_N[runs.of(*cell)]) for cell in runs.cells() if cell[0] in enough])
    noise = law_noise(seed_noise, *_misfit(runs, points, law))
    series = {}
    for label, point in points.items():
        mask = runs.of(label)
        random = generator(f"{axis.key}/{label}", seed)
        series[label] = SeriesCurve(
            series=label,
            point=point,
            replicates=None if noise is None else _draws(point, noise, num_replicates, random),
            bootstrap=_bootstrap(point, _cell_of(runs, label), num_replicates, random) if seed_noise else None,
            lower_x=float(x_N[mask].min()),
            upper_x=float(x_N[mask].max()),
            num_budgets=enough[label],
        )
    warnings = _warnings(axis, points, noise, seed_noise, [label for label in counts if label not in enough])
    return Curves(axis=axis, law=law, why=why, series=series, noise=noise, seed_noise=seed_noise, warnings=warnings)


def _cell_of(runs: Runs, series: str) -> IntArray:
    """The number of its cell for each run of a series, in their order."""
    names = np.array(runs.budget)[runs.of(series)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _misfit(runs: Runs, points: dict[str, SeriesFit], law: Law) -> tuple[float, int]:
    """Sum of n x (cell mean - law)^2 over all cells, in log loss, and its degrees of freedom."""
    total, degrees = 0.0, 0
    for label, point in points.items():
        residual_N, cell_N = -point.fit.residuals, _cell_of(runs, label)
        cells = np.unique(cell_N)
        total += sum(float(residual_N[cell_N == cell].sum() ** 2 / (cell_N == cell).sum()) for cell in cells)
        degrees += max(0, len(cells) - len(law.parameters))
    return total, degrees


def _draws(point: SeriesFit, noise: Noise, num: int, random: np.random.Generator) -> FloatArray:
    """Parameters refitted to the fitted losses plus noise as uncertain as its estimate: exact for a linear law."""
    fitted_N = np.log(point.fit.loss) + point.fit.residuals
    shocks_BN = noise.std_replicates(num, random)[:, None] * random.standard_normal((num, len(fitted_N)))
    return refit(point, log_loss_BN=fitted_N[None, :] + shocks_BN)


def _bootstrap(point: SeriesFit, cell_N: IntArray, num: int, random: np.random.Generator) -> FloatArray:
    return refit(point, weights_BN=bootstrap_weights(cell_N, num, random))


def _warnings(
    axis: Axis, points: dict[str, SeriesFit], noise: Noise | None, seed_noise: Noise | None, left_out: list[str]
) -> tuple[str, ...]:
    said = []
    for label in left_out:
        said.append(
            f"{formatting.series(label)} has done runs at one {axis.level} only, so it has no law against {axis.words}"
        )
    for label, point in points.items():
        for name in sorted(point.fit.at_bound):
            said.append(f"{formatting.series(label)}: {name} lies at its bound; the runs do not determine it")
        share = point.fit.starts.share_at_best
        if share < 0.5:
            said.append(f"{formatting.series(label)}: only {share:.0%} of the starts reach the best optimum")
    if noise is not None and seed_noise is not None and noise is not seed_noise:
        said.append(
            f"the losses bend away from the law against {axis.words} by more than the seeds explain, so the laws'"
            f" intervals use the scatter of the {axis.level}s about them"
        )
    return tuple(said)
