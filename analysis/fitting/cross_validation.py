"""Errors on runs that a law was not fitted to: larger ones (extrapolation), and each size in turn.

Decides that extrapolation is judged along one scale, FLOPs as a rule: a law is fitted to the runs below a limit and
predicts those above it, at every limit that leaves a quarter of the range for the prediction and enough runs for the
fit (rolling), so that no single cut decides. Leave-one-size-out measures interpolation. An error is that of ln of
the loss, so that it reads as a share. Runs of one group (checkpoints of a run) are never split between the fit and the
prediction: a group with a row left out is left out of the fit whole. A law that cannot be fitted to a part has no error
there, and the part says why.

Shapes: N runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting.fit_law import fit_law, refit_part
from analysis.inference.result import Fit
from analysis.laws.law import Law

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MOST_GROUPS = 10
"""Sizes are left out one by one where there are so many at most, else in as many groups of neighbours."""
SHARE_AHEAD = 0.25
"""Of ln of the scale's range, which the first limit leaves for prediction at least."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Predictions of runs that were left out."""

    label: str
    """What was left out."""
    limit: float
    """The greatest scale that was fitted; not a number where groups inside the range were left out."""
    rows: npt.NDArray[np.intp]
    predicted: FloatArray
    error: FloatArray
    """ln(predicted / true), or predicted - true (`Options.relative`)."""
    reason: str = ""
    """Why there is no prediction; '' where there is one."""

    @property
    def rms(self) -> float:
        """Root mean square of the errors; not a number where there are none."""
        return float(np.sqrt(np.mean(self.error**2))) if len(self.error) else float("nan")


@dataclass(frozen=True, kw_only=True)
class Data:
    """What laws are judged on."""

    columns: Mapping[str, FloatArray]
    loss: FloatArray
    scale: FloatArray
    """What is extrapolated along."""
    size: FloatArray
    """The columns that identify a model size."""
    clusters: npt.NDArray[np.integer] | None = None
    """The group of each run; groups are fitted or left out whole."""
    weights: FloatArray | None = None
    stderr: FloatArray | None = None
    """Of each loss; gives the weights."""

    def without_groups_of(self, rows: npt.NDArray[np.intp]) -> BoolArray:
        """Runs that are neither among `rows` nor in a group with one of them."""
        kept = np.ones(len(self.loss), dtype=bool)
        kept[rows] = False
        return kept if self.clusters is None else kept & ~np.isin(self.clusters, self.clusters[rows])

    def fit(
        self, law: Law, kept: BoolArray, objective: str, delta: float | None, *, bootstrap: int = 0, seed: int = 0
    ) -> Fit:
        """The law fitted to some of the runs, with their weights and groups. Raises FitError."""
        return fit_law(
            law,
            {name: values[kept] for name, values in self.columns.items()},
            self.loss[kept],
            objective=objective,
            delta=delta,
            weights=None if self.weights is None else self.weights[kept],
            stderr=None if self.stderr is None else self.stderr[kept],
            clusters=None if self.clusters is None else self.clusters[kept],
            bootstrap=bootstrap,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class Options:
    """How every fit is made."""

    objective: str = "log_huber"
    delta: float | None = None
    relative: bool = True
    """Errors are ln(predicted / true), shares of the loss; else predicted - true, in the unit of what is fitted."""


def extrapolations(law: Law, data: Data, options: Options) -> tuple[HeldOut, ...]:
    """At each of up to `MOST_GROUPS` limits: fit below, predict above."""
    log_scale = np.log(data.scale)
    low, high = float(log_scale.min()), float(log_scale.max())
    levels = np.array([float(log_scale[at].max()) for at in groups(data.scale)])[:-1]
    limits = levels[(levels > low + 0.4 * (high - low)) & (levels <= high - SHARE_AHEAD * (high - low) * 0.5)]
    if len(limits) == 0 and len(levels):
        limits = levels[-1:]
    found = []
    for limit in limits:
        above = np.flatnonzero(log_scale > limit + 1e-12)
        label = f"fitted up to {np.exp(limit):.3g}, predicted up to {np.exp(high):.3g}"
        found.append(predict_left_out(law, data, above, label, float(np.exp(limit)), options))
    return tuple(found)


def leave_one_size_out(law: Law, data: Data, options: Options) -> tuple[HeldOut, ...]:
    """Each size, or group of neighbouring sizes, predicted from the others."""
    found = []
    for at in groups(data.size):
        low, high = float(data.size[at].min()), float(data.size[at].max())
        label = f"without {low:.3g}" + (f" to {high:.3g}" if high > low else "")
        found.append(predict_left_out(law, data, at, label, float("nan"), options))
    return tuple(found)


def groups(values: FloatArray) -> list[npt.NDArray[np.intp]]:
    """The runs by value, rising: one group a value, or `MOST_GROUPS` groups of neighbours where values are many."""
    distinct, which = np.unique(np.round(np.log(values), 6), return_inverse=True)
    if len(distinct) > MOST_GROUPS:
        ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        which = ranks * MOST_GROUPS // len(values)
    return [np.flatnonzero(which == group) for group in np.unique(which)]


def predict_left_out(
    law: Law,
    data: Data,
    rows: npt.NDArray[np.intp],
    label: str,
    limit: float,
    options: Options,
    *,
    whole: Fit | None = None,
) -> HeldOut:
    """The runs `rows` predicted by the law fitted to those that share no group with them; or why it cannot be.

    Given the fit to all runs, `whole`, the fit to the part starts from its optima, without diagnostics.
    """
    kept, ahead = data.without_groups_of(rows), {name: values[rows] for name, values in data.columns.items()}
    try:
        if whole is None:
            predicted = data.fit(law, kept, options.objective, options.delta).predict(ahead)
        else:
            predicted = whole.predict_all(refit_part(whole, kept)[None, :], ahead)[0]
    except FitError as error:
        return HeldOut(label=label, limit=limit, rows=rows[:0], predicted=np.empty(0), error=np.empty(0),
                       reason=str(error))  # fmt: skip
    with np.errstate(all="ignore"):
        error_N = np.log(predicted / data.loss[rows]) if options.relative else predicted - data.loss[rows]
    return HeldOut(label=label, limit=limit, rows=rows, predicted=predicted, error=error_N)
