"""`downstream`: a task's metric from compute, as a notebook calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.downstream.coefficients import share_coefficients
from analysis.downstream.metric import describe_metric
from analysis.downstream.two_steps import LINKS, MetricPrediction, StepOptions, TwoSteps, two_steps
from analysis.errors import FitError
from analysis.fitting.law_columns import columns_for
from analysis.inference.result import Fit, FitWarning
from analysis.laws.law import Law
from analysis.laws.registry import law_named
from analysis.result import Result
from analysis.tables import Observations, TableLike, TableOptions, observe

if TYPE_CHECKING:
    from typing_extensions import Unpack

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Array = TypeVar("Array", bound=npt.NDArray[np.generic])

METRIC = "metric"
"""The letter of the metric among the columns of an `Observations`."""
FLAT_LINK = 0.05
"""A link that explains less than this share of the metric's variance is hardly better than a constant."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Downstream(Result):
    """The fits of both steps, and their predictions for the runs held out of both."""

    steps: TwoSteps
    observations: Observations
    """The first step's runs, those held out among them."""
    link_observations: Observations
    """The second step's runs; the same where there is one table."""
    held_out: BoolArray
    """Which of `observations` neither step was fitted to."""
    predicted: MetricPrediction | None
    """Of the rows held out."""
    warnings: tuple[FitWarning, ...]

    @property
    def law(self) -> Fit:
        """The first step, from compute to loss."""
        return self.steps.law

    @property
    def link(self) -> Fit:
        """The second step, from loss to the metric as a share of errors (exponential) or right answers (sigmoid)."""
        return self.steps.link

    def predict(self, at: Mapping[str, npt.ArrayLike]) -> pd.DataFrame:
        """Loss and metric of runs with these columns (N, D, C, ... by the law's letters), with both intervals."""
        given = {str(name): np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in at.items()}
        columns = columns_for(self.law.law, given)
        return self._frame(self.steps.predict(columns))

    def to_frame(self) -> pd.DataFrame:
        """One row a run held out (else a run fitted): measured and predicted loss and metric, with both intervals."""
        if self.predicted is None:
            return self._frame(self.steps.predict(self.law.columns))
        frame = self._frame(self.predicted)
        frame.insert(0, "loss_measured", self.observations.loss[self.held_out])
        if METRIC in self.observations.columns:
            frame.insert(1, "metric_measured", self.observations.columns[METRIC][self.held_out])
        return frame.set_index(pd.Index(self.observations.row[self.held_out], name="row"))

    def summary(self) -> str:
        """What the metric is, both fits, the runs held out, warnings."""
        metric = self.steps.metric
        direction = "higher" if metric.higher_is_better else "lower"
        unit = "percent" if metric.unit == 100.0 else "shares of 1"
        lines = [
            f"{metric.name}: better when {direction} (by {metric.decided_by}), in {unit}",
            f"step 1: {self.law.law.formula}, {formatting.counted(self.law.num_points, 'run')}",
            f"  {_values(self.law)}",
            f"step 2: {self.link.law.formula}, {formatting.counted(self.link.num_points, 'run')}",
            f"  {_values(self.link)}",
        ]
        if self.predicted is not None:
            lines.append("runs that neither step was fitted to (95 % interval of law and link; of the next run):")
            lines += [f"  row {row.Index}: {_predicted(row, metric.name)}" for row in self.to_frame().itertuples()]
        return "\n".join([*lines, *(f"warning: {one.text}" for one in self.warnings)])

    def _frame(self, found: MetricPrediction) -> pd.DataFrame:
        columns = {"loss": found.loss, "metric": found.metric}
        for name, ends in (
            ("loss_ci95", found.loss_ci95), ("loss_of_run", found.loss_of_run), ("metric_ci95", found.metric_ci95),
            ("metric_of_run", found.metric_of_run),
        ):  # fmt: skip
            columns |= {f"{name}_lower": ends[0], f"{name}_upper": ends[1]}
        return pd.DataFrame(columns)


