"""The figures: what each shows, and the data behind it.

Seeds are points, laws are lines with their 95 % band, means are lines with the interval of the mean; the chance level
of recall is dashed. A figure is drawn only where the table carries it: without facts there is no recall figure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from analysis import formatting
from analysis.figures import ablations, model_size, style, table_size
from analysis.figures.figure import DataRow, Drawn, points
from analysis.gains.differences import Comparison, Difference, Measure, noise_of
from analysis.gains.scaling_curves import FLOPS, SECONDS, Axis
from analysis.inference.replicate_noise import Noise
from analysis.sweep.matching import terms
from analysis.sweep.study import Study
from analysis.tables.runs import FloatArray, Runs

NUM_CURVE_POINTS = 60
RECALL_MARGIN = 0.75
"""Inches on the right of the recall figures, whose labels start at the edge, with that of the chance level."""


def draw(study: Study) -> tuple[Drawn, ...]:
    """Every figure that the table carries, in the order of the report: what the sweep is about comes first."""
    with style.styled():
        about = {
            "families": _gain(study),
            "slots": table_size.loss_by_slots(study),
            "variants": ablations.loss_of_variants(study),
            "sizes": model_size.isoflop(study),
        }
        first = about.pop(study.focus, None)
        second = table_size.recall_by_slots(study) or ablations.recall_of_variants(study)
        others = [second, *about.values()]
        drawn = [
            first,
            *others,
            _loss(study, FLOPS),
            _recall_flops(study),
            _recall_params(study),
            _loss(study, SECONDS),
        ]
        drawn.append(_tuning(study))
    return tuple(one for one in drawn if one is not None)


def _gain(study: Study) -> Drawn | None:
    """The answer itself: differences in loss with their intervals, a row a budget."""
    shown = [one for pair in study.pairs if (one := study.comparison(*pair, "loss_nats"))]
    if not shown:
        return None
    subject, runs = formatting.series(shown[0].subject), study.results.compare
    num_rows = sum(len(_lines(one)) + 1 for one in shown)
    values = [
        formatting.with_interval(line.value, line.interval, sign=True) for one in shown for _, line in _lines(one)
    ]
    left = max(0.62, 0.15 + style.text_width((words for one in shown for words, _ in _lines(one)), 7.5))
    right = 0.1 + style.text_width(values, 6.5)
    figure, axes = style.panel(height=0.62 + 0.185 * num_rows, left=left, right=right)
    rows: list[DataRow] = []
    height = 0.0
    for comparison in shown:
        look = study.looks[comparison.baseline]
        title = f"{subject} {formatting.MINUS} {formatting.series(comparison.baseline)}"
        axes.annotate(
            title, (0, height), xycoords=("axes fraction", "data"), color=look.colour, fontweight="bold", va="center",
            xytext=(5 - 72 * left, 0), textcoords="offset points", annotation_clip=False,
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
                formatting.with_interval(difference.value, interval, sign=True), (1, height),
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
    axes.locator_params(axis="x", nbins=3)
    return Drawn(
        stem="gain",
        title=f"What {subject} gains {terms(runs, study.pairs).words}",
        caption="Differences of means over seeds, with 95 % intervals; left of zero is a lower loss. Diamonds:"
        " mean over budgets.",
        figure=figure,
        rows=rows,
    )


def _lines(comparison: Comparison) -> list[tuple[str, Difference]]:
    lines = [(formatting.power(one.budget_flops or 0.0), one) for one in comparison.at_budgets]
    return [*lines, ("mean", comparison.overall)] if len(lines) > 1 else lines


def _loss(study: Study, axis: Axis) -> Drawn | None:
    """Loss against what was spent, with the fitted laws."""
    runs = study.results.compare
    if not runs.has(axis.column) or _one_column(study):
        return None
    naming = style.naming(runs.labels, study.looks)
    figure, axes = style.panel(**naming.margins())
    x_N, loss_N = runs.number(axis.column), runs.number("loss_nats")
    rows, ends = points(axes, runs, study.looks, x_N, loss_N), []
    curves = study.curves.get(axis.key)
    for label in runs.labels:
        mask, look = runs.of(label), study.looks[label]
        last = int(np.argmax(np.where(mask, x_N, -np.inf)))
        cell = mask & np.array([name == runs.budget[last] for name in runs.budget])
        end = (float(x_N[last]), float(loss_N[cell].mean()))
        if curves is not None and label in curves.series:
            curve = curves.series[label]
            at_X = np.geomspace(curve.lower_x, curve.upper_x, NUM_CURVE_POINTS)
            law_X, band = curve.loss(at_X), curve.band(at_X)
            axes.plot(at_X, law_X, color=look.colour, ls=look.line, lw=1.3, zorder=2)
            if band is not None:
                axes.fill_between(at_X, *band, color=look.colour, alpha=0.16, lw=0, zorder=1)
            lower, upper = band if band is not None else (np.full(len(at_X), np.nan),) * 2
            rows += [
                ("law", label, x, y, low, high, "", "")
                for x, y, low, high in zip(at_X, law_X, lower, upper, strict=True)
            ]
            end = (float(at_X[-1]), float(law_X[-1]))
        ends.append((label, *end))
    style.log_axis(axes, "y", *style.padded(float(loss_N.min()), float(loss_N.max()), 0.07), most=7)
    _spent_axis(axes, runs, axis, x_N)
    axes.set_ylabel("validation loss, nats per token")
    naming.put(axes, ends)
    law = f" Lines: {curves.law.formula}; bands: 95 %." if curves is not None else ""
    return Drawn(
        stem=f"loss_vs_{axis.key}",
        title=f"Loss against {axis.words}",
        caption=f"One point a seed.{law} Both axes are logarithmic."
        + (" Seconds are those of the machine the runs were trained on." if axis is SECONDS else ""),
        figure=figure,
        rows=rows,
    )


def _one_column(study: Study) -> bool:
    """Whether settings or model sizes would stand above each other at one number of FLOPs; their own figures show
    them side by side."""
    one_budget = len(study.results.compare.budgets()) == 1
    return study.isoflops is not None or (study.focus in ("slots", "variants") and one_budget)


def _recall_flops(study: Study) -> Drawn | None:
    if study.recall is None:
        return None
    if _one_column(study):
        return None
    runs = study.results.compare
    figure, axes = style.panel(**style.naming(runs.labels, study.looks).margins(RECALL_MARGIN))
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
    if study.recall is None or not runs.has("params_total") or (study.focus == "variants" and _one_column(study)):
        return None
    figure, axes = style.panel(**style.naming(runs.labels, study.looks).margins(RECALL_MARGIN))
    x_N = runs.number("params_total")
    limits = style.padded(float(x_N.min()), float(x_N.max()), 0.08, least=1.25)
    style.log_axis(axes, "x", *limits, formatting.short_count)
    rows = _recall(study, study.recall, axes, x_N)
    axes.set_xlabel("total parameters")
    return Drawn(
        stem="recall_vs_params",
        title="Recall of facts against total parameters",
        caption=_recall_caption(study)
        + ("" if study.isoflops else " Each line runs from the smallest budget to the largest."),
        figure=figure,
        rows=rows,
    )


def _recall_caption(study: Study) -> str:
    chance = " Dashed: chance." if study.results.compare.has("recall_chance") else ""
    lines = "" if study.isoflops else "; lines: means, bands: 95 % interval of the mean"
    return f"Held-out questions, closed book. One point a seed{lines}.{chance}"


def _recall(study: Study, recall: Measure, axes: Axes, x_N: FloatArray) -> list[DataRow]:
    """Seeds, means with intervals and the chance level, once the x axis stands; returns the data."""
    runs = study.results.compare
    share_N = runs.number(recall.column) * 100
    rows = points(axes, runs, study.looks, x_N, share_N)
    noise = noise_of(runs, recall)[0]
    ends: list[tuple[str, float, float]] = []
    for label in runs.labels:
        # Sizes of an isoFLOP sweep share their FLOPs: a line through their means would jump back and forth.
        joined = not runs.shares_flops(label)
        cells = [runs.of(label, budget) for budget in runs.budgets(label)]
        at_X = np.array([x_N[cell].mean() for cell in cells])
        mean_X = np.array([share_N[cell].mean() for cell in cells])
        half_X = np.array([_half(noise, int(cell.sum())) for cell in cells])
        look = study.looks[label]
        if joined:
            axes.plot(at_X, mean_X, color=look.colour, ls=look.line, lw=1.3, zorder=2)
        if noise is not None and joined:
            low_X, high_X = np.maximum(mean_X - half_X, 0), np.minimum(mean_X + half_X, 100)
            axes.fill_between(at_X, low_X, high_X, color=look.colour, alpha=0.16, lw=0, zorder=1)
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
    style.naming(runs.labels, study.looks).put(axes, ends, note=note)
    return rows


def _half(noise: Noise | None, num_seeds: int) -> float:
    return float("nan") if noise is None else noise.half_width(1 / num_seeds)


def _tuning(study: Study) -> Drawn | None:
    """The learning-rate sweeps: where each family's best lies."""
    swept = [one for one in study.tuned if len({tried.learning_rate for tried in one.tried if tried.loss}) > 1]
    if not swept:
        return None
    naming = style.Naming(
        names={one.family: formatting.family(one.family) for one in swept},
        looks={one.family: study.looks[one.series] for one in swept},
    )
    figure, axes = style.panel(**naming.margins())
    rows: list[DataRow] = []
    ends, every = [], [one.loss for family in swept for one in family.tried if one.loss is not None]
    for family in swept:
        look = naming.looks[family.family]
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
            color=naming.looks[family_name].colour,
            ms=6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
        rows.append(("diverged", family_name, rate, "", "", "", "", ""))
    style.log_axis(axes, "y", *style.padded(min(losses), max(losses), 0.07), most=7)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss, nats per token")
    naming.put(axes, ends)
    return Drawn(
        stem="tuning",
        title="The learning rates that were tried",
        caption="Tuning runs at the smallest budget, one seed, not among the compared ones. Circles: the best. Pale"
        " lines: other rates of the memory table. Crosses at the top: diverged.",
        figure=figure,
        rows=rows,
    )


def _spent_axis(axes: Axes, runs: Runs, axis: Axis, x_N: FloatArray) -> None:
    """FLOPs with a tick a budget where they stand far enough apart, else round numbers; seconds with round numbers."""
    lower, upper = style.padded(float(x_N.min()), float(x_N.max()), 0.07, least=1.25)
    text: Callable[[float], str] | None = formatting.power if axis is FLOPS else None
    style.log_axis(axes, "x", lower, upper, text, most=4 if axis is FLOPS else 5)
    budgets = runs.flops_budgets()
    gaps = np.diff(np.log(budgets)) / np.log(upper / lower)
    if axis is FLOPS and len(budgets) <= 5 and (len(gaps) == 0 or gaps.min() > 0.19):
        style.set_ticks(axes, "x", budgets, lambda tick: formatting.power(tick, 2))
    axes.set_xlabel("training FLOPs" if axis is FLOPS else "training seconds")
