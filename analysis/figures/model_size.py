"""Loss against model size at equal FLOPs: points are seeds, circles the lowest means, diamonds the optima."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure
from analysis.figures.palette import SeriesStyle, series_styles, shades
from analysis.sweep.model_size import IsoFlop
from analysis.sweep.study import Study


def isoflop(study: Study) -> Figure | None:
    """Loss against model size, a line a number of FLOPs, a panel a series."""
    found = study.isoflops
    if found is None:
        return None
    series = found.series
    single = len(series) == 1
    figure, panels = style.panels(len(series), height=2.9 if single else 2.5, top=0.12 if single else 0.24)
    styles = series_styles(study.results.compare)
    params = [size.params for curve in found.curves for size in curve.sizes]
    runs = study.results.compare
    losses = [float(value) for label in series for value in runs.number("loss_nats")[runs.of(label)]]
    rows: list[DataRow] = []
    for axes, label in zip(panels, series, strict=True):
        style.log_axis(axes, "x", *style.padded(min(params), max(params), 0.06), formatting.short_count)
        style.log_axis(axes, "y", *style.padded(min(losses), max(losses), 0.08), most=7)
        axes.set_ylabel("validation loss, nats per token")
        axes.set_xlabel(found.words)
        if len(series) > 1:
            axes.set_title(formatting.series(label), fontsize=8, fontweight="bold", loc="left", pad=2,
                           color=styles[label].colour)  # fmt: skip
        curves = found.of(label)
        colours = shades(styles[label].colour, len(curves))
        ends = []
        for curve, colour in zip(curves, colours, strict=True):
            rows += _isoflop_curve(
                axes,
                study,
                curve,
                SeriesStyle(colour=colour, marker=styles[label].marker),
            )
            last = curve.sizes[-1]
            ends.append(
                style.Label(
                    text=formatting.power(curve.flops, 2), colour=colour, x=last.params, y=last.loss, quiet=True
                )
            )
        style.put_labels(axes, ends, width=6.0)
    edges = " Crossed: it is the smallest or largest size tried." if any(one.edge for one in found.curves) else ""
    return Figure(
        stem="isoflop",
        title="Loss against model size at equal training FLOPs",
        caption="One point a seed; lines: means, a line a number of FLOPs. Circles: the lowest mean of each. Diamonds:"
        " the optimum between sizes."
        f"{edges} Both axes are logarithmic.",
        figure=figure,
        rows=rows,
    )


def _isoflop_curve(axes: Axes, study: Study, curve: IsoFlop, mark: SeriesStyle) -> list[DataRow]:
    runs = study.results.compare
    rows: list[DataRow] = []
    for size in curve.sizes:
        mask = runs.of(curve.series, size.budget)
        losses = runs.number("loss_nats")[mask]
        axes.plot([size.params] * len(losses), losses, mark.marker, color=mark.colour, ms=3.6, mec="white", mew=0.4,
                  zorder=3, clip_on=False)  # fmt: skip
        low, high = ("", "") if size.interval is None else (size.interval.lower, size.interval.upper)
        rows += [
            ("run", curve.series, size.params, loss, "", "", int(runs.seed[run]), runs.name[run])
            for run, loss in zip(np.flatnonzero(mask), losses, strict=True)
        ]
        rows.append(("mean", curve.series, size.params, size.loss, low, high, "", ""))
    axes.plot([size.params for size in curve.sizes], [size.loss for size in curve.sizes], color=mark.colour, lw=1.2,
              zorder=2)  # fmt: skip
    best = curve.best
    axes.plot(best.params, best.loss, "o", ms=9, mfc="none", mec=mark.colour, mew=1.0, zorder=4)
    optimum = curve.optimum
    if optimum is not None and not optimum.reason:
        axes.plot(optimum.params, optimum.loss, "D", ms=5, mfc="white", mec=mark.colour, mew=1.1, zorder=5)
        rows.append(("optimum", curve.series, optimum.params, optimum.loss, *(optimum.params_ci95 or ("", "")), "", ""))
    if curve.edge:
        axes.plot(best.params, best.loss, "x", ms=9, color=mark.colour, mew=1.0, zorder=4)
    return rows