def _values(fit: Fit) -> str:
    return ", ".join(
        f"{one.name} {one.value:.4g}"
        + (" (fixed)" if one.name in fit.fixed else f" [{one.ci95[0]:.4g}, {one.ci95[1]:.4g}]")
        for one in fit.coefficients
    )


def _predicted(row: object, name: str) -> str:
    parts = []
    for words, key in (("loss", "loss"), (name, "metric")):
        value, measured = getattr(row, key), getattr(row, f"{key}_measured", float("nan"))
        ends = [[getattr(row, f"{key}_{kind}_{side}") for side in ("lower", "upper")] for kind in ("ci95", "of_run")]
        off = formatting.significant(100 * abs(value - measured) / abs(measured)) if measured else "-"
        law, run = (f"[{lower:.4f}, {upper:.4f}]" for lower, upper in ends)
        parts.append(f"{words} {value:.4f} {law}; {run}, measured {measured:.4f} ({off} % off)")
    return "; ".join(parts)


def downstream(
    table: TableLike | Observations,
    *,
    metric: str,
    law: str = "chinchilla",
    link: str = "exponential",
    link_table: TableLike | Observations | None = None,
    link_loss: str | None = None,
    link_cluster: str | None = None,
    higher_is_better: bool | None = None,
    floor: float | None = None,
    ceiling: float | None = None,
    hold_out: int = 0,
    objective: str = "log_huber",
    delta: float | None = None,
    fix: Mapping[str, float] | None = None,
    tie: Mapping[str, str] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    **options: Unpack[TableOptions],
) -> Downstream:
    """Predict a task's metric from compute in two steps (Gadre et al. 2024, arXiv 2403.08540, section 3).

    Step 1 fits a law of the loss; step 2 fits the link from loss to the metric: error = eps - k exp(-gamma L), or the
    sigmoid of the Llama 3 report. Intervals carry the error of step 1 into step 2.

    Args:
        table: runs of step 1 (and of step 2 without `link_table`): a DataFrame, a path or observations.
        metric: name of the metric's column.
        law: of the loss.
        link: 'exponential' or 'sigmoid'.
        link_table: runs of step 2 with a loss and the metric, where they are others.
        link_loss: the loss column of `link_table` (default: that of `table`).
        link_cluster: the column of `link_table` that groups its rows (default: `cluster`, where it has that).
        higher_is_better: the metric's direction; None takes it from its name, else from its correlation with the loss.
        floor: the metric of a model that knows nothing (chance), which the link then reaches at high loss.
        ceiling: the metric of a perfect model, which no prediction exceeds.
        hold_out: the so many runs of most FLOPs are predicted and not fitted.
        objective: of step 1; step 2 is fitted by least squares in the metric, as published.
        delta: of a Huber objective.
        fix: coefficients of either step held at a value, by name.
        tie: coefficients of either step that equal another.
        bounds: of coefficients of either step.
        bootstrap: refits to resampled runs in both steps; None for the default intervals of a fit.
        seed: of all resampling.
        **options: columns and rows of `table`; `cluster` groups the runs of both steps, `weight` and `stderr` are those
            of the loss, in step 1.

    Returns:
        Both fits with `predict(at)`, `to_frame()` and `summary()`.

    Raises:
        TableError: a column is missing or a value cannot be used.
        FitError: too few runs for a step, a coefficient that neither step has, or a metric of unknown direction.

    Example:
        >>> import numpy as np, pandas as pd
        >>> flops = np.geomspace(1e18, 1e21, 12)
        >>> loss = 1.7 + 40.0 * flops**-0.1
        >>> runs = pd.DataFrame({"x": flops, "loss": loss, "accuracy": 0.14 + 2.2 * np.exp(-0.7 * loss)})
        >>> found = downstream(runs, metric="accuracy", law="power_with_offset", factors={"x": "x"})
        >>> found.steps.metric.higher_is_better
        True
        >>> round(float(found.predict({"x": 1e22})["metric"].iloc[0]), 3)
        0.701
    """
    form = law_named(law)
    one_table = link_table is None
    if not isinstance(table, Observations) and one_table:
        options["factors"] = {**options.get("factors", {}), METRIC: metric}
    runs = table if isinstance(table, Observations) else observe(table, reads=_letters(form), **options)
    linked = runs
    if link_table is not None:
        of_link = (link_loss or options.get("loss"), link_cluster or options.get("cluster"))
        linked = _link_runs(link_table, metric, *of_link)
    held = held_out_of(runs, hold_out)
    kept_link = ~held if one_table else np.ones(len(linked), dtype=bool)
    what, warnings = describe_metric(
        metric, linked.columns[METRIC][kept_link], linked.loss[kept_link], higher_is_better=higher_is_better,
        floor=floor, ceiling=ceiling,
    )  # fmt: skip
    shares = share_coefficients(form, LINKS.get(link, form), fix or {}, tie or {}, bounds or {})
    columns = columns_for(form, _without_metric(runs))
    steps = two_steps(
        form,
        {name: values[~held] for name, values in columns.items()},
        runs.loss[~held], linked.loss[kept_link], linked.columns[METRIC][kept_link], what, link=link,
        law_options=StepOptions(
            objective=objective, delta=delta, weight=_of(runs.weight, ~held), stderr=_of(runs.stderr, ~held),
            cluster=_of(runs.cluster, ~held), bootstrap=bootstrap or 0, fixed=shares[0].fixed, tied=shares[0].tied,
            bounds=shares[0].bounds,
        ),
        link_options=StepOptions(
            objective="lsq", cluster=_of(linked.cluster, kept_link), bootstrap=bootstrap or 0, fixed=shares[1].fixed,
            tied=shares[1].tied, bounds=shares[1].bounds,
        ),
        seed=seed,
    )  # fmt: skip
    ahead = {name: values[held] for name, values in columns.items()}
    predicted = steps.predict(ahead) if held.any() else None
    return Downstream(
        steps=steps, observations=runs, link_observations=linked, held_out=held, predicted=predicted,
        warnings=(*steps.law.warnings, *steps.link.warnings, *warnings, *_flat(steps)),
    )  # fmt: skip


