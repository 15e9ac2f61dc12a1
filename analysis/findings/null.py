"""Sweeps of dense against dense under two names: how often a difference is called where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis import formatting
from analysis.errors import FitError
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.findings.words import amount, share, share_interval
from analysis.gains.differences import compare
from analysis.gains.measures import measures, named_pairs
from analysis.tables.results import read_results

NOMINAL = 0.05


def answer(tables: Sequence[Path]) -> Answer:
    """How often each measure's interval of the mean difference excludes zero."""
    called: dict[str, list[bool]] = {}
    rows: list[tuple[str, ...]] = []
    for table in tables:
        runs = read_results(table).compare
        for subject, baseline in named_pairs(runs):
            for measure in measures(runs):
                found = compare(runs, subject, baseline, measure)
                if found.overall.interval is None:
                    continue
                called.setdefault(measure.words, []).append(found.overall.interval.excludes_zero)
                if measure.column == "loss_nats":
                    rows.append((table.stem, formatting.series(subject), amount(found.overall, found)))
    if not called:
        raise FitError("no table has two names of one family with two seeds or more")
    counted = {words: (sum(found), len(found)) for words, found in called.items()}
    outside = [words for words, (number, of) in counted.items() if not share_interval(number, of).holds(NOMINAL)]
    total = sum(number for number, _ in counted.values()), sum(of for _, of in counted.values())
    return Answer(
        sentences=(
            f"A difference is called in {share(*total)} of all comparisons of a model with itself (all measures"
            " together; they are not independent). 5 % are expected.",
        ),
        tables=(
            PageTable(
                head=("measure", "called different"),
                rows=tuple((words, share(*numbers)) for words, numbers in counted.items()),
            ),
            PageTable(head=("table", "pair", "difference in loss, mean over budgets"), rows=tuple(rows)),
        ),
        failed=tuple(f"{words}: the exact interval of its share does not hold 5 %." for words in outside),
    )


FINDING = Finding(
    key="null",
    title="A model against itself",
    question="How often does the report call a difference where there is none?",
    rule="The sweep `null` trains one dense model under two names, with other seeds for each, and is compared as any"
    " two families are. For each measure the share of comparisons whose 95 % interval of the mean difference excludes"
    " zero is counted, with its exact interval; it should be 5 %, and between 3 and 7 % where 400 pairs or more are"
    " compared.",
    sweep="null",
    answer=answer,
)
