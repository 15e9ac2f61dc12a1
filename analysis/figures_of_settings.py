"""The figures of what a sweep varies inside a family: table sizes, variants, and model sizes at equal FLOPs.

Points are seeds, lines and whiskers are means with their 95 % intervals, shaded bands are laws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis import numbers, style
from analysis.by_slots import SlotCurve
from analysis.drawn import DataRow, Drawn
from analysis.gain import Comparison, Difference, Measure
from analysis.isoflop import IsoFlop
from analysis.looks import Look, family_look, shades
from analysis.runs import family_name
from analysis.study import Study
from analysis.variants import Variant, Variants

NUM_CURVE_POINTS = 60


def loss_by_slots(study: Study) -> Drawn | None:
    """Loss against the number of slots, with its law."""
    if study.slots is None:
        return None
    return _by_slots(study, study.slots.measures[0], "loss_vs_slots")


def recall_by_slots(study: Study) -> Drawn | None:
    """Recall against the number of slots, with the chance level."""
    if study.slots is None or study.recall not in study.slots.measures:
        return None
    assert study.recall is not None
    return _by_slots(study, study.recall, "recall_vs_slots")


def _by_slots(study: Study, measure: Measure, stem: str) -> Drawn:
    by_slots, runs = study.slots, study.results.compare
    assert by_slots is not None
    looks, names = _slot_looks(by_slots.curves), _slot_names(by_slots.curves)
    naming = style.Naming(names=names, looks=looks)
    figure, axes = style.panel(**naming.margins(0.75))
    sizes = sorted({point.num_slots for curve in by_slots.curves for point in curve.points})
    limits = style.padded(sizes[0], sizes[-1], 0.06)
    axes.set_xscale("log", base=2)
    axes.set_xlim(*limits)
    step = -(-len(sizes) // 7)
    style.set_ticks(axes, "x", sizes[::step], numbers.slots)
    axes.set_xlabel("slots of the table")
    recall = measure is study.recall
    if recall:
        axes.set_ylim(-2, 102)
        style.set_ticks(axes, "y", (0, 25, 50, 75, 100), lambda tick: f"{tick:g}")
    axes.set_ylabel("facts recalled, %" if recall else "validation loss, nats per token")
    rows: list[DataRow] = []
    ends, every = [], []
    for curve in by_slots.curves:
        look = looks[curve.key]
        for point in curve.points:
            mask = runs.of(point.series, curve.budget)
            seeds = runs.number(measure.column)[mask] * measure.factor
            every += seeds.tolist()
            axes.plot([point.num_slots] * len(seeds), seeds, look.marker, color=look.colour, ms=4.2, mec="white",
                      mew=0.5, zorder=3, clip_on=False)  # fmt: skip
            rows += [
                ("run", point.series, point.num_slots, value, "", "", int(runs.seed[run]), runs.name[run])
                for run, value in zip(np.flatnonzero(mask), seeds, strict=True)
            ]
        rows += _slot_means(axes, curve, measure, look, law=by_slots.law(curve) is not None and not recall)
        ends.append((curve.key, curve.points[-1].num_slots, curve.points[-1].means[measure.column].value))
        if not recall:
            rows += _slot_law(axes, study, curve, look)
        every += _dense_line(axes, curve, measure, rows)
    if not recall:
        axes.set_ylim(*_even(every))
    note = None
    if recall and runs.has("recall_chance"):
        chance = 100 * float(runs.number("recall_chance").mean())
        axes.axhline(chance, color=style.QUIET, lw=0.8, ls=(0, (1, 2)), zorder=0)
        note = style.Label(text="chance", colour=style.QUIET, x=limits[1], y=chance, quiet=True)
        rows.append(("chance", "", "", chance, "", "", "", ""))
    naming.put(axes, ends, note=note)
    law = "" if recall or by_slots.laws is None else f" Lines: {_slot_formula(study)}; bands: 95 %."
    dense = " Grey: the dense model of the same budget." if any(curve.dense for curve in by_slots.curves) else ""
    dotted = " Dotted: chance." if note is not None else ""
    return Drawn(
        stem=stem,
        title="Recall of facts against table size" if recall else "Loss against table size",
        caption=f"One point a seed; whiskers: 95 % interval of the mean.{law}{dense}{dotted}",
        figure=figure,
        rows=rows,
    )


def _slot_formula(study: Study) -> str:
    assert study.slots is not None
    assert study.slots.laws is not None
    return f"{study.slots.laws.law.formula}, x = slots"


def _slot_looks(curves: Sequence[SlotCurve]) -> dict[str, Look]:
    """One look a curve: the family's colour, and shades of it where there are several bases."""
    looks = {}
    for family in dict.fromkeys(curve.family for curve in curves):
        own = [curve for curve in curves if curve.family == family]
        look = family_look(family)
        colours = (look.colour,) if len(own) == 1 else shades(look.colour, len(own))
        looks.update(
            {curve.key: Look(colour=colour, marker=look.marker) for curve, colour in zip(own, colours, strict=True)}
        )
    return looks


