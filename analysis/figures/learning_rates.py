"""The learning rates that each family was tuned with, and the best of them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure
from analysis.figures.palette import series_styles
from analysis.sweep.learning_rates import LearningRateChoice
from analysis.sweep.study import Study


def tuning_runs(study: Study) -> Figure | None:
    """The learning-rate sweeps: where each family's best lies."""
    swept = [one for one in study.learning_rates if len({run.learning_rate for run in one.tuning_runs if run.loss}) > 1]
    if not swept:
        return None
    naming = style.Naming(
        names={one.family: formatting.family(one.family) for one in swept},
        styles={one.family: series_styles(study.results.compare)[one.series] for one in swept},
    )
    figure, axes = style.panel(**naming.margins())
    rows: list[DataRow] = []
    ends, every = [], [run.loss for family in swept for run in family.tuning_runs if run.loss is not None]
    for family in swept:
        mark = naming.styles[family.family]
        factors = sorted({run.table_factor or 0.0 for run in family.tuning_runs})
        for position, factor in enumerate(factors):
            tried = [t for t in family.tuning_runs if (t.table_factor or 0.0) == factor and t.loss is not None]
            line = [t for t in tried if t.round == 1]
            x, y = [t.learning_rate for t in line], [t.loss or np.nan for t in line]
            chosen = np.isclose(factor, family.table_factor or 0.0)
            alpha = 1.0 if chosen else 0.35
            axes.plot(x, y, color=mark.colour, lw=1.1, marker=mark.marker, ms=3.2, alpha=alpha, zorder=2 + position)
            rows += [
                (f"table x{factor:g}" if factor else "", family.family, *xy, "", "", "", "")
                for xy in zip(x, y, strict=True)
            ]
            again = [t for t in tried if t.round > 1]
            axes.plot(
                [t.learning_rate for t in again], [t.loss or np.nan for t in again], ".", color=mark.colour, ms=3.0,
                alpha=alpha, zorder=2 + position,
            )  # fmt: skip
            rows += [
                (f"round {t.round}, seed {t.seed}" + (f", table x{factor:g}" if factor else ""), family.family,
                 t.learning_rate, t.loss or np.nan, "", "", "", "")
                for t in again
            ]  # fmt: skip
            if line and chosen:
                ends.append((family.family, x[-1], y[-1]))
        if family.best is not None and family.best.loss is not None:
            axes.plot(family.best.learning_rate, family.best.loss, "o", ms=9, mfc="none", mec=mark.colour, mew=1.0)
    rates = [run.learning_rate for one in swept for run in one.tuning_runs]
    style.log_axis(axes, "x", *style.padded(min(rates), max(rates), 0.08), lambda tick: f"{tick:g}")
    rows += _diverged(axes, swept, naming)
    style.log_axis(axes, "y", *style.padded(min(every), max(every), 0.07), most=7)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss, nats per token")
    naming.put(axes, ends)
    return Figure(
        stem="tuning",
        title="The learning rates that were tried",
        caption="Tuning runs at one budget, not among the compared ones. Lines: the first round, one seed."
        " Dots: later rounds, other seeds; circles: the lowest mean of the last. Pale: other rates of the memory table."
        " Crosses at the top: diverged.",
        figure=figure,
        rows=rows,
    )


def _diverged(axes: Axes, swept: list[LearningRateChoice], naming: style.Naming) -> list[DataRow]:
    """A cross at the top for each rate that diverged; returns the data."""
    found = [(one.family, run.learning_rate) for one in swept for run in one.tuning_runs if run.loss is None]
    for family, rate in found:
        colour = naming.styles[family].colour
        axes.plot(rate, 1, "x", color=colour, ms=6, transform=axes.get_xaxis_transform(), clip_on=False)
    return [("diverged", family, rate, "", "", "", "", "") for family, rate in found]
