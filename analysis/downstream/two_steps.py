"""A task's metric predicted in two steps: a law gives the loss, a link gives the metric (Gadre et al. 2024, section 3).

1. The law L(N, D, ...) is fitted to the runs of the first table.
2. The link from loss to metric is fitted to measured losses and metrics, of the same table or of another.
3. A prediction puts the law's loss into the link. Its interval puts every refit of the law into a refit of the link,
   so that the error of the first step is carried into the second; the two steps' errors are independent, because the
   link is fitted given the measured losses. The interval of the next run adds the noise of a run's loss and the scatter
   of metrics about the link.

Refuses a link on fewer runs than its free parameters and one.

Shapes: B refits, N runs, X predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from analysis import formatting
from analysis.downstream.metric import Metric
from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law
from analysis.inference.result import Fit
from analysis.laws.law import Law
from analysis.laws.links import EXPONENTIAL_LINK, SIGMOID_LINK

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LINKS = {"exponential": EXPONENTIAL_LINK, "sigmoid": SIGMOID_LINK}
LEVELS = [0.025, 0.975]


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How one step is fitted."""

    objective: str
    delta: float | None = None
    fixed: Mapping[str, float] | None = None
    tied: Mapping[str, str] | None = None
    bounds: Mapping[str, tuple[float, float]] | None = None
    weight: FloatArray | None = None
    stderr: FloatArray | None = None
    cluster: IntArray | None = None
    bootstrap: int = 0


@dataclass(frozen=True, kw_only=True)
class MetricPrediction:
    """Each [X]; intervals [2, X], not-a-number where the tables cannot give them."""

    loss: FloatArray
    loss_ci95: FloatArray
    """Of the law."""
    loss_of_run: FloatArray
    """Of the next run's loss."""
    metric: FloatArray
    metric_ci95: FloatArray
    """Of law and link: what runs with these columns reach on average."""
    metric_of_run: FloatArray
    """Of the metric that the next run reaches."""


@dataclass(frozen=True, kw_only=True)
class TwoSteps:
    """Both fits, and what the metric is."""

    law: Fit
    link: Fit
    metric: Metric
    seed: int = 0

    def metric_at(self, loss: FloatArray) -> FloatArray:
        """The metric that the link gives at these losses, in the table's unit."""
        return self._turned(self.link.predict({"L": loss}))

    def link_interval(self, loss_X: FloatArray) -> FloatArray:
        """The 95 % interval of the link alone at these losses, [2, X]."""
        refits = self.link.interval_replicates
        if refits is None:
            return np.full((2, len(loss_X)), np.nan)
        values_BX = self._turned(self.link.predict_all(refits.theta, {"L": loss_X}))
        ends: FloatArray = np.quantile(values_BX, LEVELS, axis=0)
        return ends

    def predict(self, columns: Mapping[str, FloatArray]) -> MetricPrediction:
        """Loss and metric of runs with these columns (by the law's names of them)."""
        loss_X = self.law.predict(columns)
        metric_X = self.metric_at(loss_X)
        law, link = self.law.interval_replicates, self.link.interval_replicates
        if law is None or link is None or min(self.law.degrees, self.link.degrees) < 1:
            unknown = np.full((2, len(loss_X)), np.nan)
            return MetricPrediction(
                loss=loss_X, loss_ci95=unknown, loss_of_run=unknown, metric=metric_X, metric_ci95=unknown,
                metric_of_run=unknown,
            )  # fmt: skip
        num = min(len(law.theta), len(link.theta))
        random = np.random.default_rng([self.seed, 2])
        # Refits of one step are paired with refits of the other in an order of their own.
        link_theta = link.theta[random.permutation(len(link.theta))[:num]]
        loss_BX = self.law.predict_all(law.theta[:num], columns)
        run_BX = loss_BX * np.exp(_noise(_log_std(self.law), self.law.degrees, loss_BX.shape, random))
        metric_BX, of_run_BX = (self._of_refits(link_theta, values) for values in (loss_BX, run_BX))
        scatter_BX = _noise(_std(self.link), self.link.degrees, loss_BX.shape, random)
        return MetricPrediction(
            loss=loss_X,
            loss_ci95=np.quantile(loss_BX, LEVELS, axis=0),
            loss_of_run=np.quantile(run_BX, LEVELS, axis=0),
            metric=metric_X,
            metric_ci95=np.quantile(self._turned(metric_BX), LEVELS, axis=0),
            metric_of_run=np.quantile(self._turned(of_run_BX + scatter_BX), LEVELS, axis=0),
        )

    def _of_refits(self, theta_BP: FloatArray, loss_BX: FloatArray) -> FloatArray:
        """Each refit of the link at the losses of one refit of the law, [B, X]."""
        return link_values(self.link.law, self.link.law.values(theta_BP), loss_BX)

    def _turned(self, values: FloatArray) -> FloatArray:
        """From the link's own direction to the metric's."""
        errors = values if self.link.law.name == EXPONENTIAL_LINK.name else 1.0 - values
        return self.metric.from_error(errors)