def _slot_names(curves: Sequence[SlotCurve]) -> dict[str, str]:
    """What tells the curves apart: the family, the base, or both."""
    stems, budgets = {curve.stem for curve in curves}, {curve.budget for curve in curves}
    names = {}
    for curve in curves:
        base = _budget_words(curve)
        name = numbers.series(curve.stem)
        names[curve.key] = name if len(budgets) == 1 else base if len(stems) == 1 else f"{name}, {base}"
    return names


def _budget_words(curve: SlotCurve) -> str:
    return numbers.power(curve.budget.flops, 2)


def _slot_means(axes: Axes, curve: SlotCurve, measure: Measure, look: Look, *, law: bool) -> list[DataRow]:
    """Whiskers at every size, joined by a thin line where no law is drawn."""
    rows: list[DataRow] = []
    for point in curve.points:
        mean = point.means[measure.column]
        low, high = (np.nan, np.nan) if mean.interval is None else (mean.interval.lower, mean.interval.upper)
        if measure.factor == 100.0:
            low, high = max(low, 0.0), min(high, 100.0)
        axes.plot([point.num_slots] * 2, [low, high], color=look.colour, lw=1.1, zorder=2)
        rows.append(("mean", point.series, point.num_slots, mean.value, low, high, "", ""))
    if not law:
        at = [point.num_slots for point in curve.points]
        axes.plot(
            at, [point.means[measure.column].value for point in curve.points], color=look.colour, lw=1.2, zorder=2
        )
    return rows


def _slot_law(axes: Axes, study: Study, curve: SlotCurve, look: Look) -> list[DataRow]:
    assert study.slots is not None
    law = study.slots.law(curve)
    if law is None:
        return []
    at_X = np.geomspace(law.lower_x, law.upper_x, NUM_CURVE_POINTS)
    loss_X, band = law.loss(at_X), law.band(at_X)
    axes.plot(at_X, loss_X, color=look.colour, lw=1.3, zorder=2)
    if band is not None:
        axes.fill_between(at_X, *band, color=look.colour, alpha=0.16, lw=0, zorder=1)
    lower, upper = band if band is not None else (np.full(len(at_X), np.nan),) * 2
    return [
        ("law", curve.key, x, y, low, high, "", "") for x, y, low, high in zip(at_X, loss_X, lower, upper, strict=True)
    ]


def _dense_line(axes: Axes, curve: SlotCurve, measure: Measure, rows: list[DataRow]) -> list[float]:
    """The dense model of the same budget, as a level; returns what it needs of the y axis."""
    if curve.dense is None:
        return []
    mean, colour = curve.dense[measure.column], family_look("dense").colour
    axes.axhline(mean.value, color=colour, lw=0.9, ls=(0, (5, 2)), zorder=1)
    low, high = (mean.value,) * 2
    if mean.interval is not None:
        low, high = mean.interval.lower, mean.interval.upper
        axes.axhspan(low, high, color=colour, alpha=0.08, lw=0, zorder=0)
    rows.append(("dense", "dense", "", mean.value, low, high, "", ""))
    return [low, high]


