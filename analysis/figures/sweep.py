"""The figures: what each shows, and the data behind it.

Seeds are points, laws are lines with their 95 % band, means are lines with the interval of the mean; the chance level
of recall is dashed. A figure is drawn only where the table carries it: without facts there is no recall figure.
"""

from __future__ import annotations

import numpy as np

from analysis import formatting
from analysis.figures import ablations, by_budget, knowledge, learning_rates, model_size, recall, style, table_size
from analysis.figures.figure import DataRow, Figure, scatter
from analysis.figures.palette import series_styles
from analysis.figures.spent_axis import one_column, spent_axis
from analysis.gains.differences import Comparison, Difference
from analysis.gains.measures import Measure
from analysis.gains.scaling_curves import FLOPS, SECONDS, Axis
from analysis.sweep.matching import held_equal
from analysis.sweep.study import Study

NUM_CURVE_POINTS = 60


def draw(study: Study) -> tuple[Figure, ...]:
    """Every figure that the table carries, in the order of the report: what the sweep is about comes first."""
    with style.styled():
        about = {
            "families": _gain(study),
            "table_sizes": table_size.loss_by_table_size(study),
            "ablations": ablations.loss_of_ablations(study),
            "model_sizes": model_size.isoflop(study),
        }
        first = about.pop(study.focus, None)
        by_size = table_size.others_by_table_size(study)
        others = [*by_size, *([] if by_size else [ablations.recall_of_ablations(study)]), *about.values()]
        figures = [
            knowledge.saturation(study),
            first,
            by_budget.main_measure(study),
            *others,
            _loss(study, FLOPS),
            recall.against_flops(study),
            recall.against_params(study),
            _loss(study, SECONDS),
        ]
        figures.append(learning_rates.tuning_runs(study))
    return tuple(one for one in figures if one is not None)


def _gain(study: Study) -> Figure | None:
    """The answer itself: differences in the main measure with their intervals, a row a budget."""
    measure = study.main
    shown = [one for pair in study.pairs if (one := study.comparison(*pair, measure.column))]
    if not shown:
        return None
    subject, runs = formatting.series(shown[0].subject), study.results.compare
    num_rows = sum(len(_lines(one)) + 1 for one in shown)
    values = [_amount(line, measure) for one in shown for _, line in _lines(one)]
    left = max(0.62, 0.15 + style.text_width((words for one in shown for words, _ in _lines(one)), 7.5))
    right = 0.1 + style.text_width(values, 6.5)
    figure, axes = style.panel(height=0.62 + 0.185 * num_rows, left=left, right=right)
    rows: list[DataRow] = []
    height = 0.0
    for comparison in shown:
        mark = series_styles(study.results.compare)[comparison.baseline]
        title = f"{subject} {formatting.MINUS} {formatting.series(comparison.baseline)}"
        axes.annotate(
            title, (0, height), xycoords=("axes fraction", "data"), color=mark.colour, fontweight="bold", va="center",
            xytext=(5 - 72 * left, 0), textcoords="offset points", annotation_clip=False,
        )  # fmt: skip
        for words, difference in _lines(comparison):
            height -= 1
            interval = difference.interval
            overall = difference.budget_flops is None
            if interval is not None:
                axes.plot([interval.lower, interval.upper], [height] * 2, color=mark.colour, lw=2.2 if overall else 1.2)
            axes.plot(difference.value, height, "D" if overall else "o", color=mark.colour, ms=5 if overall else 4)
            axes.annotate(
                words, (0, height), xycoords=("axes fraction", "data"), xytext=(-8, 0), textcoords="offset points",
                ha="right", va="center", fontsize=7.5, annotation_clip=False,
            )  # fmt: skip
            axes.annotate(
                _amount(difference, measure), (1, height),
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
    axes.set_xlabel(f"difference in {measure.axis}".replace("%", measure.unit))
    axes.locator_params(axis="x", nbins=3)
    better = "left" if measure.lower_is_better else "right"
    return Figure(
        stem="gain",
        title=f"What {subject} gains {held_equal(runs, study.pairs).words}",
        caption=f"Differences of means over seeds, with {formatting.level(study.level)} intervals; {better} of zero is"
        " better. Diamonds: mean over budgets.",
        figure=figure,
        rows=rows,
    )


def _amount(difference: Difference, measure: Measure) -> str:
    """The difference with its sign and interval."""
    return formatting.with_interval(difference.value, difference.interval, sign=True, most=measure.decimals)


def _lines(comparison: Comparison) -> list[tuple[str, Difference]]:
    lines = [(formatting.power(one.budget_flops or 0.0), one) for one in comparison.at_budgets]
    return [*lines, ("mean", comparison.overall)] if len(lines) > 1 else lines


def _loss(study: Study, axis: Axis) -> Figure | None:
    """Loss against what was spent, with the fitted laws."""
    runs = study.results.compare
    if not runs.has(axis.column) or one_column(study):
        return None
    naming = style.naming(runs.labels, series_styles(study.results.compare))
    figure, axes = style.panel(**naming.margins())
    x_N, loss_N = runs.number(axis.column), runs.number("loss_nats")
    rows, ends = scatter(axes, runs, series_styles(study.results.compare), x_N, loss_N), []
    curves = study.curves.get(axis.key)
    for label in runs.labels:
        mask, mark = runs.of(label), series_styles(study.results.compare)[label]
        last = int(np.argmax(np.where(mask, x_N, -np.inf)))
        cell = mask & np.array([name == runs.budget[last] for name in runs.budget])
        end = (float(x_N[last]), float(loss_N[cell].mean()))
        if curves is not None and label in curves.series:
            curve = curves.series[label]
            at_X = np.geomspace(curve.lower_x, curve.upper_x, NUM_CURVE_POINTS)
            law_X, band = curve.loss(at_X), curve.band(at_X)
            axes.plot(at_X, law_X, color=mark.colour, ls=mark.line, lw=1.3, zorder=2)
            if band is not None:
                axes.fill_between(at_X, *band, color=mark.colour, alpha=0.16, lw=0, zorder=1)
            lower, upper = band if band is not None else (np.full(len(at_X), np.nan),) * 2
            rows += [
                ("law", label, x, y, low, high, "", "")
                for x, y, low, high in zip(at_X, law_X, lower, upper, strict=True)
            ]
            end = (float(at_X[-1]), float(law_X[-1]))
        ends.append((label, *end))
    style.log_axis(axes, "y", *style.padded(float(loss_N.min()), float(loss_N.max()), 0.07), most=7)
    spent_axis(axes, runs, axis, x_N)
    axes.set_ylabel("validation loss, nats per token")
    naming.put(axes, ends)
    law = f" Lines: {curves.law.formula}; bands: 95 %." if curves is not None else ""
    return Figure(
        stem=f"loss_vs_{axis.key}",
        title=f"Loss against {axis.words}",
        caption=f"One point a seed.{law} Both axes are logarithmic."
        + (" Seconds are those of the machine the runs were trained on." if axis is SECONDS else ""),
        figure=figure,
        rows=rows,
    )
