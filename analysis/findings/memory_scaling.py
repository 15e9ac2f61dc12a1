"""Knowledge against table size at a fixed base, beside dense models of more compute: the paper's Figure 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis import formatting
from analysis.errors import FitError
from analysis.figures import table_size as figures
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.sweep.study import study
from analysis.sweep.table_size import TableSizeCurve, TableSizes
from analysis.tables.results import read_results


def answer(tables: Sequence[Path]) -> Answer:
    """The means by size, the dense levels, and where each is reached, of the first table."""
    done = study(read_results(tables[0]))
    sizes = done.table_sizes
    if sizes is None:
        raise FitError(f"{tables[0]} has no family with two table sizes at one budget")
    sentences, rows, crossed, failed = [], [], [], []
    for curve in sizes.curves:
        sentences += [_change(sizes, curve, column) for column in curve.change]
        rows += _rows(sizes, curve)
        for level in curve.levels:
            name = formatting.series(curve.stem)
            crossed.append((name, level.words, *(level.crossings[one.column].words for one in sizes.measures)))
            failed += [
                f"{name} does not reach {level.words} in {one.words} within the sizes tried."
                for one in sizes.measures
                if level.crossings[one.column].verdict == "not crossed"
            ]
    titles = tuple(f"{one.words}, {one.unit}" for one in sizes.measures)
    drawn = [figures.loss_by_table_size(done), *figures.others_by_table_size(done)]
    return Answer(
        sentences=tuple(sentences),
        tables=(
            PageTable(head=("model", "slots", "seeds", *titles), rows=tuple(rows)),
            PageTable(
                head=("series", "dense model", *(one.words for one in sizes.measures)),
                rows=tuple(crossed),
                title="Where the table reaches a dense model, in slots",
            ),
        ),
        figures=tuple(one for one in drawn if one is not None),
        failed=tuple(failed),
    )


def _change(sizes: TableSizes, curve: TableSizeCurve, column: str) -> str:
    measure = next(one for one in sizes.measures if one.column == column)
    change = curve.change[column]
    shown = formatting.with_interval(change.value, change.interval, sign=True, most=measure.decimals + 1)
    ends = " to ".join(formatting.slots(curve.points[at].num_slots) for at in (0, -1))
    told = change.interval is not None and change.interval.excludes_zero
    return (
        f"From {ends} slots, {formatting.possessive(formatting.series(curve.stem))} {measure.words} changes by {shown}"
        f" {measure.unit}{'' if told else ', which cannot be told from noise'}."
    )


def _rows(sizes: TableSizes, curve: TableSizeCurve) -> list[tuple[str, ...]]:
    rows = []
    for point in curve.points:
        values = [point.means[one.column] for one in sizes.measures]
        cells = [
            formatting.with_interval(mean.value, mean.interval, most=one.decimals)
            for mean, one in zip(values, sizes.measures, strict=True)
        ]
        rows.append((formatting.series(curve.stem), formatting.slots(point.num_slots), str(point.num_seeds), *cells))
    for level in curve.levels:
        cells = [
            formatting.with_interval(level.means[one.column], level.intervals[one.column], most=one.decimals)
            for one in sizes.measures
        ]
        rows.append((level.words, "", str(level.num_seeds), *cells))
    return rows


FINDING = Finding(
    key="memory_scaling",
    title="Knowledge against table size",
    question="At a fixed base and fixed tokens, how do the NLL of the facts' values and the bits stored change with the"
    " slots of the table, and how large a table reaches a dense model of 1, 2 and 4 times the compute?",
    rule="A change from the smallest to the largest table is called where its 95 % interval excludes zero. A crossing"
    " is the smallest table from which the curve of the means, straight between sizes in the logarithm of slots, is"
    " better than the dense model; its interval runs from the first size at which the two cannot be told apart to the"
    " first at which the table is significantly better (t test of the difference, inverted). A level that no size"
    " tried reaches is reported as not crossed.",
    sweep="memory_scaling",
    answer=answer,
)
