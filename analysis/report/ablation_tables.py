"""The page's tables for settings varied inside a family: table sizes, ablations, model sizes at equal FLOPs."""

from __future__ import annotations

import numpy as np

from analysis import formatting
from analysis.gains.measures import Measure
from analysis.inference.replicate_noise import percentile_interval
from analysis.report.ablation_headline import optimum_words
from analysis.report.html import Cell, table, words
from analysis.report.html_tables import budget_words, series
from analysis.sweep.ablations import Ablation, Ablations
from analysis.sweep.dense_levels import DenseLevel
from analysis.sweep.model_size import IsoFlop
from analysis.sweep.study import Study
from analysis.sweep.table_size import TableSizeCurve, TableSizeMean
from analysis.tables.runs import BoolArray


def table_sizes(study: Study) -> str:
    """Loss and recall of every table size, a block of rows for each curve; in bold the change over its range."""
    found = study.table_sizes
    if found is None:
        return ""
    rows: list[list[str | Cell]] = []
    strong, ruled = set(), set()
    for curve in found.curves:
        ruled.add(len(rows))
        for point in curve.points:
            mask = study.results.compare.of(point.series, curve.budget)
            rows.append(
                [
                    series(study, point.series),
                    budget_words(study, curve.budget),
                    str(point.num_seeds),
                    _mean(study, "params_total", mask),
                    _mean(study, "flops_per_token_forward", mask),
                    *(_value(point.means[measure.column], measure) for measure in found.measures),
                ]
            )
        rows += [_dense(study, level, found.measures) for level in curve.levels]
        strong.add(len(rows))
        changes = [_value(curve.change[measure.column], measure, sign=True) for measure in found.measures]
        rows.append([words(_span(curve)), budget_words(study, curve.budget), "", "", "", *changes])
    head = ("series", "budget, FLOPs", "seeds", "parameters", "FLOPs a token", *_measure_titles(found.measures))
    return table(head, rows, strong=frozenset(strong), ruled=frozenset(ruled - {0}))


def _dense(study: Study, level: DenseLevel, measures: tuple[Measure, ...]) -> list[str | Cell]:
    """A dense model beside the curve."""
    runs = study.results.compare
    mask = runs.of(runs.reference("dense"), level.budget)
    sizes = [_mean(study, column, mask) for column in ("params_total", "flops_per_token_forward")]
    values = [
        formatting.with_interval(level.means[one.column], level.intervals[one.column], most=one.decimals)
        for one in measures
    ]
    return [words(level.words), budget_words(study, level.budget), str(level.num_seeds), *sizes, *values]


def crossings(study: Study) -> str:
    """Where each curve reaches each dense model, a row a curve and level, a column a measure."""
    found = study.table_sizes
    if found is None or not any(curve.levels for curve in found.curves):
        return ""
    rows: list[list[str | Cell]] = [
        [
            words(formatting.series(curve.stem)),
            budget_words(study, curve.budget),
            words(level.words),
            *(words(level.crossings[measure.column].words, wrap=True) for measure in found.measures),
        ]
        for curve in found.curves
        for level in curve.levels
    ]
    return table(("series", "budget, FLOPs", "reaches", *(one.words for one in found.measures)), rows)


def _span(curve: TableSizeCurve) -> str:
    first, last = curve.points[0], curve.points[-1]
    return f"{formatting.slots(first.num_slots)} to {formatting.slots(last.num_slots)} slots"


def _measure_titles(measures: tuple[Measure, ...]) -> list[str]:
    return [f"{measure.words}, {'%' if measure.factor == 100.0 else _unit(measure)}" for measure in measures]


def _unit(measure: Measure) -> str:
    return measure.unit.removesuffix(" per token")


def _value(mean: TableSizeMean, measure: Measure, *, sign: bool = False) -> str:
    return formatting.with_interval(mean.value, mean.interval, sign=sign, most=measure.decimals)


def _mean(study: Study, column: str, mask: BoolArray) -> str:
    runs = study.results.compare
    return formatting.count(float(runs.number(column)[mask].mean())) if runs.has(column) else ""


