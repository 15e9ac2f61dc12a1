"""Loss, recall, NLL and bits stored against slots: points are seeds, whiskers 95 % intervals of means, bands laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from analysis import formatting
from analysis.figures import style
from analysis.figures.figure import DataRow, Figure
from analysis.figures.palette import SeriesStyle, family_style, shades
from analysis.gains.measures import Measure
from analysis.sweep.dense_levels import DenseLevel
from analysis.sweep.study import Study
from analysis.sweep.table_size import TableSizeCurve
from analysis.tables.runs import Runs

NUM_CURVE_POINTS = 60


SlotRun = tuple[str, str, float, float, str, str, int, str]
"""A run's row of the figure's data."""
STEMS = {
    "loss_nats": "loss_vs_slots",
    "score_dense_facts_nats": "nll_vs_slots",
    "bits_stored": "bits_vs_slots",
}
"""Of the measures that are no recall."""


def loss_by_table_size(study: Study) -> Figure | None:
    """Loss against the number of slots, with its law."""
    if study.table_sizes is None:
        return None
    return _by_slots(study, study.table_sizes.measures[0], "loss_vs_slots")


def others_by_table_size(study: Study) -> list[Figure]:
    """Recall, NLL of the facts' values and bits stored against the number of slots, as far as the table has them."""
    if study.table_sizes is None:
        return []
    others = study.table_sizes.measures[1:]
    figures = [_by_slots(study, one, "recall_vs_slots") for one in others if one == study.recall]
    return figures + [_by_slots(study, one, STEMS[one.column]) for one in others if one.column in STEMS]


def _by_slots(study: Study, measure: Measure, stem: str) -> Figure:
    table_sizes, runs = study.table_sizes, study.results.compare
    assert table_sizes is not None
    styles, names = _slot_styles(table_sizes.curves), _slot_names(table_sizes.curves)
    naming = style.Naming(names=names, styles=styles)
    figure, axes = style.panel(**naming.margins(0.75))
    limits = _slot_axis(axes, table_sizes.curves)
    recall = measure == study.recall
    if recall:
        axes.set_ylim(-2, 102)
        style.set_ticks(axes, "y", (0, 25, 50, 75, 100), lambda tick: f"{tick:g}")
    if measure.unit == "bits":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: formatting.short_count(tick)))
    axes.set_ylabel("facts recalled, %" if recall else _axis_words(measure))
    rows: list[DataRow] = []
    is_loss = measure == table_sizes.measures[0]
    levels = _levels(table_sizes.curves)
    ends, every = [], []
    for curve in table_sizes.curves:
        mark = styles[curve.key]
        seeds = _slot_runs(axes, runs, curve, measure, mark)
        every += [value for _, _, _, value, *_ in seeds]
        rows += seeds
        rows += _slot_means(axes, curve, measure, mark, law=table_sizes.law(curve) is not None and is_loss)
        ends.append((curve.key, curve.points[-1].num_slots, curve.points[-1].means[measure.column].value))
        if is_loss:
            rows += _slot_law(axes, study, curve, mark)
    for level in levels:
        every += _dense_line(axes, level, measure, rows)
    if not recall:
        axes.set_ylim(*_even(every))
    notes = [
        style.Label(text=_level_words(level, len(levels)), colour=family_style("dense").colour, x=limits[1],
                    y=level.means[measure.column], quiet=True)
        for level in levels
    ]  # fmt: skip
    chance_words = ""
    if recall and runs.has("recall_chance"):
        chance = 100 * float(runs.number("recall_chance").mean())
        axes.axhline(chance, color=style.QUIET, lw=0.8, ls=(0, (1, 2)), zorder=0)
        notes.append(style.Label(text="chance", colour=style.QUIET, x=limits[1], y=chance, quiet=True))
        chance_words = " Dotted: chance."
        rows.append(("chance", "", "", chance, "", "", "", ""))
    naming.put(axes, ends, notes=notes)
    law = "" if not is_loss or table_sizes.laws is None else f" Lines: {_slot_formula(study)}; bands: 95 %."
    dense = " Dashed: dense models, by the compute of the curve's own." if levels else ""
    words = measure.words if not recall else "recall of facts"
    return Figure(
        stem=stem,
        title=f"{words[0].upper()}{words[1:]} against table size",
        caption=f"One point a seed; whiskers: 95 % interval of the mean.{law}{dense}{chance_words}",
        figure=figure,
        rows=rows,
    )


def _axis_words(measure: Measure) -> str:
    """The measure with its unit, unless its words name it."""
    return measure.words if measure.unit in measure.words else f"{measure.words}, {measure.unit}"