def link_values(form: Law, values: Mapping[str, FloatArray], loss_BX: FloatArray) -> FloatArray:
    """The link [B, X] where every refit has losses of its own; `form.formula` in numpy."""
    p = {name: value[:, None] for name, value in values.items()}
    if form.name == EXPONENTIAL_LINK.name:
        return np.asarray(p["eps"] - p["k"] * np.exp(-p["gamma"] * loss_BX))
    return np.asarray(p["b"] + p["p0"] * expit(p["k"] * (loss_BX - p["x0"])))


def two_steps(
    law: Law,
    columns: Mapping[str, FloatArray],
    loss_N: FloatArray,
    link_loss_M: FloatArray,
    metric_M: FloatArray,
    metric: Metric,
    *,
    link: str = "exponential",
    law_options: StepOptions,
    link_options: StepOptions,
    seed: int = 0,
) -> TwoSteps:
    """Fit both steps.

    Args:
        law: of the loss.
        columns: what the law reads [N], by its names.
        loss_N: losses of the first step's runs.
        link_loss_M: losses of the second step's runs, which may be others.
        metric_M: their metric, in its own unit.
        metric: its direction, unit and bounds (`describe_metric`).
        link: 'exponential' or 'sigmoid'.
        law_options: how the law is fitted.
        link_options: how the link is fitted; `metric`'s bounds come on top of its fixed coefficients.
        seed: of all resampling.

    Raises:
        FitError: an unknown link, too few runs, or a ceiling without a floor for the sigmoid.
    """
    if link not in LINKS:
        raise FitError(f"there is no link {link!r}; there are: {', '.join(LINKS)}")
    form = LINKS[link]
    fixed = {**bounds_of(form, metric), **(link_options.fixed or {})}
    needed = len(form.parameters) + 1 - len(fixed)
    if len(metric_M) < needed:
        raise FitError(
            f"a link of {form.formula} needs at least {formatting.counted(needed, 'run')} with the"
            f" metric; given: {len(metric_M)}"
        )
    target_M = metric.as_error(metric_M) if form is EXPONENTIAL_LINK else metric.as_accuracy(metric_M)
    first = _fit(law, columns, loss_N, law_options, law_options.fixed or {}, seed)
    second = _fit(form, {"L": link_loss_M}, target_M, link_options, fixed, seed + 1)
    return TwoSteps(law=first, link=second, metric=metric, seed=seed)


def bounds_of(form: Law, metric: Metric) -> dict[str, float]:
    """The link's coefficients that a known floor and ceiling give. Raises FitError."""
    floor = None if metric.floor is None else metric.as_error(np.array([metric.floor]))
    if form is EXPONENTIAL_LINK:
        return {} if floor is None else {"eps": float(floor[0])}
    if floor is None:
        if metric.ceiling is not None:
            raise FitError("the sigmoid link's ceiling is p0 above its floor: give --floor beside --ceiling")
        return {}
    found = {"b": 1.0 - float(floor[0])}
    if metric.ceiling is not None:
        found["p0"] = float(metric.as_accuracy(np.array([metric.ceiling]))[0]) - found["b"]
    return found


def _fit(
    law: Law,
    columns: Mapping[str, FloatArray],
    values: FloatArray,
    options: StepOptions,
    fixed: Mapping[str, float],
    seed: int,
) -> Fit:
    return fit_law(
        law, columns, values, objective=options.objective, delta=options.delta, fixed=fixed, tied=options.tied,
        bounds=options.bounds, weights=options.weight, stderr=options.stderr, clusters=options.cluster,
        bootstrap=options.bootstrap, seed=seed,
    )  # fmt: skip


def _log_std(fit: Fit) -> float:
    """Of ln of a run's loss about the law."""
    residual = np.log(fit.predict(fit.columns) / fit.loss)
    return float(np.sqrt((residual**2).sum() / (fit.num_points - fit.num_free)))


def _std(fit: Fit) -> float:
    """Of a metric about the link."""
    residual = fit.predict(fit.columns) - fit.loss
    return float(np.sqrt((residual**2).sum() / (fit.num_points - fit.num_free)))


def _noise(std: float, degrees: int, shape: tuple[int, ...], random: np.random.Generator) -> FloatArray:
    """Draws of noise as uncertain as its estimate: Student's t, one scale a refit."""
    scale_B1 = std * np.sqrt(degrees / random.chisquare(degrees, size=(shape[0], 1)))
    noise_BX: FloatArray = scale_B1 * random.standard_normal(shape)
    return noise_BX
