"""Which law of memory tables, and which of experts, predicts best; the published figure beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import formatting
from analysis.figures import memory_laws as figures
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.findings.words import number
from analysis.fitting.law_ranking import RankedLaw
from analysis.published import sources
from analysis.published.memory_forms import memory_forms
from analysis.sweep.memory_laws import LawTable, memory_laws
from analysis.tables.results import read_results


def answer(tables: Sequence[Path]) -> Answer:
    """The ranking and the coefficients for every family and target of the first table."""
    found = memory_laws(read_results(tables[0]))
    published, without = _published()
    made = [part for table in found.tables for part in (_ranking(table), _coefficients(table))]
    return Answer(
        sentences=tuple(sentence for table in found.tables for sentence in [_said(table)]),
        tables=(*made, *published),
        figures=figures.draw(found),
        failed=(*(said for table in found.tables for said in _failed(table)), *found.not_made, *without),
    )


def _said(table: LawTable) -> str:
    """Which law is first, which are not distinguished from it, and how its error compares with the noise of a run."""
    first, target = table.first, table.target
    family = formatting.family(table.runs.family)
    errors = " and ".join(
        f"{formatting.with_interval(first.errors[kind].rms, first.errors[kind].ci95, most=4)} ({kind})"
        for kind in list(first.errors)[:2]
    )
    noise = f"; the noise of a run is {number(table.noise)}" if np.isfinite(table.noise) else ""
    tied = [one.law.name for one in table.tied]
    rest = f" Not distinguished from it: {', '.join(tied)}." if tied else " Every other law is significantly worse."
    if not tied and any(one.over_first_ci95 is None for one in table.laws[1:]):
        rest = " Too few groups are held out to tell the others from it."
    return (
        f"{family}, {target.words}: {first.law.name} ({first.law.formula}) predicts best, with errors of {errors}"
        f" {target.unit}{noise}.{rest}{_in_nats(table)}"
    )


def _in_nats(table: LawTable) -> str:
    """The same law as one of the facts' nats, which are the entropy of a value times the share that is not stored."""
    entropy = table.target.entropy
    if not np.isfinite(entropy) or not np.isfinite(table.first.score):
        return ""
    return (
        f" Read as a law of the nats of a fact's value ({number(entropy)} times the share that is not stored), its"
        f" error is {number(entropy * table.first.score)} nats per fact."
    )


def _ranking(table: LawTable) -> PageTable:
    kinds = list(table.first.errors)
    rows = []
    for one in table.laws:
        cells = [formatting.with_interval(one.errors[kind].rms, one.errors[kind].ci95, most=4) if np.isfinite(
            one.errors[kind].rms) else "-" for kind in kinds]  # fmt: skip
        rows.append((one.law.name, *cells, _ratio(one, table), number(one.fit_rms)))
    what = f"{formatting.family(table.runs.family)}, {table.target.words}: held-out errors in {table.target.unit}"
    per_bit = ", N, D, T and K counted per bit offered" if table.per_bit else ""
    return PageTable(
        head=("law", *kinds, "over the first", "fitted runs"),
        rows=tuple(rows),
        title=f"{what}, {formatting.counted(len(table.target.value), 'run')}{per_bit}",
    )


def _ratio(one: RankedLaw, table: LawTable) -> str:
    if one is table.first or not np.isfinite(one.over_first):
        return ""
    return formatting.times(one.over_first, one.over_first_ci95)


def _coefficients(table: LawTable) -> PageTable:
    rows = [
        (one.law.name, each.name, number(each.value), _bracket(each.ci95), "yes" if each.identified else "no")
        for one in table.laws
        if one.fit is not None
        for each in one.fit.coefficients
        if each.name in one.law.names
    ]
    title = f"{formatting.family(table.runs.family)}, {table.target.words}: coefficients"
    return PageTable(head=("law", "coefficient", "value", "95 % interval", "determined"), rows=tuple(rows), title=title)


def _bracket(interval: tuple[float, float]) -> str:
    lower, upper = (formatting.significant(end) if np.isfinite(end) else "∞" for end in interval)
    return f"{formatting.MINUS if interval[0] == -np.inf else ''}{lower} to {upper}"


def _failed(table: LawTable) -> list[str]:
    """Laws without a place, and coefficients that the table does not determine."""
    head = f"{formatting.family(table.runs.family)}, {table.target.words}"
    said = [f"{head}: {one.law.name} has no place. {one.reason}" for one in table.laws if one.reason]
    weak = {one.law.name: one.weak for one in table.laws if one.weak}
    return said + [f"{head}: {name} leaves {', '.join(names)} undetermined." for name, names in weak.items()]


def _published() -> tuple[list[PageTable], list[str]]:
    """The same forms on the published Figure 1; a reason where it is not at hand."""
    try:
        forms = memory_forms(sources.find(sources.MEMORY_FIGURE, None, download=False))
    except sources.MissingError as error:
        return [], [f"The published figure is not beside these: {error}"]
    rows = [
        (
            one.task,
            one.law.name,
            ", ".join(f"{name} {number(value)}" for name, value in one.coefficients.items()),
            number(one.fit_rms),
            formatting.fixed(one.largest_error, 3, sign=True),
            number(one.left_out_rms),
        )
        for one in forms
    ]
    title = (
        "The same forms on Figure 1 of Berges et al. 2024 (digitised; one run a size, five sizes, three free"
        " coefficients each): NLL of the answers in nats"
    )
    head = ("task", "law", "coefficients", "fitted sizes", "largest table, predicted", "left-out sizes")
    return [PageTable(head=head, rows=tuple(rows), title=title)], []


FINDING = Finding(
    key="memory_law",
    title="The law of memory tables, and of experts",
    question="By which law do loss, the NLL of the facts' values and the bits stored change with the size of a memory"
    " table, and with the number of experts, on bases of several sizes and for several lengths of training?",
    rule="Three forms (more effective parameters, a term of its own, the logarithm of the size) are fitted to each"
    " family by least squares, beside a law that knows of neither; experts have the published joint law too. They are"
    " ranked by the root mean square error on held-out runs, over two kinds of extrapolation that count alike: the"
    " largest tables (or most experts) at up to three limits, and the largest base with its dense runs kept in the"
    " fit. Two laws are distinguished only where the 95 % interval of the ratio of their errors, over groups of one"
    " seed at one budget, excludes 1. Every law that was tried is in the table.",
    sweep="memory_law",
    answer=answer,
)