def _slot_axis(axes: Axes, curves: Sequence[TableSizeCurve]) -> tuple[float, float]:
    """Slots on a logarithmic axis to base 2; returns its limits."""
    sizes = sorted({point.num_slots for curve in curves for point in curve.points})
    limits = style.padded(sizes[0], sizes[-1], 0.06)
    axes.set_xscale("log", base=2)
    axes.set_xlim(*limits)
    style.set_ticks(axes, "x", sizes[:: -(-len(sizes) // 7)], formatting.slots)
    axes.set_xlabel("slots of the table")
    return limits


def _slot_runs(axes: Axes, runs: Runs, curve: TableSizeCurve, measure: Measure, mark: SeriesStyle) -> list[SlotRun]:
    """A point a seed."""
    rows: list[SlotRun] = []
    for point in curve.points:
        mask = runs.of(point.series, curve.budget)
        seeds = runs.number(measure.column)[mask] * measure.factor
        axes.plot([point.num_slots] * len(seeds), seeds, mark.marker, color=mark.colour, ms=4.2, mec="white",
                  mew=0.5, zorder=3, clip_on=False)  # fmt: skip
        rows += [
            ("run", point.series, point.num_slots, float(value), "", "", int(runs.seed[run]), runs.name[run])
            for run, value in zip(np.flatnonzero(mask), seeds, strict=True)
        ]
    return rows


def _levels(curves: Sequence[TableSizeCurve]) -> list[DenseLevel]:
    """The dense models to draw: every multiple beside one curve, the same budget's beside several."""
    if len({curve.budget for curve in curves}) == 1:
        return list(curves[0].levels)
    return [curve.levels[0] for curve in curves if curve.levels]


def _level_words(level: DenseLevel, count: int) -> str:
    """'Dense', or 'Dense 2x' where there are several."""
    if count == 1 or round(level.multiple, 1) == 1.0:
        return "Dense"
    return f"Dense {round(level.multiple, 1):g}{formatting.TIMES}"


def _slot_formula(study: Study) -> str:
    assert study.table_sizes is not None
    assert study.table_sizes.laws is not None
    return f"{study.table_sizes.laws.law.formula}, x = slots"


def _slot_styles(curves: Sequence[TableSizeCurve]) -> dict[str, SeriesStyle]:
    """One style a curve: the family's colour, and shades of it where there are several bases."""
    styles = {}
    for family in dict.fromkeys(curve.family for curve in curves):
        own = [curve for curve in curves if curve.family == family]
        mark = family_style(family)
        colours = (mark.colour,) if len(own) == 1 else shades(mark.colour, len(own))
        styles.update(
            {
                curve.key: SeriesStyle(colour=colour, marker=mark.marker)
                for curve, colour in zip(own, colours, strict=True)
            }
        )
    return styles


def _slot_names(curves: Sequence[TableSizeCurve]) -> dict[str, str]:
    """What tells the curves apart: the family, the base, or both."""
    stems, budgets = {curve.stem for curve in curves}, {curve.budget for curve in curves}
    names = {}
    for curve in curves:
        base = _budget_words(curve)
        name = formatting.series(curve.stem)
        names[curve.key] = name if len(budgets) == 1 else base if len(stems) == 1 else f"{name}, {base}"
    return names


def _budget_words(curve: TableSizeCurve) -> str:
    return formatting.power(curve.budget.flops, 2)


def _slot_means(axes: Axes, curve: TableSizeCurve, measure: Measure, mark: SeriesStyle, *, law: bool) -> list[DataRow]:
    """Whiskers at every size, joined by a thin line where no law is drawn."""
    rows: list[DataRow] = []
    for point in curve.points:
        mean = point.means[measure.column]
        low, high = (np.nan, np.nan) if mean.interval is None else (mean.interval.lower, mean.interval.upper)
        if measure.factor == 100.0:
            low, high = max(low, 0.0), min(high, 100.0)
        axes.plot([point.num_slots] * 2, [low, high], color=mark.colour, lw=1.1, zorder=2)
        rows.append(("mean", point.series, point.num_slots, mean.value, low, high, "", ""))
    if not law:
        at = [point.num_slots for point in curve.points]
        axes.plot(
            at, [point.means[measure.column].value for point in curve.points], color=mark.colour, lw=1.2, zorder=2
        )
    return rows


def _slot_law(axes: Axes, study: Study, curve: TableSizeCurve, mark: SeriesStyle) -> list[DataRow]:
    assert study.table_sizes is not None
    law = study.table_sizes.law(curve)
    if law is None:
        return []
    at_X = np.geomspace(law.lower_x, law.upper_x, NUM_CURVE_POINTS)
    loss_X, band = law.loss(at_X), law.band(at_X)
    axes.plot(at_X, loss_X, color=mark.colour, lw=1.3, zorder=2)
    if band is not None:
        axes.fill_between(at_X, *band, color=mark.colour, alpha=0.16, lw=0, zorder=1)
    lower, upper = band if band is not None else (np.full(len(at_X), np.nan),) * 2
    return [
        ("law", curve.key, x, y, low, high, "", "") for x, y, low, high in zip(at_X, loss_X, lower, upper, strict=True)
    ]


def _dense_line(axes: Axes, level: DenseLevel, measure: Measure, rows: list[DataRow]) -> list[float]:
    """A dense model as a level with its interval; returns what it needs of the y axis."""
    value, interval, colour = level.means[measure.column], level.intervals[measure.column], family_style("dense").colour
    axes.axhline(value, color=colour, lw=0.9, ls=(0, (5, 2)), zorder=1)
    low, high = (value, value) if interval is None else interval
    if interval is not None:
        axes.axhspan(low, high, color=colour, alpha=0.08, lw=0, zorder=0)
    rows.append(("dense", f"dense {level.multiple:.3g}x", "", value, low, high, "", ""))
    return [low, high]


def _even(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a plain axis around values."""
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.02 * abs(high) or 1.0
    return low - pad, high + pad
