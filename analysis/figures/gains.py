"""The figure of one family's gain over another: both laws with their runs, and the multiplier as a function of scale.

Lines are unbroken inside a family's own runs and dashed outside them; bands are 95 % of the bootstrap's draws. Where
the baseline never reaches the subject's loss there is no multiplier, and the line has a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Drawn, save
from analysis.figures.palette import FAMILY_LOOKS, Look, family_look
from analysis.fitting.power_law import SeriesFit
from analysis.gains.multipliers import Family, Gain, Gains

FloatArray = npt.NDArray[np.float64]

_POINTS = 60
"""Of a line."""
_AXES = {"C": ("training FLOPs", "compute"), "N": ("parameters", "parameters")}
_DASHED = (0, (4, 3))


def write(found: Sequence[Gains], folder: Path) -> list[Path]:
    """Draw and write one figure an axis. Raises AnalysisError."""
    with style.styled():
        drawn = [_draw(one) for one in found]
    return save(drawn, folder)


def _draw(found: Gains) -> Drawn:
    unit, what = _AXES[found.axis]
    x = np.concatenate([one.x for one in found.families])
    ends = style.padded(float(x.min()), float(x.max()), 0.04)
    grid = np.geomspace(float(x.min()), float(x.max()), _POINTS)
    right = 0.3 + style.text_width([one.name for one in found.families], 8)
    figure, (above, below) = style.panels(2, height=2.4, width=style.WIDTH + right - 0.62, right=right)
    rows: list[DataRow] = []
    labels = []
    for look, family, fit in zip(_looks(found), found.families, found.fits, strict=True):
        rows += _family(above, look, family, fit, grid)
        end = math.exp(float(fit.log_loss(fit.best, grid[-1:])[0, 0]))
        labels.append(style.Label(text=family.name, colour=look.colour, x=float(grid[-1]), y=end))
    losses = np.concatenate([one.loss for one in found.families])
    style.log_axis(above, "y", *style.padded(float(losses.min()), float(losses.max()), 0.06))
    style.log_axis(above, "x", *ends, formatting.power)
    above.set_ylabel("loss")
    style.put_labels(above, labels)
    rows += _multipliers(below, found, grid)
    style.log_axis(below, "x", *ends, formatting.power)
    below.set_xlabel(unit)
    below.set_ylabel(f"{what} multiplier")
    return Drawn(
        stem=f"gain_{what}",
        title=f"{found.subject} over {found.baseline}",
        caption=f"Above: runs and the law {found.law} of each; below: by how many times more {what} {found.baseline} "
        f"needs for the loss of {found.subject}. Bands: 95 % of the bootstrap; dashed: outside the runs.",
        figure=figure,
        rows=rows,
    )


def _looks(found: Gains) -> tuple[Look, Look]:
    """Of two families that this code does not know, the second has a look of its own."""
    ours, theirs = family_look(found.subject), family_look(found.baseline)
    return ours, theirs if theirs.colour != ours.colour else FAMILY_LOOKS["dense"]


def _family(axes: Axes, look: Look, family: Family, fit: SeriesFit, grid: FloatArray) -> list[DataRow]:
    assert fit.fit.replicates is not None
    line = np.exp(fit.log_loss(fit.best, grid)[0])
    lower, upper = np.quantile(np.exp(fit.log_loss(fit.fit.replicates.theta, grid)), [0.025, 0.975], axis=0)
    own = (grid >= family.x.min() * 0.999) & (grid <= family.x.max() * 1.001)
    axes.fill_between(grid, lower, upper, color=look.colour, alpha=0.15, lw=0, zorder=1)
    axes.plot(grid, line, color=look.colour, lw=0.9, ls=_DASHED, zorder=2)
    axes.plot(grid[own], line[own], color=look.colour, lw=1.4, zorder=2)
    axes.plot(family.x, family.loss, look.marker, color=look.colour, ms=3.6, mec="white", mew=0.4, zorder=3)
    rows: list[DataRow] = [
        ("run", family.name, x, y, "", "", "", "") for x, y in zip(family.x, family.loss, strict=True)
    ]
    rows += [("law", family.name, *one, "", "") for one in zip(grid, line, lower, upper, strict=True)]
    return rows


def _multipliers(axes: Axes, found: Gains, grid: FloatArray) -> list[DataRow]:
    colour = _looks(found)[0].colour
    along = found.along(grid.tolist())
    bounded = [one for one in along if one.multiplier is not None]
    axes.axhline(1.0, color=style.QUIET, lw=0.7, zorder=1)
    if not bounded:
        axes.text(0.5, 0.6, along[0].reason, transform=axes.transAxes, ha="center", fontsize=7)
        style.log_axis(axes, "y", 0.5, 2.0)
        return []
    value, lower, upper = (np.array([_part(one, part) for one in along]) for part in ("value", "lower", "upper"))
    top = 3 * float(np.nanmax(value))
    axes.fill_between(grid, lower, np.minimum(upper, top), color=colour, alpha=0.15, lw=0, zorder=1)
    inside = np.array([not one.extrapolated for one in along])
    axes.plot(grid, value, color=colour, lw=0.9, ls=_DASHED, zorder=2)
    axes.plot(grid, np.where(inside, value, np.nan), color=colour, lw=1.4, zorder=2)
    low = min(float(np.nanmin(lower)), 1.0)
    high = max(float(np.nanmax(np.minimum(upper, top))), 1.0)
    style.log_axis(axes, "y", *style.padded(low, high, 0.06, least=1.1))
    return [
        ("multiplier", f"{found.subject} over {found.baseline}", one.x, one.multiplier, *one.multiplier_ci95, "", "")
        for one in bounded
        if one.multiplier_ci95 is not None
    ]


def _part(one: Gain, part: str) -> float:
    if one.multiplier is None or one.multiplier_ci95 is None:
        return math.nan
    return {"value": one.multiplier, "lower": one.multiplier_ci95[0], "upper": one.multiplier_ci95[1]}[part]