def _letters(law: Law) -> set[str]:
    return {column.name for column in law.columns}


def held_out_of(runs: Observations, number: int) -> BoolArray:
    """The rows that the table holds out, and the `number` runs of most FLOPs. Raises FitError."""
    if not 0 <= number < len(runs):
        raise FitError(f"--hold-out {number}: of {formatting.counted(len(runs), 'run')} some have to be left to fit")
    columns = runs.columns
    both = {"N", "D"} <= set(columns)
    scale = columns.get("C", columns["N"] * columns["D"] if both else -runs.loss)
    held = np.zeros(len(runs), dtype=bool) if runs.held_out is None else runs.held_out.copy()
    held[np.argsort(-scale, kind="stable")[:number]] = True
    return held


def _link_runs(table: TableLike | Observations, metric: str, loss: str | None, cluster: str | None) -> Observations:
    """The second step's runs: a loss and the metric, and the cluster where the table has that column."""
    if isinstance(table, Observations):
        return table
    given: TableOptions = {"factors": {METRIC: metric}}
    if loss is not None:
        given["loss"] = loss
    columns = getattr(table, "columns", ())
    if cluster is not None and cluster in columns:
        given["cluster"] = cluster
    return observe(table, reads={METRIC}, **given)


def _without_metric(runs: Observations) -> dict[str, FloatArray]:
    return {name: values for name, values in runs.columns.items() if name != METRIC}


def _of(values: Array | None, kept: BoolArray) -> Array | None:
    return None if values is None else values[kept]  # type: ignore[return-value]


def _flat(steps: TwoSteps) -> list[FitWarning]:
    """A link that is hardly better than a constant."""
    link = steps.link
    total = float(((link.loss - link.loss.mean()) ** 2).sum())
    left = float(((link.loss - link.predict(link.columns)) ** 2).sum())
    if total > 0 and left < (1.0 - FLAT_LINK) * total:
        return []
    text = f"the link explains hardly anything of {steps.metric.name}: its prediction is nearly a constant"
    return [FitWarning(code="flat_link", text=text)]
