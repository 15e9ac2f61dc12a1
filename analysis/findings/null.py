"""Sweeps of dense against dense under two names, and resampled seeds: how often a difference is called without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis import formatting
from analysis.errors import FitError
from analysis.findings.finding import Answer, Finding, PageTable
from analysis.findings.words import amount, share, share_interval
from analysis.gains.differences import compare
from analysis.gains.measures import LOSS, Measure, measures, named_pairs
from analysis.gains.null_test import EXPECTED, NullTest, calls_of, resampled_pairs
from analysis.tables.results import read_results
from analysis.tables.runs import Runs

NOMINAL = 0.05
NUM_SEEDS = 3
"""Of each of two families in a resampled pair."""
PLACES = {"largest": "largest budget", "mean": "mean over budgets", "verdict": "by the verdict rule"}


def answer(tables: Sequence[Path]) -> Answer:
    """How often each measure's intervals exclude zero: of the sweeps' own pairs, and of resampled ones."""
    runs = [read_results(table).compare for table in tables]
    asked = _measures(runs)
    real = calls_of(_pairs(runs), asked)
    if not real.calls:
        raise FitError("no table has two names of one family with two seeds or more")
    total = [one for one in real.calls if one.at == "mean"]
    number, of = sum(one.called for one in total), sum(one.pairs for one in total)
    found, failed = [("pairs of the sweeps", real)], []
    try:
        most = max(runs, key=lambda one: len(set(one.seed.tolist())))
        found.append(("resampled seeds", resampled_pairs(most, asked, num_seeds=NUM_SEEDS)))
    except FitError as error:
        failed.append(f"No pairs are resampled: {error}")
    failed += [said for name, one in found for said in _outside(name, one, asked)]
    return Answer(
        sentences=(
            f"A difference is called in {share(number, of)} of all comparisons of a model with itself, averaged over"
            " the budgets (all measures together; they are not independent). 5 % are expected.",
        ),
        tables=(
            PageTable(
                head=("pairs", "measure", "place", "called different"),
                rows=tuple(row for name, one in found for row in _rows(name, one, asked)),
            ),
            PageTable(head=("table", "pair", "difference in loss, mean over budgets"), rows=_each(tables, runs)),
        ),
        failed=tuple(failed),
    )


def _measures(runs: Sequence[Runs]) -> tuple[Measure, ...]:
    return tuple({one.column: one for table in runs for one in measures(table)}.values())


def _pairs(runs: Sequence[Runs]) -> Iterator[tuple[Runs, str, str]]:
    for table in runs:
        for subject, baseline in named_pairs(table):
            yield table, subject, baseline


def _rows(name: str, found: NullTest, asked: Sequence[Measure]) -> list[tuple[str, ...]]:
    words = {one.column: one.words for one in asked}
    return [(name, words[one.measure], PLACES[one.at], share(one.called, one.pairs)) for one in found.calls]


def _outside(name: str, found: NullTest, asked: Sequence[Measure]) -> list[str]:
    """Measures whose share at 95 % is not what it should be: an exact interval without 5 %, and outside 3 to 7 %."""
    words = {one.column: one.words for one in asked}
    low, high = EXPECTED
    return [
        f"{words[one.measure]}, {PLACES[one.at]}, {name}: {share(one.called, one.pairs)} called, where 5 % are"
        f" expected."
        for one in found.calls
        if one.at != "verdict"
        and not share_interval(one.called, one.pairs).holds(NOMINAL)
        and not low <= one.share <= high
    ]


def _each(tables: Sequence[Path], runs: Sequence[Runs]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for path, table in zip(tables, runs, strict=True):
        for subject, baseline in named_pairs(table):
            found = compare(table, subject, baseline, LOSS)
            pair = f"{formatting.series(subject)} against {formatting.series(baseline)}"
            rows.append((path.stem, pair, amount(found.overall, found)))
    return tuple(rows)


FINDING = Finding(
    key="null",
    title="A model against itself",
    question="How often does the report call a difference where there is none?",
    rule="The sweep `null` trains one dense model under two names, with other seeds for each, and is compared as any"
    " two families are. For each measure the share of comparisons whose 95 % interval excludes zero is counted, with"
    " its exact interval, at the largest budget and averaged over the budgets; it should be 5 %, and between 3 and 7"
    " % where 400 pairs are compared. Where a table has seeds enough, 400 pairs are drawn from the seeds of one"
    " series too.",
    sweep="null",
    answer=answer,
)
