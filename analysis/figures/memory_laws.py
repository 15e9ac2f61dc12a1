"""The held-out errors of each law with their intervals: a panel a family and target, a colour a kind of split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import OTHER_STYLES, SeriesStyle, family_style
from analysis.fitting.law_ranking import RankedLaw
from analysis.sweep.memory_laws import LawTable, MemoryLaws

KINDS = (
    family_style("memory_plus"),
    family_style("moe"),
    OTHER_STYLES[0],
)
"""Extrapolation in size, extrapolation in the base, interpolation."""
_APART = 0.22
"""Between the kinds of one law, in rows."""


def draw(found: MemoryLaws) -> tuple[Figure, ...]:
    """One figure a family and target."""
    with style.styled():
        return tuple(_errors(table) for table in found.tables)


def write(found: MemoryLaws, folder: Path) -> list[Path]:
    """Draw them into a folder. Raises AnalysisError."""
    return save(draw(found), folder)


def _errors(table: LawTable) -> Figure:
    """The laws from the best down; whiskers are 95 % intervals over groups, the line is the noise of a run."""
    shown = [one for one in table.laws if one.fit is not None]
    names = [one.law.name for one in shown]
    styles = dict(zip(shown[0].errors, KINDS, strict=False))
    naming = style.Naming(names={kind: kind for kind in styles}, styles=styles)
    left = 0.2 + style.text_width(names, 7.5)
    margins = {**naming.margins(), "right": 0.2, "left": left, "width": 2.6 + left, "height": 0.75 + 0.3 * len(shown)}
    figure, axes = style.panel(**margins)
    rows: list[DataRow] = []
    for place, one in enumerate(reversed(shown)):
        rows += _law(axes, one, place, styles)
    known = [error.rms for one in shown for error in one.errors.values() if np.isfinite(error.rms)]
    ends = [end for one in shown for error in one.errors.values() if error.ci95 for end in error.ci95]
    noise = [table.noise] if np.isfinite(table.noise) and table.noise > 0 else []
    low, high = min([*known, *ends, *noise]), max([*known, *ends, *noise])
    style.log_axis(axes, "x", *style.padded(low, high, 0.06), most=4)
    if noise:
        axes.axvline(table.noise, color=style.QUIET, lw=0.8, ls=(0, (4, 3)), zorder=0)
        axes.text(table.noise, len(shown) - 0.42, "noise of a run", fontsize=6.5, color=style.QUIET, ha="center")
        rows.append(("noise", "", table.noise, "", "", "", "", ""))
    axes.set_yticks(range(len(shown)), list(reversed(names)))
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"held-out error, {table.target.unit}")
    naming.put(axes, [(kind, low, 0.0) for kind in styles])
    family = formatting.family(table.runs.family)
    stem = f"{table.runs.family}-{table.target.key}"
    return Figure(
        stem=stem,
        title=f"{family}: what each law predicts of {table.target.words}",
        caption="Root mean square errors on runs that were held out; the best law is at the top. Whiskers: 95 %"
        " intervals over seeds and budgets.",
        figure=figure,
        rows=rows,
    )


def _law(axes: Axes, one: RankedLaw, place: int, styles: dict[str, SeriesStyle]) -> list[DataRow]:
    rows: list[DataRow] = []
    for at, (kind, error) in enumerate(one.errors.items()):
        if not np.isfinite(error.rms):
            continue
        height, mark = place + _APART * (1 - at), styles[kind]
        lower, upper = error.ci95 or (np.nan, np.nan)
        axes.plot([lower, upper], [height, height], color=mark.colour, lw=1.2, zorder=2)
        axes.plot(error.rms, height, mark.marker, color=mark.colour, ms=4.2, mec="white", mew=0.5, zorder=3)
        rows.append((kind, one.law.name, error.rms, place, lower, upper, "", ""))
    return rows
