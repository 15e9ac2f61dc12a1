"""The sweep's main measure at each budget, by series: every run and the mean with its interval; all marks are named."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure
from analysis.figures.palette import series_styles
from analysis.figures.spent_axis import one_column
from analysis.gains.run_noise import noise_of
from analysis.sweep.study import Study

STEP = 0.13
"""Between the series of a budget, in budgets."""


def main_measure(study: Study) -> Figure | None:
    """The main measure by budget; None where families are not what is compared, or the measure has its own figure."""
    runs, measure = study.results.compare, study.main
    if study.focus != "families" or one_column(study) or measure.column == "loss_nats":
        return None
    styles = series_styles(runs)
    naming = style.naming(runs.labels, styles)
    margins = naming.margins(0.75)
    figure, axes = style.panel(**(margins | {"below": margins.get("below", 0.0) + 0.3}))
    value_N = runs.number(measure.column) * measure.factor
    noise, _ = noise_of(runs, measure, level=study.level)
    budgets = runs.budgets()
    rows: list[DataRow] = []
    ends = []
    for number, label in enumerate(runs.labels):
        mark = styles[label]
        aside = STEP * (number - (len(runs.labels) - 1) / 2)
        line_x, line_y = [], []
        for place, budget in enumerate(budgets):
            cell = runs.of(label, budget)
            if not cell.any():
                continue
            mean = float(value_N[cell].mean())
            interval = None if noise is None else noise.contrast(cell / cell.sum()).interval(mean, 1.0)
            low, high = interval or (np.nan, np.nan)
            axes.plot([place + aside] * 2, [low, high], color=mark.colour, lw=2.0, alpha=0.55, zorder=2)
            axes.plot(np.full(int(cell.sum()), place + aside), value_N[cell], ".", color=mark.colour, ms=4, zorder=3)
            axes.plot(place + aside, mean, mark.marker, color=mark.colour, ms=5, mec="white", mew=0.5, zorder=4)
            line_x.append(place + aside)
            line_y.append(mean)
            rows.append(("mean", label, budget.flops, mean, low, high, "", budget.name))
            rows += [
                ("run", label, budget.flops, value, "", "", seed, "")
                for value, seed in zip(value_N[cell], runs.seed[cell], strict=True)
            ]
        axes.plot(line_x, line_y, color=mark.colour, ls=mark.line, lw=0.9, alpha=0.8, zorder=1)
        ends.append((label, line_x[-1], line_y[-1]))
    axes.set_xlim(-0.5, len(budgets) - 0.5)
    style.set_ticks(axes, "x", range(len(budgets)), lambda at: formatting.power(budgets[int(at)].flops, 2))
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel("training FLOPs of the budget")
    axes.set_ylabel(measure.axis)
    naming.put(axes, ends)
    figure.legend(
        handles=[
            Line2D([], [], color=style.QUIET, marker=".", ls="", ms=5, label="one run"),
            Line2D([], [], color=style.QUIET, marker="o", ls="-", lw=2, ms=4.5, mec="white",
                   label=f"mean over seeds, {formatting.level(study.level)} interval"),
        ],
        loc="lower left", bbox_to_anchor=(0.02, margins.get("below", 0.0) / figure.get_figheight()), ncols=2,
        frameon=False, fontsize=7, handlelength=1.6, columnspacing=1.4, borderaxespad=0.2,
    )  # fmt: skip
    return Figure(
        stem="by_budget",
        title=f"{measure.words.capitalize()} at each budget",
        caption=f"Every run, and means over seeds with {formatting.level(study.level)} intervals from the noise of the"
        " budget's runs.",
        figure=figure,
        rows=rows,
    )
