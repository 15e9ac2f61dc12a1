"""Bits stored against bits offered: means with intervals, each series' law, and published capacities as lines."""

from __future__ import annotations

import numpy as np

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure
from analysis.figures.palette import series_styles
from analysis.sweep.knowledge import PUBLISHED
from analysis.sweep.study import Study

NUM_CURVE_POINTS = 80


def saturation(study: Study) -> Figure | None:
    """Bits stored per parameter against bits offered; None where the table does not offer several amounts."""
    found = study.knowledge
    if found is None:
        return None
    styles = series_styles(study.results.compare)
    naming = style.naming([one.series for one in found.series], styles)
    figure, axes = style.panel(**naming.margins(1.25))
    offered = np.array([point.offered for one in found.series for point in one.points])
    highest = [max(point.stored, *(point.interval or (point.stored,))) for one in found.series for point in one.points]
    limits = style.padded(float(offered.min()), float(offered.max()), 0.06)
    grid = np.geomspace(*limits, NUM_CURVE_POINTS)
    rows: list[DataRow] = []
    ends = []
    for one in found.series:
        mark = styles[one.series]
        x = np.array([point.offered for point in one.points])
        y = np.array([point.stored for point in one.points])
        for point in one.points:
            low, high = point.interval or (np.nan, np.nan)
            axes.plot([point.offered] * 2, [low, high], color=mark.colour, lw=1.0, zorder=2)
            rows.append(("mean", one.series, point.offered, point.stored, low, high, "", point.budget))
        axes.plot(x, y, mark.marker, color=mark.colour, ms=4.2, mec="white", mew=0.4, zorder=3)
        curve = one.curve(grid)
        if curve is not None:
            axes.plot(grid, curve, color=mark.colour, ls=mark.line, lw=1.3, zorder=2)
            rows += [("law", one.series, at, value, "", "", "", "") for at, value in zip(grid, curve, strict=True)]
        ends.append((one.series, float(x[-1]), float(y[-1])))
    top = 1.12 * max(*highest, PUBLISHED[0][0])
    axes.plot(grid, grid, color=style.QUIET, lw=0.8, zorder=1)
    rows += [("all offered", "", at, at, "", "", "", "") for at in grid]
    quiet = [
        style.Label(text="all offered", colour=style.QUIET, x=min(top, limits[1]), y=min(top, limits[1]), quiet=True)
    ]
    for bits, words in PUBLISHED:
        axes.axhline(bits, color=style.QUIET, lw=0.8, ls=(0, (4, 3)), zorder=0)
        quiet.append(style.Label(text=f"published: {bits:g}", colour=style.QUIET, x=limits[1], y=bits, quiet=True))
        rows.append(("published", words, "", bits, "", "", "", ""))
    style.log_axis(axes, "x", *limits)
    axes.set_ylim(min(0.0, 1.05 * float(min(point.stored for one in found.series for point in one.points))), top)
    axes.set_xlabel("bits offered per dense parameter")
    axes.set_ylabel("bits stored per dense parameter")
    naming.put(axes, ends)
    style.put_labels(axes, quiet[1:])
    axes.annotate(quiet[0].text, (quiet[0].x, quiet[0].y), xytext=(-4, -2), textcoords="offset points", ha="right",
                  va="top", fontsize=7, color=style.QUIET)  # fmt: skip
    return Figure(
        stem="saturation",
        title="Knowledge stored against knowledge offered",
        caption=f"Means over seeds with {formatting.level(found.level)} intervals, and each series' law K (1 - exp(-s x"
        " / K)) where the means bend. Dashed: what dense models were published to store in bits per parameter of their"
        " own, after so many exposures (Allen-Zhu and Li 2024).",
        figure=figure,
        rows=rows,
    )
