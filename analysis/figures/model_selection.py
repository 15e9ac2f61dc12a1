"""Figures of model selection: each law's predictions of larger runs, and the forest of one number under every choice.

Runs that a law was fitted to are full, those it predicts are hollow; what cannot be fitted is left out of the forest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure, save
from analysis.figures.palette import FAMILY_STYLES
from analysis.fitting.model_selection import LawScore
from analysis.fitting.sensitivity import Variant

FloatArray = npt.NDArray[np.float64]

COLOUR = FAMILY_STYLES["memory_plus"].colour
_MOST_LAWS = 4


def write(
    scores: Sequence[LawScore], variants: Sequence[Variant], scale_N: FloatArray, loss_N: FloatArray, folder: Path
) -> list[Path]:
    """Draw and write both. Raises AnalysisError."""
    figures = []
    with style.styled():
        shown = [one for one in scores if any(len(part.rows) for part in one.extrapolations)][:_MOST_LAWS]
        if shown:
            figures.append(_extrapolation(shown, scale_N, loss_N))
        if any(np.isfinite(one.value) for one in variants):
            figures.append(_forest(variants))
    return save(figures, folder)


def _extrapolation(scores: Sequence[LawScore], scale_N: FloatArray, loss_N: FloatArray) -> Figure:
    """The error of every run under the fit to the smallest part: full where fitted, hollow where predicted."""
    figure, panels = style.panels(len(scores), height=1.9, top=0.24, right=0.15)
    rows: list[DataRow] = []
    for axes, one in zip(panels, scores, strict=True):
        part = next(part for part in one.extrapolations if len(part.rows))
        axes.axhline(0.0, color=style.QUIET, lw=0.7, zorder=1)
        axes.axvline(part.limit, color=style.QUIET, lw=0.8, ls=(0, (4, 3)), zorder=1)
        assert one.fit is not None
        fitted = np.setdiff1d(np.arange(len(loss_N)), part.rows)
        whole = 100 * np.log(one.fit.predict(one.fit.columns) / loss_N)
        axes.plot(scale_N[fitted], whole[fitted], "o", color=COLOUR, ms=3, mec="white", mew=0.3, zorder=3)
        error = 100 * part.error
        axes.plot(scale_N[part.rows], error, "o", mfc="white", mec=COLOUR, mew=0.8, ms=3.4, zorder=3)
        style.log_axis(axes, "x", *style.padded(float(scale_N.min()), float(scale_N.max()), 0.03), formatting.power)
        axes.set_title(one.law.name, fontsize=8, fontweight="bold", loc="left", pad=2)
        axes.set_ylabel("error, %")
        rows += [("fitted", one.law.name, scale_N[at], whole[at], "", "", "", "") for at in fitted]
        rows += [("predicted", one.law.name, scale_N[at], value, "", "", "", "")
                 for at, value in zip(part.rows, error, strict=True)]  # fmt: skip
    panels[-1].set_xlabel("scale of the runs")
    return Figure(
        stem="extrapolation",
        title="Errors on runs larger than those fitted",
        caption="Hollow: predicted by the law fitted left of the dashed line; full: residuals of the fit to all runs.",
        figure=figure,
        rows=rows,
    )


def _forest(variants: Sequence[Variant]) -> Figure:
    shown = [one for one in variants if np.isfinite(one.value)]
    left = 0.2 + style.text_width([one.label for one in shown], 7.5)
    figure, axes = style.panel(left=left, right=0.15, width=2.4 + left, height=0.7 + 0.2 * len(shown))
    axes.axvline(shown[0].value, color=style.QUIET, lw=0.7, zorder=1)
    rows: list[DataRow] = []
    for place, one in enumerate(reversed(shown)):
        colour = style.INK if one.kind == "as fitted" else COLOUR
        axes.plot(one.ci95, [place, place], color=colour, lw=1.3, zorder=2)
        axes.plot(one.value, place, "o", color=colour, ms=4.4, mec="white", mew=0.5, zorder=3)
        rows.append((one.kind, one.label, one.value, place, *one.ci95, "", ""))
    axes.set_yticks(range(len(shown)), [one.label for one in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("value and 95 % interval")
    return Figure(
        stem="sensitivity",
        title="The headline under each choice",
        caption="The first is the fit as asked for; each other changes one choice.",
        figure=figure,
        rows=rows,
    )
