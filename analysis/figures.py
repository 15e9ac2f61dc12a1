"""The figures: what each shows, and the data behind it.

Seeds are points, laws are lines with their 95 % band, means are lines with the interval of the mean; the chance level
of recall is dashed. A figure is drawn only where the table carries it: without facts there is no recall figure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import numbers, style
from analysis.curves import FLOPS, SECONDS, Axis
from analysis.gain import Comparison, Difference, Measure
from analysis.study import Study
from analysis.table import FloatArray, Runs
from analysis.uncertainty import Noise

NUM_CURVE_POINTS = 60
RECALL_MARGIN = 0.75
"""Inches on the right of the recall figures, whose labels start at the edge, with that of the chance level."""
COLUMNS = ("part", "family", "x", "y", "lower", "upper", "seed", "run")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One figure with its words and its data."""

    stem: str
    """Name of its files, without the ending."""
    title: str
    caption: str
    figure: Figure
    rows: list[tuple[object, ...]] = field(default_factory=list)
    """One tuple a point, in the order of COLUMNS."""

    def csv(self) -> bytes:
        """The data as CSV; numbers with all their digits."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows)
        return buffer.getvalue().encode()


def draw(study: Study) -> tuple[Drawn, ...]:
    """Every figure that the table carries, in the order of the report."""
    with style.styled():
        drawn = [_gain(study), _loss(study, FLOPS), _recall_flops(study), _recall_params(study), _loss(study, SECONDS)]
        drawn.append(_tuning(study))
    return tuple(one for one in drawn if one is not None)


def _gain(study: Study) -> Drawn | None:
    """The answer itself: differences in loss with their intervals, a row a budget."""
    shown = [one for pair in study.pairs if (one := study.comparison(*pair, "loss_nats"))]
    if not shown:
        return None
    subject = numbers.family(shown[0].subject)
    num_rows = sum(len(_lines(one)) + 1 for one in shown)
    figure, axes = style.panel(height=0.62 + 0.185 * num_rows, left=0.62, right=1.32)
    rows: list[tuple[object, ...]] = []
    height = 0.0
    for comparison in shown:
        look = style.look(comparison.baseline)
        title = f"{subject} {numbers.MINUS} {numbers.family(comparison.baseline)}"
        axes.annotate(
            title, (0, height), xycoords=("axes fraction", "data"), color=look.colour, fontweight="bold", va="center",
            xytext=(-40, 0), textcoords="offset points", annotation_clip=False,
        )  # fmt: skip
        for words, difference in _lines(comparison):
            height -= 1
            interval = difference.interval
            overall = difference.budget_flops is None
            if interval is not None:
                axes.plot([interval.lower, interval.upper], [height] * 2, color=look.colour, lw=2.2 if overall else 1.2)
            axes.plot(difference.value, height, "D" if overall else "o", color=look.colour, ms=5 if overall else 4)
            axes.annotate(
                words, (0, height), xycoords=("axes fraction", "data"), xytext=(-8, 0), textcoords="offset points",
                ha="right", va="center", fontsize=7.5, annotation_clip=False,
            )  # fmt: skip
            axes.annotate(
                numbers.with_interval(difference.value, interval, sign=True), (1, height),
                xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=6.5, color=style.QUIET, annotation_clip=False,
            )  # fmt: skip
            low, high = ("", "") if interval is None else (interval.lower, interval.upper)
            rows.append((words, comparison.baseline, difference.value, "", low, high, "", ""))
        height -= 1.15
    axes.axvline(0, color=style.QUIET, lw=0.8)
    axes.set_ylim(height + 0.6, 0.7)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("difference in loss, nats per token")
    axes.locator_params(axis="x", nbins=4)
    return Drawn(
        stem="gain",
        title=f"What {subject} gains at equal training compute",
        caption="Differences of means over seeds, with 95 % intervals; left of zero is a lower loss. Diamonds:"
        " mean over budgets.",
        figure=figure,
        rows=rows,
    )


def _lines(comparison: Comparison) -> list[tuple[str, Difference]]:
    lines = [(numbers.power(one.budget_flops or 0.0), one) for one in comparison.at_budgets]
    return [*lines, ("mean", comparison.overall)] if len(lines) > 1 else lines


def _loss(study: Study, axis: Axis) -> Drawn | None:
    """Loss against what was spent, with the fitted laws."""
    runs = study.results.compare
    if not runs.has(axis.column):
        return None
    figure, axes = style.panel()
    x_N, loss_N = runs.number(axis.column), runs.number("loss_nats")
    rows, ends = _points(axes, runs, x_N, loss_N), []
    curves = study.curves.get(axis.key)
    for family in runs.families:
        mask, look = runs.of(family), style.look(family)
        last = int(np.argmax(np.where(mask, x_N, -np.inf)))
        end = (float(x_N[last]), float(loss_N[mask & (runs.budget_flops == runs.budget_flops[last])].mean()))
        if curves is not None and family in curves.families:
            curve = curves.families[family]
            at_X = np.geomspace(curve.lower_x, curve.upper_x, NUM_CURVE_POINTS)
            law_X, band = curve.loss(at_X), curve.band(at_X)
            axes.plot(at_X, law_X, color=look.colour, lw=1.3, zorder=2)
            if band is not None:
                axes.fill_between(at_X, *band, color=look.colour, alpha=0.16, lw=0, zorder=1)
            lower, upper = band if band is not None else (np.full(len(at_X), np.nan),) * 2
            rows += [
                ("law", family, x, y, low, high, "", "")
                for x, y, low, high in zip(at_X, law_X, lower, upper, strict=True)
            ]
            end = (float(at_X[-1]), float(law_X[-1]))
        ends.append((family, *end))
    style.log_axis(axes, "y", *style.padded(float(loss_N.min()), float(loss_N.max()), 0.07), most=7)
    _spent_axis(axes, runs, axis, x_N)
    axes.set_ylabel("validation loss, nats per token")
    style.label_ends(axes, ends)
    law = f" Lines: {curves.law.formula}; bands: 95 %." if curves is not None else ""
    return Drawn(
        stem=f"loss_vs_{axis.key}",
        title=f"Loss against {axis.words}",
        caption=f"One point a seed.{law} Both axes are logarithmic."
        + (" Seconds are those of the machine the runs were trained on." if axis is SECONDS else ""),
        figure=figure,
        rows=rows,
    )


def _recall_flops(study: Study) -> Drawn | None:
    if study.recall is None:
        return None
    runs = study.results.compare
    figure, axes = style.panel(right=RECALL_MARGIN)
    _spent_axis(axes, runs, FLOPS, runs.budget_flops)
    rows = _recall(study, study.recall, axes, runs.budget_flops)
    return Drawn(
        stem="recall_vs_flops",
        title="Recall of facts against training FLOPs",
        caption=_recall_caption(study),
        figure=figure,
        rows=rows,
    )


def _recall_params(study: Study) -> Drawn | None:
    runs = study.results.compare
    if study.recall is None or not runs.has("params_total"):
        return None
    figure, axes = style.panel(right=RECALL_MARGIN)
    x_N = runs.number("params_total")
    limits = style.padded(float(x_N.min()), float(x_N.max()), 0.08, least=1.25)
    style.log_axis(axes, "x", *limits, numbers.short_count)
    rows = _recall(study, study.recall, axes, x_N)
    axes.set_xlabel("total parameters")
    return Drawn(
        stem="recall_vs_params",
        title="Recall of facts against total parameters",
        caption=_recall_caption(study) + " Each line runs from the smallest budget to the largest.",
        figure=figure,
        rows=rows,
    )


def _recall_caption(study: Study) -> str:
    chance = " Dashed: chance." if study.results.compare.has("recall_chance") else ""
    return f"Held-out questions, closed book. One point a seed; lines: means, bands: 95 % interval of the mean.{chance}"


def _recall(study: Study, recall: Measure, axes: Axes, x_N: FloatArray) -> list[tuple[object, ...]]:
    """Seeds, means with intervals and the chance level, once the x axis stands; returns the data."""
    runs = study.results.compare
    share_N = runs.number(recall.column) * 100
    rows = _points(axes, runs, x_N, share_N)
    noise = next((one.noise for one in study.comparisons if one.measure is recall), None)
    ends: list[tuple[str, float, float]] = []
    for family in runs.families:
        cells = [runs.of(family, budget) for budget in runs.budgets(family)]
        at_X = np.array([x_N[cell].mean() for cell in cells])
        mean_X = np.array([share_N[cell].mean() for cell in cells])
        half_X = np.array([_half(noise, int(cell.sum())) for cell in cells])
        look = style.look(family)
        axes.plot(at_X, mean_X, color=look.colour, lw=1.3, zorder=2)
        if noise is not None:
            low_X, high_X = np.maximum(mean_X - half_X, 0), np.minimum(mean_X + half_X, 100)
            axes.fill_between(at_X, low_X, high_X, color=look.colour, alpha=0.16, lw=0, zorder=1)
        rows += [
            ("mean", family, x, y, y - half, y + half, "", "") for x, y, half in zip(at_X, mean_X, half_X, strict=True)
        ]
        ends.append((family, float(at_X[-1]), float(mean_X[-1])))
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
    style.label_ends(axes, ends, note=note)
    return rows


def _half(noise: Noise | None, num_seeds: int) -> float:
    return float("nan") if noise is None else noise.half_width(1 / num_seeds)


def _tuning(study: Study) -> Drawn | None:
    """The learning-rate sweeps: where each family's best lies."""
    swept = [one for one in study.tuned if len({tried.learning_rate for tried in one.tried if tried.loss}) > 1]
    if not swept:
        return None
    figure, axes = style.panel()
    rows: list[tuple[object, ...]] = []
    ends, every = [], [one.loss for family in swept for one in family.tried if one.loss is not None]
    for family in swept:
        look = style.look(family.family)
        factors = sorted({tried.table_factor or 0.0 for tried in family.tried})
        for position, factor in enumerate(factors):
            line = [t for t in family.tried if (t.table_factor or 0.0) == factor and t.loss is not None]
            x, y = [t.learning_rate for t in line], [t.loss or np.nan for t in line]
            chosen = np.isclose(factor, family.table_factor or 0.0)
            alpha = 1.0 if chosen else 0.35
            axes.plot(x, y, color=look.colour, lw=1.1, marker=look.marker, ms=3.2, alpha=alpha, zorder=2 + position)
            rows += [
                (f"table x{factor:g}" if factor else "", family.family, *xy, "", "", "", "")
                for xy in zip(x, y, strict=True)
            ]
            if line and chosen:
                ends.append((family.family, x[-1], y[-1]))
        if family.best is not None and family.best.loss is not None:
            axes.plot(family.best.learning_rate, family.best.loss, "o", ms=9, mfc="none", mec=look.colour, mew=1.0)
    rates = [tried.learning_rate for one in swept for tried in one.tried]
    losses = every
    style.log_axis(axes, "x", *style.padded(min(rates), max(rates), 0.08), lambda tick: f"{tick:g}")
    diverged = [(one.family, tried.learning_rate) for one in swept for tried in one.tried if tried.loss is None]
    for family_name, rate in diverged:
        axes.plot(
            rate,
            1,
            "x",
            color=style.look(family_name).colour,
            ms=6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
        rows.append(("diverged", family_name, rate, "", "", "", "", ""))
    style.log_axis(axes, "y", *style.padded(min(losses), max(losses), 0.07), most=7)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss, nats per token")
    style.label_ends(axes, ends)
    return Drawn(
        stem="tuning",
        title="The learning rates that were tried",
        caption="Tuning runs at the smallest budget, one seed, not among the compared ones. Circles: the best. Pale"
        " lines: other rates of the memory table. Crosses at the top: diverged.",
        figure=figure,
        rows=rows,
    )


def _points(axes: Axes, runs: Runs, x_N: FloatArray, y_N: FloatArray) -> list[tuple[object, ...]]:
    """One point a run; returns the data."""
    rows: list[tuple[object, ...]] = []
    for family in runs.families:
        look, chosen = style.look(family), np.flatnonzero(runs.of(family))
        axes.plot(
            x_N[chosen],
            y_N[chosen],
            look.marker,
            color=look.colour,
            ms=4.2,
            mec="white",
            mew=0.5,
            zorder=3,
            clip_on=False,
        )
        rows += [("run", family, x_N[run], y_N[run], "", "", int(runs.seed[run]), runs.name[run]) for run in chosen]
    return rows


def _spent_axis(axes: Axes, runs: Runs, axis: Axis, x_N: FloatArray) -> None:
    """FLOPs with a tick a budget where they stand far enough apart, else round numbers; seconds with round numbers."""
    lower, upper = style.padded(float(x_N.min()), float(x_N.max()), 0.07, least=1.25)
    text: Callable[[float], str] | None = numbers.power if axis is FLOPS else None
    style.log_axis(axes, "x", lower, upper, text, most=4 if axis is FLOPS else 5)
    budgets = runs.budgets()
    gaps = np.diff(np.log(budgets)) / np.log(upper / lower)
    if axis is FLOPS and len(budgets) <= 5 and (len(gaps) == 0 or gaps.min() > 0.19):
        style.set_ticks(axes, "x", budgets, lambda tick: numbers.power(tick, 2))
    axes.set_xlabel("training FLOPs" if axis is FLOPS else "training seconds")
