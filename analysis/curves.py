"""The law of each family along one axis (FLOPs or seconds), with draws that carry its uncertainty.

All families of an axis get the same law, the one that the family with the fewest budgets can carry: a difference
between families must not be a difference between forms.

Shapes: B replicates, N runs, P parameters, X points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fit import PointFit, fit_point, refit
from analysis.laws import Law, choose
from analysis.table import Runs
from analysis.uncertainty import (
    NUM_REPLICATES,
    Interval,
    Noise,
    bootstrap_weights,
    generator,
    law_noise,
    percentile_interval,
    pooled,
)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is spent."""

    key: str
    column: str
    words: str


FLOPS = Axis(key="flops", column="flops_train", words="training FLOPs")
SECONDS = Axis(key="seconds", column="train_seconds", words="training seconds")


@dataclass(frozen=True, kw_only=True)
class FamilyCurve:
    """One family's law."""

    family: str
    point: PointFit
    draws: FloatArray | None
    """Parameters under the pooled noise, as [B, P]; None where there is no noise estimate."""
    bootstrap: FloatArray | None
    """Parameters when the seeds of each cell are resampled; None where no cell has a second seed."""
    lower_x: float
    upper_x: float
    num_budgets: int

    def loss(self, x_X: FloatArray) -> FloatArray:
        """Predicted loss in nats, as [X]."""
        u_X = self.point.centred(x_X)
        loss_X: FloatArray = np.exp(self.point.law.predict(self.point.theta[None, :], u_X[None, :])[0])
        return loss_X

    def band(self, x_X: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Pointwise 95 % band of the predicted loss, as two [X]."""
        if self.draws is None:
            return None
        u_X = self.point.centred(x_X)
        draws_BX = np.exp(self.point.law.predict(self.draws, u_X[None, :]))
        lower_X, upper_X = np.quantile(draws_BX, [0.025, 0.975], axis=0)
        return lower_X, upper_X

    def slope_interval(self) -> Interval | None:
        return None if self.draws is None else percentile_interval(self.point.law.slope(self.draws))


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The laws of all families along one axis."""

    axis: Axis
    law: Law
    why: str
    families: dict[str, FamilyCurve]
    noise: Noise | None
    """In log loss: about the relative noise of one run."""
    seed_noise: Noise | None
    warnings: tuple[str, ...]


def fit_curves(runs: Runs, axis: Axis, *, num_replicates: int = NUM_REPLICATES, seed: int = 0) -> Curves:
    """Fit every family that has at least two budgets. Raises FitError where none has."""
    counts = {family: len(runs.budgets(family)) for family in runs.families}
    enough = {family: count for family, count in counts.items() if count >= 2}
    if not enough:
        budget = ", ".join(f"{family}: {count}" for family, count in counts.items())
        raise FitError(f"a law needs runs at two budgets or more; done budgets by family are {budget}")
    law, why = choose(min(enough.values()))
    x_N, loss_N = runs.number(axis.column), runs.number("loss_nats")
    points = {family: fit_point(law, x_N[runs.of(family)], loss_N[runs.of(family)]) for family in enough}
    seed_noise = pooled([np.log(loss_N[mask]) for mask in _cells(runs, tuple(enough))])
    noise = law_noise(seed_noise, *_misfit(runs, points, law))
    families = {}
    for family, point in points.items():
        mask = runs.of(family)
        random = generator(f"{axis.key}/{family}", seed)
        families[family] = FamilyCurve(
            family=family,
            point=point,
            draws=None if noise is None else _draws(point, noise, num_replicates, random),
            bootstrap=_bootstrap(point, runs.budget_flops[mask], num_replicates, random) if seed_noise else None,
            lower_x=float(x_N[mask].min()),
            upper_x=float(x_N[mask].max()),
            num_budgets=enough[family],
        )
    warnings = _warnings(axis, points, noise, seed_noise, sorted(set(counts) - set(enough)))
    return Curves(axis=axis, law=law, why=why, families=families, noise=noise, seed_noise=seed_noise, warnings=warnings)


def _cells(runs: Runs, families: tuple[str, ...]) -> list[npt.NDArray[np.bool_]]:
    return [runs.of(family, budget) for family in families for budget in runs.budgets(family)]


def _misfit(runs: Runs, points: dict[str, PointFit], law: Law) -> tuple[float, int]:
    """Sum of n x (cell mean - law)^2 over all cells, in log loss, and its degrees of freedom."""
    total, degrees = 0.0, 0
    for family, point in points.items():
        predicted_N = law.predict(point.theta[None, :], point.u[None, :])[0]
        residual_N, budget_N = point.log_loss - predicted_N, runs.budget_flops[runs.of(family)]
        budgets = np.unique(budget_N)
        total += sum(
            float(residual_N[budget_N == budget].sum() ** 2 / (budget_N == budget).sum()) for budget in budgets
        )
        degrees += max(0, len(budgets) - len(law.parameters))
    return total, degrees


def _draws(point: PointFit, noise: Noise, num: int, random: np.random.Generator) -> FloatArray:
    """Parameters refitted to the fitted losses plus noise as uncertain as its estimate: exact for a linear law."""
    fitted_N = point.law.predict(point.theta[None, :], point.u[None, :])[0]
    shocks_BN = noise.std_draws(num, random)[:, None] * random.standard_normal((num, len(fitted_N)))
    return refit(point, log_loss_BN=fitted_N[None, :] + shocks_BN)


def _bootstrap(point: PointFit, budget_N: FloatArray, num: int, random: np.random.Generator) -> FloatArray:
    cell_N = np.unique(budget_N, return_inverse=True)[1].astype(np.int64)
    return refit(point, weights_BN=bootstrap_weights(cell_N, num, random))


def _warnings(
    axis: Axis, points: dict[str, PointFit], noise: Noise | None, seed_noise: Noise | None, left_out: list[str]
) -> tuple[str, ...]:
    said = []
    for family in left_out:
        said.append(f"{family} has done runs at one budget only, so it has no law against {axis.words}")
    for family, point in points.items():
        for name in point.at_bound:
            said.append(f"{family}: {name} lies at its bound; the runs do not determine it")
        if point.share_at_best < 0.5:
            said.append(f"{family}: only {point.share_at_best:.0%} of the starts reach the best optimum")
    if noise is not None and seed_noise is not None and noise is not seed_noise:
        said.append(
            f"the losses bend away from the law against {axis.words} by more than the seeds explain, so the laws'"
            " intervals use the scatter of the budgets about them"
        )
    return tuple(said)