def slot_laws(study: Study) -> str:
    """The law of the loss against slots, a row for each curve."""
    found = study.table_sizes
    if found is None or found.laws is None:
        return ""
    rows: list[list[str | Cell]] = []
    offset = "E" in found.laws.law.formula
    for curve in found.curves:
        law = found.law(curve)
        if law is None:
            continue
        coefficients = law.fit.law.values(law.fit.best)
        draws = None if law.replicates is None else law.fit.law.values(law.replicates)
        shown = []
        for name in ("alpha", "E") if offset else ("alpha",):
            interval = None if draws is None else percentile_interval(draws[name])
            shown.append(formatting.with_interval(float(coefficients[name][0]), interval, most=4))
        rows.append(
            [
                words(formatting.series(curve.stem)),
                budget_words(study, curve.budget),
                shown[0],
                *shown[1:],
                f"{law.num_budgets} / {law.fit.num_runs}",
            ]
        )
    exponent = "exponent \N{GREEK SMALL LETTER ALPHA}"
    head = ("series", "budget, FLOPs", exponent, *(["offset E"] if offset else []), "sizes / runs")
    return table(head, rows)


def ablations(study: Study, group: Ablations) -> str:
    """A family's ablations against its reference, by increasing loss."""
    measures = [comparison.measure for comparison in group.ablations[0].comparisons]
    several = any(len(one.loss.at_budgets) > 1 for one in group.ablations)
    rows: list[list[str | Cell]] = [_reference(study, group, len(measures), several)]
    rows += [_ablation(study, one, several) for one in group.ablations]
    head = ["series", "parameters", "FLOPs a token"]
    for measure in measures:
        head += [f"{measure.words}, {_unit(measure)}" + (", mean over budgets" if several else "")]
        head += [f"{measure.words} at the largest budget"] if several else []
    head += ["verdict on the loss"]
    return table(head, rows, caption=f"Minus {formatting.series(group.reference)}", strong=frozenset({0}))


def _reference(study: Study, group: Ablations, num_measures: int, several: bool) -> list[str | Cell]:
    mask = study.results.compare.of(group.reference)
    sizes = [_sizes(study, column, mask) for column in ("params_total", "flops_per_token_forward")]
    return [series(study, group.reference), *sizes, *[""] * (num_measures * (1 + several)), words("reference")]


def _ablation(study: Study, one: Ablation, several: bool) -> list[str | Cell]:
    mask = study.results.compare.of(one.series)
    cells: list[str | Cell] = [series(study, one.series)]
    cells += [_sizes(study, column, mask) for column in ("params_total", "flops_per_token_forward")]
    for comparison in one.comparisons:
        most = comparison.measure.decimals
        shown = [comparison.overall, comparison.largest] if several else [comparison.overall]
        cells += [
            formatting.with_interval(difference.value, difference.interval, sign=True, most=most)
            for difference in shown
        ]
    return [*cells, words(one.verdict)]


def _sizes(study: Study, column: str, mask: BoolArray) -> str:
    """A count, or its range over budgets."""
    runs = study.results.compare
    if not runs.has(column):
        return ""
    low, high = (float(edge(runs.number(column)[mask])) for edge in (np.min, np.max))
    ends = list(dict.fromkeys((formatting.count(low), formatting.count(high))))
    return " to ".join(ends)


def isoflop(study: Study) -> str:
    """The lowest loss at each number of FLOPs, and whether it lies at the edge."""
    found = study.isoflops
    if found is None:
        return ""
    rows: list[list[str | Cell]] = []
    for curve in found.curves:
        best = curve.best
        smallest, largest = curve.sizes[0], curve.sizes[-1]
        rows.append(
            [
                series(study, curve.series),
                formatting.power(curve.flops),
                str(len(curve.sizes)),
                f"{formatting.count(smallest.params)} to {formatting.count(largest.params)}",
                formatting.count(best.params),
                formatting.with_interval(best.loss, best.interval),
                words(optimum_words(curve)),
                words(_near(curve)),
                words(f"at the {curve.edge} size tried" if curve.edge else "no"),
            ]
        )
    head = (
        "series", "FLOPs", "sizes", found.words, "lowest at", "its loss, nats", "optimum between sizes",
        "not told apart from the lowest", "at an edge?",
    )  # fmt: skip
    return table(head, rows)


def _near(curve: IsoFlop) -> str:
    if curve.best.interval is None:
        return "unknown: one seed"
    return ", ".join(formatting.count(curve.sizes[index].params) for index in curve.near) or "none"
