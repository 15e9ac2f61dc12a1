"""The figure of one family's gain over another: both laws with their runs, and the multiplier as a function of scale.

Lines are unbroken inside a family's own runs and dashed outside them; bands are 95 %. Where there is no multiplier
(the law is never reached, or would be read too far outside the runs) the line has a gap.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES, SeriesStyle, family_style
from analysis.gains.gain import Gain
from analysis.gains.multipliers import Multiplier, common_end, multiplier
from analysis.gains.scaling_curves import SeriesCurve
from analysis.tables.runs import FloatArray

NUM_LINE_POINTS = 60
DASHED = (0, (4, 3))


def write(found: Sequence[Gain], folder: Path) -> list[Path]:
    """Draw and write one figure an axis. Raises AnalysisError where the folder cannot be written."""
    return save([figure(one) for one in found], folder)


def figure(found: Gain) -> Figure:
    """Laws and runs above, the multiplier below, along the axis of the gain."""
    with style.styled():
        return _figure(found)


def _figure(found: Gain) -> Figure:
    axis, pair = found.axis, (found.subject, found.baseline)
    own_N = np.isin(np.array(found.runs.series), pair)
    x, losses = found.runs.number(axis.column)[own_N], found.runs.number("loss_nats")[own_N]
    ends = style.padded(float(x.min()), float(x.max()), 0.06)
    grid = np.geomspace(float(x.min()), float(x.max()), NUM_LINE_POINTS)
    names = [formatting.series(label) for label in pair]
    right = 0.3 + style.text_width(names, 8)
    canvas, (above, below) = style.panels(2, height=2.4, width=style.WIDTH + right - 0.62, right=right)
    rows: list[DataRow] = []
    labels = []
    for mark, label, name in zip(_styles(*pair), pair, names, strict=True):
        rows += _series(above, mark, found, label, grid)
        end = float(found.curves.series[label].loss(grid[-1:])[0])
        labels.append(style.Label(text=name, colour=mark.colour, x=float(grid[-1]), y=end))
    style.log_axis(above, "y", *style.padded(float(losses.min()), float(losses.max()), 0.08), most=6)
    style.log_axis(above, "x", *ends, formatting.power)
    above.set_ylabel("loss")
    style.put_labels(above, labels)
    rows += _multipliers(below, found, grid)
    style.log_axis(below, "x", *ends, formatting.power)
    below.set_xlabel(axis.words)
    below.set_ylabel(f"{axis.what} multiplier")
    bands = " Bands: 95 %." if found.curves.noise is not None else f" No bands: {found.curves.no_interval_because}."
    return Figure(
        stem=f"gain_{axis.what}",
        title=f"{names[0]} over {names[1]}",
        caption=f"Above: runs and the law {found.curves.law.formula} of each; below: by how many times more {axis.what}"
        f" {names[1]} needs for the same loss as {names[0]}, at the loss that the worse one reaches there."
        f"{bands} Dashed: outside the runs.",
        figure=canvas,
        rows=rows,
    )


def _styles(subject: str, baseline: str) -> tuple[SeriesStyle, SeriesStyle]:
    """Of two families that the palette does not know, the second has the style of dense models."""
    ours, theirs = family_style(subject.partition(" ")[0]), family_style(baseline.partition(" ")[0])
    return ours, theirs if theirs.colour != ours.colour else FAMILY_STYLES["dense"]


def _series(axes: Axes, mark: SeriesStyle, found: Gain, label: str, grid: FloatArray) -> list[DataRow]:
    curve: SeriesCurve = found.curves.series[label]
    line, band = curve.loss(grid), curve.band(grid)
    inside = (grid >= curve.lower_x * 0.999) & (grid <= curve.upper_x * 1.001)
    if band is not None:
        axes.fill_between(grid, *band, color=mark.colour, alpha=0.15, lw=0, zorder=1)
    axes.plot(grid, line, color=mark.colour, lw=0.9, ls=DASHED, zorder=2)
    axes.plot(grid[inside], line[inside], color=mark.colour, lw=1.4, zorder=2)
    own_N = found.runs.of(label)
    x, loss = found.runs.number(found.axis.column)[own_N], found.runs.number("loss_nats")[own_N]
    axes.plot(x, loss, mark.marker, color=mark.colour, ms=3.6, mec="white", mew=0.4, zorder=3)
    rows: list[DataRow] = [("run", label, *one, "", "", "", "") for one in zip(x, loss, strict=True)]
    lower, upper = band if band is not None else (np.full(len(grid), np.nan),) * 2
    rows += [("law", label, *one, "", "") for one in zip(grid, line, lower, upper, strict=True)]
    return rows


def _multipliers(axes: Axes, found: Gain, grid: FloatArray) -> list[DataRow]:
    curves, subject, baseline = found.curves, found.subject, found.baseline
    along = [multiplier(curves, subject, baseline, float(x)) for x in grid]
    axes.axhline(1.0, color=style.QUIET, lw=0.7, zorder=1)
    if all(one.value is None for one in along):
        axes.text(
            0.5, 0.6, textwrap.fill(along[-1].refusal, 46), transform=axes.transAxes, ha="center", va="center",
            fontsize=7,
        )  # fmt: skip
        style.log_axis(axes, "y", 0.5, 2.0)
        return []
    colour = _styles(subject, baseline)[0].colour
    value, lower, upper = (np.array([_part(one, part) for one in along]) for part in ("value", "lower", "upper"))
    top = 3 * float(np.nanmax(value))
    axes.fill_between(grid, lower, np.minimum(upper, top), color=colour, alpha=0.15, lw=0, zorder=1)
    inside = grid <= common_end(curves.series[subject], curves.series[baseline]) * 1.001
    axes.plot(grid, value, color=colour, lw=0.9, ls=DASHED, zorder=2)
    axes.plot(grid, np.where(inside, value, np.nan), color=colour, lw=1.4, zorder=2)
    shown = np.concatenate([[1.0], value, lower, np.minimum(upper, top)])
    style.log_axis(axes, "y", *style.padded(float(np.nanmin(shown)), float(np.nanmax(shown)), 0.1, least=1.1), most=6)
    label = f"{subject} over {baseline}"
    return [
        ("multiplier", label, one.at, one.value, *(one.interval or ("", "")), "", "")
        for one in along
        if one.value is not None
    ]


def _part(one: Multiplier, part: str) -> float:
    if one.value is None:
        return math.nan
    if part == "value":
        return one.value
    return math.nan if one.interval is None else one.interval[part == "upper"]