def _even(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a plain axis around values."""
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.02 * abs(high) or 1.0
    return low - pad, high + pad


def loss_of_variants(study: Study) -> Drawn | None:
    """Each variant's difference in loss from its family's reference."""
    return _variants(study, study.measures[0], "variants")


def recall_of_variants(study: Study) -> Drawn | None:
    """Each variant's difference in recall from its family's reference."""
    return None if study.recall is None else _variants(study, study.recall, "variants_recall")


def _variants(study: Study, measure: Measure, stem: str) -> Drawn | None:
    """Differences from the reference with their intervals, a row a variant, by increasing loss."""
    if not study.variants:
        return None
    found = [(group, one) for group in study.variants for one in group.variants]
    shown = {one.series: _of(one, measure).overall for _, one in found}
    values = {label: _difference(shown[label], measure) for label in shown}
    left = 0.12 + style.text_width((_variant_name(group, one) for group, one in found), 7)
    num_rows = len(found) + 2 * len(study.variants)
    figure, axes = style.panel(
        width=4.4, height=0.62 + 0.185 * num_rows, left=left, right=0.1 + style.text_width(values.values(), 6.5)
    )
    rows: list[DataRow] = []
    height = 0.0
    for group in study.variants:
        axes.annotate(
            f"against {numbers.series(group.reference)}", (0, height), xycoords=("axes fraction", "data"),
            xytext=(6 - 72 * left, 0), textcoords="offset points", va="center", fontweight="bold",
            color=study.looks[group.reference].colour, annotation_clip=False,
        )  # fmt: skip
        for one in group.variants:
            height -= 1
            difference, look = shown[one.series], study.looks[one.series]
            interval = difference.interval
            if interval is not None:
                axes.plot([interval.lower, interval.upper], [height] * 2, color=look.colour, lw=1.4)
            axes.plot(difference.value, height, look.marker, color=look.colour, ms=4.5)
            axes.annotate(
                _variant_name(group, one), (0, height), xycoords=("axes fraction", "data"), xytext=(-6, 0),
                textcoords="offset points", ha="right", va="center", fontsize=7, annotation_clip=False,
            )  # fmt: skip
            axes.annotate(
                values[one.series], (1, height), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=6.5, color=style.QUIET, annotation_clip=False,
            )  # fmt: skip
            low, high = ("", "") if interval is None else (interval.lower, interval.upper)
            rows.append(("difference", one.series, difference.value, "", low, high, "", ""))
        height -= 1.3
    axes.axvline(0, color=style.QUIET, lw=0.8)
    axes.set_ylim(height + 0.7, 0.7)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"difference in {measure.words}, {measure.unit}")
    axes.locator_params(axis="x", nbins=4)
    several = any(len(one.loss.at_budgets) > 1 for _, one in found)
    lower = "a lower loss" if measure.lower_is_better else "less recall"
    return Drawn(
        stem=stem,
        title=f"What each variant changes in {measure.words}",
        caption="Differences of means over seeds" + (" and budgets" if several else "") + ", with 95 % intervals; left"
        f" of zero is {lower}. Not corrected for the number of variants.",
        figure=figure,
        rows=rows,
    )


def _variant_name(group: Variants, one: Variant) -> str:
    """Its settings, where the family is that of the reference above it; else its whole name."""
    same = family_name(one.series) == family_name(group.reference)
    return (numbers.setting(one.series) if same else "") or numbers.series(one.series)


def _of(one: Variant, measure: Measure) -> Comparison:
    return next(comparison for comparison in one.comparisons if comparison.measure.column == measure.column)


def _difference(difference: Difference, measure: Measure) -> str:
    return numbers.with_interval(difference.value, difference.interval, sign=True, most=measure.decimals)


def isoflop(study: Study) -> Drawn | None:
    """Loss against model size, a line a number of FLOPs, a panel a series."""
    found = study.isoflops
    if found is None:
        return None
    series = found.series
    single = len(series) == 1
    figure, panels = style.panels(len(series), height=2.9 if single else 2.5, top=0.12 if single else 0.24)
    params = [size.params for curve in found.curves for size in curve.sizes]
    runs = study.results.compare
    losses = [float(value) for label in series for value in runs.number("loss_nats")[runs.of(label)]]
    rows: list[DataRow] = []
    for axes, label in zip(panels, series, strict=True):
        style.log_axis(axes, "x", *style.padded(min(params), max(params), 0.06), numbers.short_count)
        style.log_axis(axes, "y", *style.padded(min(losses), max(losses), 0.08), most=7)
        axes.set_ylabel("validation loss, nats per token")
        axes.set_xlabel(found.words)
        if len(series) > 1:
            axes.set_title(numbers.series(label), fontsize=8, fontweight="bold", loc="left", pad=2,
                           color=study.looks[label].colour)  # fmt: skip
        curves = found.of(label)
        colours = shades(study.looks[label].colour, len(curves))
        ends = []
        for curve, colour in zip(curves, colours, strict=True):
            rows += _isoflop_curve(axes, study, curve, Look(colour=colour, marker=study.looks[label].marker))
            last = curve.sizes[-1]
            ends.append(
                style.Label(text=numbers.power(curve.flops, 2), colour=colour, x=last.params, y=last.loss, quiet=True)
            )
        style.put_labels(axes, ends)
    edges = " Crossed: it is the smallest or largest size tried." if any(one.edge for one in found.curves) else ""
    return Drawn(
        stem="isoflop",
        title="Loss against model size at equal training FLOPs",
        caption="One point a seed; lines: means, a line a number of FLOPs. Circles: the lowest mean of each."
        f"{edges} Both axes are logarithmic.",
        figure=figure,
        rows=rows,
    )


def _isoflop_curve(axes: Axes, study: Study, curve: IsoFlop, look: Look) -> list[DataRow]:
    runs = study.results.compare
    rows: list[DataRow] = []
    for size in curve.sizes:
        mask = runs.of(curve.series, size.budget)
        losses = runs.number("loss_nats")[mask]
        axes.plot([size.params] * len(losses), losses, look.marker, color=look.colour, ms=3.6, mec="white", mew=0.4,
                  zorder=3, clip_on=False)  # fmt: skip
        low, high = ("", "") if size.interval is None else (size.interval.lower, size.interval.upper)
        rows += [
            ("run", curve.series, size.params, loss, "", "", int(runs.seed[run]), runs.name[run])
            for run, loss in zip(np.flatnonzero(mask), losses, strict=True)
        ]
        rows.append(("mean", curve.series, size.params, size.loss, low, high, "", ""))
    axes.plot([size.params for size in curve.sizes], [size.loss for size in curve.sizes], color=look.colour, lw=1.2,
              zorder=2)  # fmt: skip
    best = curve.best
    axes.plot(best.params, best.loss, "o", ms=9, mfc="none", mec=look.colour, mew=1.0, zorder=4)
    if curve.edge:
        axes.plot(best.params, best.loss, "x", ms=9, color=look.colour, mew=1.0, zorder=4)
    return rows
