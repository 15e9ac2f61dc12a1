"""A task's metric predicted in two steps: a law gives the loss, a link gives the metric (Gadre et al. 2024, section 3).

The link is fitted on measured losses, as the paper does, and the prediction puts the law's loss into it. Errors are
carried through together: each bootstrap draw resamples the runs, refits the law on those of them that the law is fitted
to and the link on those that the link is, and predicts, so that what both owe to one run stays together. A known floor
of chance can be given: the link's level of a model that knows nothing is then fixed at it.
Refuses a link on fewer runs than its parameters and one.

Shapes: B replicates, N runs, X predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.inference.bootstrap import refit
from analysis.inference.result import Fit
from analysis.laws.law import Law
from analysis.laws.links import EXPONENTIAL_LINK, SIGMOID_LINK

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LINKS = {"exponential": EXPONENTIAL_LINK, "sigmoid": SIGMOID_LINK}
FLOORS = {"exponential_link": "eps", "sigmoid_link": "b"}
"""The parameter that is the metric of a model that knows nothing."""


@dataclass(frozen=True, kw_only=True)
class TwoSteps:
    """Both fits, and draws of both from the same resamples."""

    law: Fit
    link: Fit
    law_draws: FloatArray
    """[B, P]"""
    link_draws: FloatArray

    def predict(self, columns: Mapping[str, FloatArray]) -> Prediction:
        """Loss and metric of runs with these columns."""
        loss_X = self.law.predict(columns)
        loss_BX = self.law.predict_all(self.law_draws, columns)
        metric_X = self.link.predict({"L": loss_X})
        metric_BX = np.stack(
            [
                self.link.predict_all(theta[None, :], {"L": loss})[0]
                for theta, loss in zip(self.link_draws, loss_BX, strict=True)
            ]
        )
        return Prediction(
            loss=loss_X,
            loss_ci95=np.quantile(loss_BX, [0.025, 0.975], axis=0),
            metric=metric_X,
            metric_ci95=np.quantile(metric_BX, [0.025, 0.975], axis=0),
        )


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Each [X]; intervals [2, X]. They are of the law and the link, without the noise of a run or of its evaluation."""

    loss: FloatArray
    loss_ci95: FloatArray
    metric: FloatArray
    metric_ci95: FloatArray


def two_steps(
    law: Law,
    columns: Mapping[str, FloatArray],
    loss_N: FloatArray,
    metric_N: FloatArray,
    *,
    link: str = "exponential",
    floor: float | None = None,
    in_law: BoolArray | None = None,
    in_link: BoolArray | None = None,
    objective: str = "log_huber",
    num_replicates: int = 1000,
    seed: int = 0,
) -> TwoSteps:
    """Fit both steps. `in_law` and `in_link` choose each step's runs; a metric that is not a number is in no link."""
    if link not in LINKS:
        raise FitError(f"there is no link {link!r}; there are: {', '.join(LINKS)}")
    form = LINKS[link]
    every = np.ones(len(loss_N), dtype=bool)
    law_rows = np.flatnonzero(every if in_law is None else in_law)
    link_rows = np.flatnonzero((every if in_link is None else in_link) & np.isfinite(metric_N))
    needed = len(form.parameters) + 1 - (floor is not None)
    if len(link_rows) < needed:
        raise FitError(
            f"a link of {form.formula} needs at least {needed} runs with the metric; there are {len(link_rows)}"
        )
    first = fit_law(
        law, {name: values[law_rows] for name, values in columns.items()}, loss_N[law_rows], objective=objective
    )
    fixed = {} if floor is None else {FLOORS[form.name]: floor}
    second = fit_law(form, {"L": loss_N[link_rows]}, metric_N[link_rows], objective="lsq", fixed=fixed)
    counts_BN = _counts(len(loss_N), law_rows, link_rows, num_replicates, seed)
    return TwoSteps(
        law=first,
        link=second,
        law_draws=refit(first, counts_BN[:, law_rows])[0],
        link_draws=refit(second, counts_BN[:, link_rows])[0],
    )


def _counts(
    num: int, law_rows: npt.NDArray[np.intp], link_rows: npt.NDArray[np.intp], replicates: int, seed: int
) -> FloatArray:
    """How often each run is drawn, [B, N]: among those that any step uses."""
    used = np.union1d(law_rows, link_rows)
    counts_BN = np.zeros((replicates, num))
    random = np.random.default_rng(seed)
    counts_BN[:, used] = random.multinomial(len(used), np.full(len(used), 1.0 / len(used)), size=replicates)
    # A step that has lost nearly all its runs in a resample has no fit of its own there: such resamples are redrawn.
    for _ in range(100):
        thin_B = ((counts_BN[:, law_rows] > 0).sum(axis=1) < min(3, len(law_rows))) | (
            (counts_BN[:, link_rows] > 0).sum(axis=1) < min(3, len(link_rows))
        )
        if not thin_B.any():
            break
        again = random.multinomial(len(used), np.full(len(used), 1.0 / len(used)), size=int(thin_B.sum()))
        counts_BN[np.ix_(np.flatnonzero(thin_B), used)] = again
    return counts_BN


def gap_closed(small: float, ours: float, large: float) -> float:
    """The share of the way from a small dense model's metric to a larger one's; 1 closes the gap."""
    if large == small:
        raise FitError(f"there is no gap to close: both dense models have {small:g}")
    return (ours - small) / (large - small)
