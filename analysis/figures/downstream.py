"""The figure of two steps: the link from loss to metric with its runs, and each run's metric beside its prediction.

Runs that both steps were fitted to are full, held-out ones hollow; bands and bars are 95 % of the draws, of the law and
the link without the noise of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from analysis.downstream.two_steps import TwoSteps
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COLOUR = FAMILY_STYLES["memory_plus"].colour
_POINTS = 100


def write(
    found: TwoSteps,
    columns: Mapping[str, FloatArray],
    loss_N: FloatArray,
    metric_N: FloatArray,
    held_N: BoolArray,
    folder: Path,
    *,
    metric: str,
) -> list[Path]:
    """Draw and write it. `metric` is the metric's name. Raises AnalysisError."""
    known_N = np.isfinite(metric_N)
    with style.styled():
        figure, (above, below) = style.panels(2, height=2.6, right=0.15)
        rows = _link(above, found, loss_N[known_N], metric_N[known_N], held_N[known_N])
        known = {name: values[known_N] for name, values in columns.items()}
        rows += _predicted(below, found, known, metric_N[known_N], held_N[known_N])
        above.set_xlabel("loss")
        above.set_ylabel(metric)
        below.set_xlabel(f"{metric}, measured")
        below.set_ylabel(f"{metric}, predicted")
    figures = Figure(
        stem="downstream",
        title=f"{metric} from the loss, and from the columns of {found.law.law.name}",
        caption="Above: the link and its runs; below: predictions from the law's loss. Hollow: runs that neither step "
        "was fitted to.",
        figure=figure,
        rows=rows,
    )
    return save([figures], folder)


def _link(axes: Axes, found: TwoSteps, loss_N: FloatArray, metric_N: FloatArray, held_N: BoolArray) -> list[DataRow]:
    grid = np.linspace(float(loss_N.min()), float(loss_N.max()), _POINTS)
    line = found.link.predict({"L": grid})
    lower, upper = np.quantile(found.link.predict_all(found.link_draws, {"L": grid}), [0.025, 0.975], axis=0)
    axes.fill_between(grid, lower, upper, color=COLOUR, alpha=0.15, lw=0, zorder=1)
    axes.plot(grid, line, color=COLOUR, lw=1.3, zorder=2)
    _dots(axes, loss_N, metric_N, held_N)
    rows: list[DataRow] = [("link", "", *one, "", "") for one in zip(grid, line, lower, upper, strict=True)]
    words = np.where(held_N, "held out", "fitted")
    return rows + [("run", word, x, y, "", "", "", "") for word, x, y in zip(words, loss_N, metric_N, strict=True)]


def _predicted(
    axes: Axes, found: TwoSteps, columns: Mapping[str, FloatArray], metric_N: FloatArray, held_N: BoolArray
) -> list[DataRow]:
    told = found.predict(columns)
    both = np.concatenate([metric_N, told.metric])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color=style.QUIET, lw=0.7, zorder=1)
    axes.vlines(metric_N, *told.metric_ci95, color=COLOUR, lw=0.8, alpha=0.6, zorder=2)
    _dots(axes, metric_N, told.metric, held_N)
    words = np.where(held_N, "held out", "fitted")
    parts = zip(words, metric_N, told.metric, *told.metric_ci95, strict=True)
    return [("predicted", *one, "", "") for one in parts]


def _dots(axes: Axes, x_N: FloatArray, y_N: FloatArray, held_N: BoolArray) -> None:
    axes.plot(x_N[~held_N], y_N[~held_N], "o", color=COLOUR, ms=3.4, mec="white", mew=0.4, zorder=3)
    axes.plot(x_N[held_N], y_N[held_N], "o", mfc="white", mec=COLOUR, mew=0.9, ms=3.8, zorder=4)
