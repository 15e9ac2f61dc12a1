"""The figure of two steps: the link from loss to metric with its runs, and each run's metric beside its prediction.

Full points are runs that the link was fitted to, hollow ones were held out. The band and the thick bars are 95 %
intervals of law and link; the thin bars are those of the next run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from analysis.downstream.from_table import METRIC, Downstream
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES
from analysis.fitting.law_columns import columns_for

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COLOUR = FAMILY_STYLES["memory_plus"].colour
_POINTS = 100


def write(found: Downstream, folder: Path) -> list[Path]:
    """Draw and write it. Raises AnalysisError."""
    name = found.steps.metric.name
    paired = METRIC in found.observations.columns
    with style.styled():
        figure, panels = style.panels(2 if paired else 1, height=2.6, right=0.15)
        rows = _link(panels[0], found)
        panels[0].set_xlabel("loss")
        panels[0].set_ylabel(name)
        if paired:
            rows += _predicted(panels[1], found)
            panels[1].set_xlabel(f"{name}, measured")
            panels[1].set_ylabel(f"{name}, predicted")
    drawn = Figure(
        stem="downstream",
        title=f"{name} from the loss, and from the columns of {found.law.law.name}",
        caption="Above: the link, its 95 % band and its runs; below: predictions from the law's loss, thick bars: 95 %"
        " of law and link, thin bars: of the next run. Hollow: runs that neither step was fitted to.",
        figure=figure,
        rows=rows,
    )
    return save([drawn], folder)


def _link(axes: Axes, found: Downstream) -> list[DataRow]:
    runs = found.link_observations
    loss_N, metric_N = runs.loss, runs.columns[METRIC]
    held_N = found.held_out if runs is found.observations else np.zeros(len(runs), dtype=bool)
    grid = np.linspace(float(loss_N.min()), float(loss_N.max()), _POINTS)
    line = found.steps.metric_at(grid)
    lower, upper = found.steps.link_interval(grid)
    axes.fill_between(grid, lower, upper, color=COLOUR, alpha=0.15, lw=0, zorder=1)
    axes.plot(grid, line, color=COLOUR, lw=1.3, zorder=2)
    _dots(axes, loss_N, metric_N, held_N)
    rows: list[DataRow] = [("link", "", *one, "", "") for one in zip(grid, line, lower, upper, strict=True)]
    words = np.where(held_N, "held out", "fitted")
    return rows + [("run", word, x, y, "", "", "", "") for word, x, y in zip(words, loss_N, metric_N, strict=True)]


def _predicted(axes: Axes, found: Downstream) -> list[DataRow]:
    runs, held_N = found.observations, found.held_out
    metric_N = runs.columns[METRIC]
    given = {name: values for name, values in runs.columns.items() if name != METRIC}
    predicted = found.steps.predict(columns_for(found.law.law, given))
    both = np.concatenate([metric_N, predicted.metric])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color=style.QUIET, lw=0.7, zorder=1)
    axes.vlines(metric_N, *predicted.metric_of_run, color=COLOUR, lw=0.5, alpha=0.5, zorder=2)
    axes.vlines(metric_N, *predicted.metric_ci95, color=COLOUR, lw=1.4, alpha=0.6, zorder=2)
    _dots(axes, metric_N, predicted.metric, held_N)
    words = np.where(held_N, "held out", "fitted")
    parts = zip(words, metric_N, predicted.metric, *predicted.metric_ci95, strict=True)
    return [("predicted", *one, "", "") for one in parts]


def _dots(axes: Axes, x_N: FloatArray, y_N: FloatArray, held_N: BoolArray) -> None:
    axes.plot(x_N[~held_N], y_N[~held_N], "o", color=COLOUR, ms=3.4, mec="white", mew=0.4, zorder=3)
    axes.plot(x_N[held_N], y_N[held_N], "o", mfc="white", mec=COLOUR, mew=0.9, ms=3.8, zorder=4)
