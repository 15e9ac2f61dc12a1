"""Recall of facts against FLOPs and against parameters: markers are seeds, bands 95 % intervals of means."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, scatter
from analysis.figures.palette import series_styles
from analysis.figures.spent_axis import one_column, spent_axis
from analysis.gains.measures import Measure
from analysis.gains.run_noise import noise_of
from analysis.gains.scaling_curves import FLOPS
from analysis.inference.variance_components import NoiseModel
from analysis.sweep.study import Study
from analysis.tables.runs import BoolArray, FloatArray

MARGIN = 0.75
"""Inches on the right, where labels start at the edge, with that of the chance level."""


def against_flops(study: Study) -> Figure | None:
    """Recall against training FLOPs; None where the table has no recall."""
    if study.recall is None:
        return None
    if one_column(study):
        return None
    runs = study.results.compare
    figure, axes = style.panel(**style.naming(runs.labels, series_styles(study.results.compare)).margins(MARGIN))
    spent_axis(axes, runs, FLOPS, runs.budget_flops)
    rows = _recall(study, study.recall, axes, runs.budget_flops)
    return Figure(
        stem="recall_vs_flops",
        title="Recall of facts against training FLOPs",
        caption=_recall_caption(study),
        figure=figure,
        rows=rows,
    )


def against_params(study: Study) -> Figure | None:
    """Recall against total parameters; None where the table has no recall."""
    runs = study.results.compare
    if study.recall is None or not runs.has("params_total") or (study.focus == "ablations" and one_column(study)):
        return None
    figure, axes = style.panel(**style.naming(runs.labels, series_styles(study.results.compare)).margins(MARGIN))
    x_N = runs.number("params_total")
    limits = style.padded(float(x_N.min()), float(x_N.max()), 0.08, least=1.25)
    style.log_axis(axes, "x", *limits, formatting.short_count)
    rows = _recall(study, study.recall, axes, x_N)
    axes.set_xlabel("total parameters")
    return Figure(
        stem="recall_vs_params",
        title="Recall of facts against total parameters",
        caption=_recall_caption(study)
        + ("" if study.isoflops else " Each line runs from the smallest budget to the largest."),
        figure=figure,
        rows=rows,
    )


def _recall_caption(study: Study) -> str:
    chance = " Dashed: chance." if study.results.compare.has("recall_chance") else ""
    level = formatting.level(study.level)
    lines = "" if study.isoflops else f"; lines: means, bands: {level} interval of the mean"
    return f"Held-out questions, closed book. One marker a seed{lines}.{chance}"


def _recall(study: Study, measure: Measure, axes: Axes, x_N: FloatArray) -> list[DataRow]:
    """Seeds, means with intervals and the chance level, on axes whose x limits are set; returns the data."""
    runs = study.results.compare
    share_N = runs.number(measure.column) * 100
    rows = scatter(axes, runs, series_styles(study.results.compare), x_N, share_N)
    noise = noise_of(runs, measure, level=study.level)[0]
    ends: list[tuple[str, float, float]] = []
    for label in runs.labels:
        # Sizes of an isoFLOP sweep share their FLOPs: a line through their means would jump back and forth.
        joined = not runs.shares_flops(label)
        cells = [runs.of(label, budget) for budget in runs.budgets(label)]
        at_X = np.array([x_N[cell].mean() for cell in cells])
        mean_X = np.array([share_N[cell].mean() for cell in cells])
        half_X = np.array([_half(noise, cell) for cell in cells])
        mark = series_styles(study.results.compare)[label]
        if joined:
            axes.plot(at_X, mean_X, color=mark.colour, ls=mark.line, lw=1.3, zorder=2)
        if noise is not None and joined:
            low_X, high_X = np.maximum(mean_X - half_X, 0), np.minimum(mean_X + half_X, 100)
            axes.fill_between(at_X, low_X, high_X, color=mark.colour, alpha=0.16, lw=0, zorder=1)
        rows += [
            ("mean", label, x, y, y - half, y + half, "", "") for x, y, half in zip(at_X, mean_X, half_X, strict=True)
        ]
        ends.append((label, float(at_X[-1]), float(mean_X[-1])))
    axes.set_ylim(-2, 102)
    style.set_ticks(axes, "y", (0, 25, 50, 75, 100), lambda tick: f"{tick:g}")
    axes.set_ylabel("facts recalled, %")
    note = None
    if runs.has("recall_chance"):
        chance = 100 * float(runs.number("recall_chance").mean())
        axes.axhline(chance, color=style.QUIET, lw=0.8, ls=(0, (4, 3)), zorder=0)
        edge = float(axes.get_xlim()[1])
        note = style.Label(text="chance", colour=style.QUIET, x=edge, y=chance, quiet=True)
        rows.append(("chance", "", "", chance, "", "", "", ""))
    style.naming(runs.labels, series_styles(study.results.compare)).put(axes, ends, notes=[note] if note else [])
    return rows


def _half(noise: NoiseModel | None, cell: BoolArray) -> float:
    """Half the 95 % interval of a cell's mean."""
    return float("nan") if noise is None else noise.contrast(cell / cell.sum()).half_width(1.0)
